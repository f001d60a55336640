"""HR-default, HR-drop-last, HR-drop-all, HR-hetero: size, what they see, and what a sample of them is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.nets import HighResNet
from torch.nn import functional as F

from rtuncertainty import networks
from rtuncertainty.core.events import Progress
from rtuncertainty.networks.dropout import dropped
from rtuncertainty.networks.eatonrosen2018 import INPUT_DROPOUT
from rtuncertainty.sampling import volumes

NAMES = ("hr_default", "hr_drop_last", "hr_drop_all", "hr_hetero")
SMALL = {"in_channels": 1, "classes": 3, "width": 2, "features": 4}


def small(name, **arguments):
    torch.manual_seed(3)
    own = {"branches": (5, 3)} if name == "hr_hetero" else {}
    net = networks.build(name, **{**SMALL, **own, **arguments})
    for module in net.modules():  # normalisations as a training leaves them
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
            if type(module) is torch.nn.BatchNorm3d:
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 1.5)
    return net.eval()


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_sizes_are_the_papers():
    assert [count(networks.build(n)) for n in NAMES[:3]] == [1_819_400] * 3
    hetero = networks.build("hr_hetero")
    # two branches in the place of the head, which has 96·4 weights and a normalisation
    branches = [27 * 96 * w + 3 * w + w * out + 2 * out for w, out in ((120, 4), (80, 1))]
    assert count(hetero) == 1_819_400 - (96 * 4 + 2 * 4) + sum(branches) == 2_338_578
    assert count(networks.build("hr_default", printed=True)) == 1_819_400
    widths = [m.out_channels for m in hetero.trunk.modules() if isinstance(m, torch.nn.Conv3d)]
    assert widths == [24] + [24] * 6 + [48] * 6 + [96] * 6 + [96]


def test_it_is_the_highres3dnet_of_monai():
    """The same numbers as another project's port of NiftyNet's network, with its weights (and no PReLU: it has
    ReLU).
    """
    blocks = [{"name": f"res_{k}", "n_features": 3 * 2**k, "kernels": (3, 3), "repeat": 3} for k in range(3)]
    layers = [
        {"name": "conv_0", "n_features": 3, "kernel_size": 3},
        *blocks,
        {"name": "conv_1", "n_features": 7, "kernel_size": 1},
        {"name": "conv_2", "kernel_size": 1},
    ]
    theirs = HighResNet(3, 2, 3, acti_type="relu", layer_params=layers).eval()
    ours = small("hr_default", in_channels=2, width=3, features=7, printed=True)
    for kind in (torch.nn.Conv3d, torch.nn.BatchNorm3d):
        pairs = list(zip(*[[m for m in net.modules() if isinstance(m, kind)] for net in (theirs, ours)], strict=True))
        for a, b in pairs:
            a.load_state_dict(b.state_dict())
    for module in ours.modules():
        if isinstance(module, torch.nn.PReLU):
            torch.nn.init.zeros_(module.weight)
    x = torch.randn(1, 2, 12, 11, 10)
    with torch.no_grad():
        assert torch.allclose(ours(x).logits.relu(), theirs(x), atol=1e-5) and theirs(x).any()


@pytest.mark.parametrize("name", NAMES)
def test_margin_is_what_an_output_sees(name):
    net = small(name).double()
    for parameter in net.parameters():  # nothing may cancel
        parameter.data.abs_()
    for axis in range(3):
        shape = [1, 1, 1]
        shape[axis] = 101
        x = torch.rand(1, 1, *shape, dtype=torch.float64, requires_grad=True)
        out = net(x)
        (out.logits.sum(1, keepdim=True) + (0 if out.sd is None else out.sd)).flatten()[50].backward()
        seen = x.grad.flatten().nonzero().ravel()
        assert (seen[0].item(), seen[-1].item()) == (50 - net.margin, 50 + net.margin)
    assert net.margin == 43 + (name == "hr_hetero") and net.dimensions == 3


@pytest.mark.parametrize("name", ["hr_default", "hr_hetero"])
def test_cubes_leave_no_seam(name):
    net = small(name, **({} if name == "hr_default" else {"dropout": 0.0}))
    net.noisy = False  # one sample, of the logits themselves
    if name == "hr_hetero":
        torch.nn.init.constant_(net.branches[1][-1].bias, -60.0)  # softplus: no noise
        torch.nn.init.zeros_(net.branches[1][-1].weight)
    volume = np.random.default_rng(0).normal(0, 1, (6, 5, 150)).astype(np.float32)
    whole, tiled = (
        volumes.statistics([net], volume, 2, 0, torch.device("cpu"), tile, Progress()).probability for tile in (200, 40)
    )
    assert whole.shape == (6, 3, 5, 150) and torch.allclose(whole, tiled, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([0.05, 0.3, 0.5, 0.8]), st.integers(0, 1000), st.tuples(*[st.integers(1, 9)] * 3))
def test_masks_belong_to_the_seed(p, seed, shape):
    x = torch.rand(shape) + 1
    state = torch.random.get_rng_state()
    first, again, other = (dropped(x, p, torch.Generator().manual_seed(s)) for s in (seed, seed, seed + 1))
    assert torch.equal(first, again) and torch.equal(torch.random.get_rng_state(), state)
    assert torch.allclose(first[first > 0], (x / (1 - p))[first > 0])
    assert x.numel() * min(p, 1 - p) < 12 or not torch.equal(first, other)
    assert dropped(x, 0, torch.Generator()) is x


@pytest.mark.parametrize("p", [INPUT_DROPOUT, 0.5, 0.7])
def test_masks_drop_what_they_promise(p):
    generator, x = torch.Generator().manual_seed(0), torch.ones(50, 20)
    drawn = torch.stack([dropped(x, p, generator) for _ in range(400)])
    share = (drawn == 0).float()
    assert share.mean().item() == pytest.approx(p, abs=4 * (p * (1 - p) / share.numel()) ** 0.5)
    # no element is favoured, and none goes with its neighbour or with itself in the next mask
    assert (share.mean(0) - p).abs().max() < 5 * (p * (1 - p) / 400) ** 0.5
    flat = share.flatten(1) - p
    for lag in (1, 7, 8, 64):
        assert abs((flat[:, lag:] * flat[:, :-lag]).mean().item()) < 5 * p * (1 - p) / flat.numel() ** 0.5
    assert abs((flat[1:] * flat[:-1]).mean().item()) < 5 * p * (1 - p) / flat.numel() ** 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_belongs_to_its_seed(name):
    net, x = small(name), torch.randn(1, 1, 9, 8, 7)
    with torch.inference_mode():
        features = net.features(x)
        assert torch.equal(features, net.features(x)) and (features is x) == (name == "hr_drop_all")
        state = torch.random.get_rng_state()
        one, again, other = (net.draw(features, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
        assert torch.equal(torch.random.get_rng_state(), state)
        assert one.shape == (1, 3, 9, 8, 7) and torch.allclose(one.sum(1), torch.ones(1, 9, 8, 7))
        assert torch.equal(one, again) and torch.equal(one, other) == (name == "hr_default")
        if name == "hr_default":
            assert torch.equal(one, net(x).logits.softmax(1)) and net.dropout == 0


def monte_carlo(net, x):
    """One sample by torch's own dropout and normal numbers."""

    def drop(t, p=0.5):
        return F.dropout(t, p, True)

    h = drop(x, INPUT_DROPOUT) if type(net).__name__ == "HRDropAll" else x
    h = net.trunk[0](h)
    for block in list(net.trunk)[1:10]:
        h = block(h)
        h = drop(h) if type(net).__name__ == "HRDropAll" else h
    h = drop(net.trunk[10](h))
    if hasattr(net, "head"):
        return net.head(h).softmax(1)
    logits = net.branches[0](h)
    return (logits + F.softplus(net.branches[1](h)) * torch.randn(logits.shape)).softmax(1)


