"""V-Net and MT-CTL: sizes, what they see, samples."""

import pytest
import torch

from rtuncertainty import networks
from rtuncertainty.core.errors import InputError
from rtuncertainty.networks.vnet import reach


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_vnet_has_the_published_size():
    assert count(networks.build("vnet")) == 9_448_866
    # a second head on the same features: one weight a channel and a bias
    assert count(networks.build("vnet", distance=True)) == 9_448_866 + 16 + 1


def test_mt_ctl_is_a_vnet_with_more_decoders():
    vnet, whole = networks.build("vnet", width=2), networks.build("mt_ctl", width=2)
    decoder = count(vnet.decoder)
    assert count(whole) == count(vnet) + 3 * decoder + count(vnet.head) * 2 + (2 + 1)
    assert count(networks.build("mt_ctl", width=2, decoders=())) == count(vnet)
    state = whole.state_dict()
    vnet.load_state_dict({k: state[k] for k in vnet.state_dict()})
    x = torch.randn(1, 1, 16, 16, 16)
    vnet.eval(), whole.eval()
    assert torch.equal(vnet(x).logits, whole(x).logits) and torch.equal(
        vnet.draw(vnet.features(x)), whole.draw(whole.features(x))
    )


def test_outputs_have_the_size_of_the_input_and_the_map_its_range():
    torch.manual_seed(0)
    out = networks.build("mt_ctl", in_channels=2, classes=3, width=2, levels=3).eval()(3 * torch.randn(2, 2, 8, 12, 4))
    assert out.logits.shape == out.auxiliary.shape == out.uncertainty.shape == (2, 3, 8, 12, 4)
    assert out.distance.shape == (2, 1, 8, 12, 4) and out.distance.abs().max() <= 1
    parts = networks.build("mt_ctl", width=2, levels=2, decoders=["uncertainty"]).eval()(torch.randn(1, 1, 4, 4, 4))
    assert parts.distance is None and parts.auxiliary is None and parts.uncertainty is not None


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_margin_is_what_an_output_voxel_sees(levels):
    """By the gradient, over all places within a cell of the deepest level: along one axis, of which the three do not
    differ.
    """
    torch.manual_seed(levels)
    net = networks.build("vnet", width=1, levels=levels).eval().double()
    for module in net.modules():  # every path open: nothing is hidden by a ReLU or a weight that happens to be 0
        if isinstance(module, torch.nn.ReLU):
            module.forward = lambda x: x
        if isinstance(module, (torch.nn.Conv3d, torch.nn.ConvTranspose3d)):
            torch.nn.init.uniform_(module.weight, 0.1, 1.0)
    cell = net.multiple
    length = 2 * -(-(net.margin + cell) // cell) * cell + cell
    x = torch.randn(1, 1, cell, cell, length, dtype=torch.float64, requires_grad=True)
    found = net(x).logits
    most = 0
    for place in range(length // 2 // cell * cell, length // 2 // cell * cell + cell):
        (gradient,) = torch.autograd.grad(found[0, 0, 0, 0, place], x, retain_graph=True)
        seen = gradient[0, 0].abs().sum((0, 1)).nonzero().ravel()
        most = max(most, place - int(seen[0]), int(seen[-1]) - place)
    assert most == net.margin == reach(levels)


def test_margin_of_the_full_network():
    assert networks.build("vnet").margin == 145 and networks.build("vnet").multiple == 16


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(1)
    return networks.build("vnet", classes=3, width=4, levels=3).eval()


def test_a_sample_is_one_function_of_the_volume(small):
    x = torch.randn(1, 1, 8, 8, 16)
    features = small.features(x)
    drawn = [small.draw(features, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert torch.allclose(drawn[0].sum(1), torch.ones(1, 8, 8, 16))
    # the same masks for another volume of another size: a batch of both halves is sampled as each of them alone
    both = torch.cat([x[..., :8], x[..., 8:]])
    for half in (0, 1):
        alone = small.draw(small.features(both[half : half + 1]), torch.Generator().manual_seed(1))
        assert torch.allclose(
            small.draw(small.features(both), torch.Generator().manual_seed(1))[half], alone[0], atol=1e-5
        )


def test_samples_are_around_the_network_without_dropout(small):
    """Masks are drawn with the right probability: each channel stays in half of the samples, and what stays is
    doubled.
    """
    from rtuncertainty.networks.vnet import drop_channels

    generator = torch.Generator().manual_seed(0)
    kept = torch.stack([drop_channels(torch.ones(2, 40, 1, 1, 1), 0.5, generator) for _ in range(400)])
    assert set(kept.unique().tolist()) == {0.0, 2.0} and torch.equal(kept[:, 0], kept[:, 1])
    assert kept.mean(0).sub(1).abs().max() < 0.25 and abs(kept.mean().item() - 1) < 0.02
    assert drop_channels(torch.ones(1, 40, 1, 1, 1), 0.2, generator).max().item() == pytest.approx(1.25)


def test_without_dropout_a_draw_is_the_softmax(small):
    x = torch.randn(1, 1, 8, 8, 8)
    plain = networks.build("vnet", classes=3, width=4, levels=3, dropout=0.0).eval()
    plain.load_state_dict(small.state_dict())
    wanted = small(x).logits.softmax(1)
    assert torch.equal(plain.draw(plain.features(x), torch.Generator().manual_seed(3)), wanted) and torch.equal(
        small.draw(small.features(x)), wanted
    )


def test_training_drops_and_judging_does_not(small):
    x = torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(small(x).logits, small(x).logits)
    small.train()
    try:
        a, b = (small(x).logits for _ in range(2))
        assert not torch.equal(a, b)
    finally:
        small.eval()


def test_what_does_not_fit_is_told(small):
    with pytest.raises(ValueError, match="multiple of 4"):
        small.features(torch.zeros(1, 1, 8, 8, 6))
    for wrong in ({"levels": 6}, {"dropout": 1.0}):
        with pytest.raises(ValueError, match="does not exist"):
            networks.build("vnet", **wrong)
    with pytest.raises(ValueError, match="loudness"):
        networks.build("mt_ctl", decoders=["loudness"])
    with pytest.raises(InputError, match="widht"):
        networks.build("vnet", widht=3)
