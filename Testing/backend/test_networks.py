"""Sizes of the networks against METHODS, and what they see."""

import pytest
import torch

from rtbackend import networks
from rtbackend.errors import InputError


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_m4_has_the_papers_size():
    m4 = networks.build("m4", classes=6)
    assert count(m4) == 29_230_802
    assert count(m4.trunk) == 7_458_240


def test_half_width_trunk():
    from rtbackend.networks.highresnet import Trunk
    assert count(Trunk(1, 32, 1024)) == 1_867_488


def test_unknown_names_and_arguments_are_told():
    with pytest.raises(InputError, match="'m5' is unknown"):
        networks.build("m5")
    with pytest.raises(InputError, match="widht"):
        networks.build("m4", widht=3)


def test_margin_is_what_an_output_voxel_sees():
    """A change further away than the margin changes nothing; one within it does."""
    torch.manual_seed(0)
    m4 = networks.build("m4", classes=3, width=4, features=8, branch_width=4).eval().double()
    x = torch.randn(1, 1, 81, 81, dtype=torch.float64)
    centre = m4(x).mean[0, 0, 40, 40]
    beyond, within = x.clone(), x.clone()
    beyond[..., 40 + m4.margin + 1:] += 5.0
    within[..., 40 + m4.margin:] += 5.0
    assert torch.equal(m4(beyond).mean[0, 0, 40, 40], centre)
    assert not torch.equal(m4(within).mean[0, 0, 40, 40], centre)


def test_zero_padded_skip_is_centred():
    from rtbackend.networks.highresnet import ResidualBlock
    block = ResidualBlock(2, 6, 1).eval()
    for p in block.body.parameters():
        torch.nn.init.zeros_(p)
    x = torch.randn(1, 2, 5, 5)
    out = block(x)
    assert torch.equal(out[:, 2:4], x) and not out[:, :2].any() and not out[:, 4:].any()
