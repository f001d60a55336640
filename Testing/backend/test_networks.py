"""Sizes of the networks against METHODS, and what they see."""

import pytest
import torch

from rtuncertainty import networks
from rtuncertainty.core.errors import InputError


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_m4_has_the_papers_size():
    m4 = networks.build("m4", classes=6)
    assert count(m4) == 29_230_802
    assert count(m4.trunk) == 7_458_240


def test_single_task_networks_have_the_trunk_at_half_width():
    for name in ("m1", "m2a", "m2b"):
        assert count(networks.build(name).trunk) == 1_867_488
    # a fully connected layer of 1024 weights and its normalisation for each output
    assert count(networks.build("m1")) == count(networks.build("m2a")) == 1_867_488 + 1024 + 2
    assert count(networks.build("m2b")) == 1_867_488 + 2 * (1024 + 2)


def test_m3_is_m4_without_the_variance_branches():
    m3, m4 = networks.build("m3", classes=6), networks.build("m4", classes=6)
    assert count(m4) - count(m3) == count(m4.branches[1]) + count(m4.branches[3])


@pytest.mark.parametrize("filters, parameters", [(16, 210_569), (32, 623_625), (64, 2_125_577)])
def test_3tn_has_the_papers_size(filters, parameters):
    assert count(networks.build("3tn", filters=filters)) == parameters


def test_tasks_of_the_roi_networks_differ_by_their_heads_only():
    sizes = [count(networks.build(name, filters=16)) for name in ("1tn-gl", "1tn-fl", "2tn", "3tn")]
    assert sizes[0] == sizes[1] and sizes[2] - sizes[1] == sizes[3] - sizes[2] == count(
        networks.build("3tn", filters=16).heads[2]
    )


def test_1tn_is_known_by_either_spelling():
    for name in ("1tn_gl", "1tn_fl"):
        assert count(networks.build(name, filters=4)) == count(networks.build(name.replace("_", "-"), filters=4))
    with pytest.raises(InputError, match="1tn_xl|1tn-xl"):
        networks.build("1tn_xl")


def test_the_receptive_field_of_3tn_is_181():
    net = networks.build("3tn", filters=2).eval().double()
    x = torch.randn(1, 1, 201, 201, dtype=torch.float64, requires_grad=True)
    net(x).body[0, 0, 100, 100].backward()
    seen = x.grad[0, 0].abs().sum(0).nonzero().ravel()
    assert (seen[0].item(), seen[-1].item()) == (100 - net.margin, 100 + net.margin) == (10, 190)


def test_the_rest_of_a_batch_does_not_change_the_scale_of_an_output():
    body, rest = torch.full((1, 1, 4, 4), 0.3), torch.full((1, 1, 4, 4), -1.0)
    ours, printed = (networks.build("1tn-gl", filters=1, printed=p).heads[0][-1].train() for p in (False, True))
    assert torch.equal(ours(body)[0], ours(torch.cat([body, rest]))[0]) and torch.allclose(ours(body), body, atol=1e-5)
    assert not torch.allclose(printed(body)[0], printed(torch.cat([body, rest]))[0], atol=0.1)
    # nor do batches that have been seen
    assert torch.equal(ours(body), ours.eval()(body)) and count(ours) == count(printed) == 2


def test_the_bone_map_replaces_the_body_map_where_bone_is_likelier():
    from rtuncertainty.networks.kaushik2022 import AtrousOutput

    body, bone = torch.tensor([0.1, 0.1, 0.4]).view(1, 1, 1, 3), torch.tensor([0.9, 0.8, 0.7]).view(1, 1, 1, 3)
    three = networks.build("3tn", filters=1).interpret(
        AtrousOutput(body, bone, torch.tensor([1.0, -1.0, 2.0]).view(1, 1, 1, 3))
    )
    assert torch.equal(three.mean.ravel(), torch.tensor([0.9, 0.1, 0.7]))
    assert torch.allclose(three.probabilities.sum(1), torch.ones(1, 1, 3))
    # without a class the body map says where bone is: above 250 HU
    assert torch.equal(
        networks.build("2tn", filters=1).interpret(AtrousOutput(body, bone)).mean.ravel(), torch.tensor([0.1, 0.1, 0.7])
    )
    assert networks.build("1tn-fl", filters=1).interpret(AtrousOutput(body)).mean is body


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
    beyond[..., 40 + m4.margin + 1 :] += 5.0
    within[..., 40 + m4.margin :] += 5.0
    assert torch.equal(m4(beyond).mean[0, 0, 40, 40], centre)
    assert not torch.equal(m4(within).mean[0, 0, 40, 40], centre)


def test_zero_padded_skip_is_centred():
    from rtuncertainty.networks.bragman2018 import ResidualBlock

    block = ResidualBlock(2, 6, 1).eval()
    for p in block.body.parameters():
        torch.nn.init.zeros_(p)
    x = torch.randn(1, 2, 5, 5)
    out = block(x)
    assert torch.equal(out[:, 2:4], x) and not out[:, :2].any() and not out[:, 4:].any()