@pytest.mark.parametrize("name", NAMES[1:])
def test_samples_have_the_moments_of_monte_carlo(name):
    times = 3000  # in one batch, of which each element has a mask of its own
    net, x = small(name), torch.randn(1, 1, 3, 4, 5).repeat(times, 1, 1, 1, 1)
    with torch.inference_mode():
        ours = net.draw(net.features(x), torch.Generator().manual_seed(0)).double()
        theirs = monte_carlo(net, x).double()
    se = (ours.var(0) / times + theirs.var(0) / times).sqrt()
    assert ((ours.mean(0) - theirs.mean(0)).abs() / se).max() < 4.5
    spread = [((s - s.mean(0)) ** 2) for s in (ours, theirs)]
    se = sum(s.var(0) / times for s in spread).sqrt()
    assert ((spread[0].mean(0) - spread[1].mean(0)).abs() / se).max() < 4.5 and ours.var(0).max() > 1e-4


def test_the_trunk_is_computed_once():
    calls = {}
    for name in NAMES[1:]:
        net = small(name)
        calls[name] = 0

        def counted(*_, name=name):
            calls[name] += 1

        net.trunk[0].register_forward_hook(counted)
        volumes.sample([net], torch.randn(1, 1, 4, 4, 4), 20, 0)
    assert calls == {"hr_drop_last": 1, "hr_hetero": 1, "hr_drop_all": 20}


def with_noise(sd):
    """A HR-hetero without dropout whose logits are 0, 0 and 1 and whose noise has this sd everywhere."""
    net = small("hr_hetero", dropout=0.0)
    for branch, bias in zip(
        net.branches, (torch.tensor([0.0, 0.0, 1.0]), torch.full((1,), float(np.log(np.expm1(sd)))))
    ):
        torch.nn.init.zeros_(branch[-1].weight)
        branch[-1].bias.data.copy_(bias)
    return net


@pytest.mark.parametrize("sd", [0.3, 2.0, 10.0])
def test_noise_of_logits_becomes_variance_of_probabilities(sd):
    """As numpy samples it; the variance of logits itself appears nowhere, and could not: no probability has more
    than ¼.
    """
    net, x = with_noise(sd), torch.zeros(1, 1, 16, 16, 16)
    found = volumes.sample([net], x, 40, 5)[0].double()  # expected entropy, mean and variance of 3 classes
    z = np.array([0.0, 0.0, 1.0]) + sd * np.random.default_rng(0).standard_normal((400_000, 3))
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    voxels = 16**3
    assert found[1:4].mean((1, 2, 3)).numpy() == pytest.approx(p.mean(0), abs=5 * p.std() / (40 * voxels) ** 0.5)
    assert found[4:].mean((1, 2, 3)).numpy() == pytest.approx(p.var(0), rel=0.02)
    assert found[4:].mean() < 0.25 and (sd < 1 or found[4:].mean() < sd**2 / 8)


def test_logits_of_a_patch_do_not_depend_on_its_batch():
    x = torch.randn(2, 1, 6, 6, 6)
    for printed in (False, True):
        head = networks.build("hr_default", **SMALL, printed=printed).train().head
        features = torch.randn(2, 4, 6, 6, 6)
        assert torch.allclose(head(features)[:1], head(features[:1]), atol=1e-6) != printed
    with pytest.raises(networks.InputError, match="hr_default"):
        networks.build("hr_default", dropout=0.5)
    assert networks.build("hr_drop_last", **SMALL).train()(x).logits.shape == (2, 3, 6, 6, 6)
