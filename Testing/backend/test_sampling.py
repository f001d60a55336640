"""Cached and antithetic sampling against full forward passes, and the estimators against known distributions."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rtuncertainty import networks
from rtuncertainty.networks.folded import folded_heads
from rtuncertainty.networks.uncertainty import REGRESSION_FLOOR, class_probabilities, entropy, variance
from rtuncertainty.sampling import slices
from rtuncertainty.sampling.moments import Moments


def used(name, seed=3, **arguments):
    """A network whose slopes, scales, shifts and statistics differ from channel to channel."""
    torch.manual_seed(seed)
    network = networks.build(name, **arguments)
    for p in network.parameters():
        p.data += 0.1 * torch.randn_like(p)
    for _ in range(3):
        network.train()(torch.randn(2, 1, 24, 24))
    return network.eval()


@pytest.fixture(scope="module")
def net():
    return used("m4", classes=3, width=4, features=8, branch_width=6)


def naive(net, x, mask):
    """The whole network once, with the features multiplied by 2 × mask."""
    features = net.trunk(x) * 2 * mask
    return [branch(features) for branch in net.branches]


@torch.inference_mode()
def test_cached_sampling_equals_full_passes_with_the_same_masks(net):
    x = torch.randn(2, 1, 20, 22)
    found = slices.sample([net], x, 6, seed=11)
    outs = []
    for mask in slices.masks(net.trunk(x).shape, 6, 11, "cpu"):
        outs += [naive(net, x, mask), naive(net, x, 1 - mask)]
    mean = torch.stack([o[0] for o in outs])
    intrinsic = torch.stack([variance(o[1], REGRESSION_FLOOR) for o in outs])
    p = torch.stack([class_probabilities(o[2], o[3]) for o in outs])
    assert torch.allclose(found.mean, mean.mean(0), atol=1e-5)
    assert torch.allclose(found.intrinsic, intrinsic.mean(0), atol=1e-5)
    assert torch.allclose(found.probability, p.mean(0), atol=1e-5)
    assert torch.allclose(found.expected_entropy, entropy(p.flatten(0, 1)).view(6, 2, 1, 20, 22).mean(0), atol=1e-5)
    pairs = mean.view(3, 2, *mean.shape[1:])
    expected = pairs.mean(1).var(0) + ((pairs[:, 0] - pairs[:, 1]) ** 2 / 4).mean(0)
    assert torch.allclose(found.parameter, expected, atol=1e-5)


@torch.inference_mode()
def test_a_mask_and_its_complement_share_one_convolution(net):
    features = net.trunk(torch.randn(1, 1, 16, 16))
    mask = (torch.rand_like(features) < 0.5).float()
    heads = folded_heads(net)
    other = heads.pair_sum(features) - heads.first(2 * mask * features)
    assert torch.allclose(other, heads.first(2 * (1 - mask) * features), atol=1e-5)


@torch.inference_mode()
def test_folded_heads_are_the_branches(net):
    features = net.trunk(torch.randn(2, 1, 18, 16))
    heads = folded_heads(net)
    for found, branch in zip(heads.finish(heads.first(features)), net.branches):
        assert torch.allclose(found, branch(features), atol=1e-5)


@torch.inference_mode()
def test_antithetic_estimates_agree_with_many_independent_samples(net):
    x = torch.randn(1, 1, 12, 12)
    torch.manual_seed(0)
    outs = torch.cat([net.branches[0](F.dropout(net.trunk(x), 0.5, True)) for _ in range(3000)])
    runs = [slices.sample([net], x, 20, seed=s) for s in range(150)]
    mean = torch.stack([r.mean for r in runs])
    error = mean.mean(0) - outs.mean(0)
    se = (outs.var(0) / 3000 + mean.var(0) / 150).sqrt()
    # 144 voxels, so a few beyond two standard errors are right
    assert (error / se).abs().max() < 4.5 and (error / se).std() < 1.5
    ratio = torch.stack([r.parameter for r in runs]).mean(0) / outs.var(0)
    assert abs(ratio.mean() - 1) < 0.04


@pytest.mark.parametrize("rho", [-0.95, -0.5, 0.0, 0.7])
def test_pair_variance_is_unbiased_for_every_correlation(rho):
    generator = torch.Generator().manual_seed(1)
    estimates = []
    for _ in range(400):
        moments = Moments()
        for _ in range(5):
            u, v = torch.randn(2, 64, generator=generator)
            moments.add(3 + 2 * u, 3 + 2 * (rho * u + (1 - rho**2) ** 0.5 * v))
        estimates.append(moments.variance())
    assert torch.stack(estimates).mean().item() == pytest.approx(4.0, rel=0.02)


def test_moments_equal_numpy_for_single_samples():
    data = torch.randn(9, 4, 5, dtype=torch.float64) * 3 + 1e4
    moments = Moments()
    for row in data:
        moments.add(row)
    assert np.allclose(moments.mean, data.numpy().mean(0)) and np.allclose(
        moments.variance(), data.numpy().var(0, ddof=1)
    )
    with pytest.raises(ValueError, match="mixed"):
        moments.add(data[0], data[1])


def test_masks_are_fair_independent_and_repeatable():
    first = slices.bernoulli_mask((2, 10, 101, 33), torch.Generator().manual_seed(5), "cpu")
    again = slices.bernoulli_mask((2, 10, 101, 33), torch.Generator().manual_seed(5), "cpu")
    assert torch.equal(first, again) and set(first.unique().tolist()) == {0.0, 1.0}
    assert first.mean().item() == pytest.approx(0.5, abs=0.01)
    flat = first.permute(0, 2, 3, 1).flatten()
    for lag in (1, 7, 8, 64):
        assert abs(np.corrcoef(flat[:-lag], flat[lag:])[0, 1]) < 0.02


def test_uncertainties_of_classes_are_consistent(net):
    found = slices.sample([net], torch.randn(1, 1, 16, 16), 8, seed=0)
    assert torch.allclose(found.probability.sum(1), torch.ones(1, 16, 16), atol=1e-5)
    total = entropy(found.probability)
    assert (total - found.expected_entropy).min() > -1e-5  # mutual information is not negative (Jensen)
    assert total.max() <= np.log(3) + 1e-5


@pytest.mark.parametrize("samples, pairs", [(40, (10, 10)), (6, (2, 1))])
def test_several_checkpoints_share_the_samples(net, samples, pairs):
    """Two networks of different weights: each draws its share, with masks of its own, and all samples count alike."""
    other, x = used("m4", seed=4, classes=3, width=4, features=8, branch_width=6), torch.randn(1, 1, 16, 16)
    both = slices.sample([net, other], x, samples, seed=5)
    alone = [slices.sample([n], x, 2 * p, seed=5 + 7919 * i) for i, (n, p) in enumerate(zip((net, other), pairs))]
    assert (alone[0].mean - alone[1].mean).abs().mean() > 0.1, "networks that agree would test nothing"
    for name in ("mean", "intrinsic", "probability", "expected_entropy"):
        first, second = (getattr(s, name) for s in alone)
        assert torch.allclose(getattr(both, name), (pairs[0] * first + pairs[1] * second) / sum(pairs), atol=1e-5)
    # the two disagree: that is a part of what is not known
    assert both.parameter.mean() > max(s.parameter.mean() for s in alone)


def test_one_sample_is_one_pass_without_dropout(net):
    x = torch.randn(1, 1, 16, 16)
    for network in (net, used("3tn", seed=2, filters=2)):
        found = slices.sample([network], x, 1, seed=3)
        with torch.no_grad():
            alone = network.interpret(network(x))
        assert torch.allclose(found.mean, alone.mean) and torch.allclose(found.probability, alone.probabilities)
        assert not found.parameter.any() and not found.probability_variance.any()


def test_too_few_samples_are_refused(net):
    with pytest.raises(ValueError, match="one sample"):
        slices.sample([net], torch.randn(1, 1, 8, 8), 0, seed=0)


OTHERS = {
    "m2a": {"width": 4, "features": 8},
    "m2b": {"width": 4, "features": 8},
    "m3": {"classes": 3, "width": 4, "features": 8, "branch_width": 6},
}


@pytest.mark.parametrize("name", OTHERS)
@torch.inference_mode()
def test_every_trunk_is_sampled_as_full_passes_would_be(name):
    network = used(name, **OTHERS[name])
    x = torch.randn(2, 1, 18, 20)
    found = slices.sample([network], x, 4, seed=5)
    outs = []
    for mask in slices.masks(network.trunk(x).shape, 4, 5, "cpu"):
        outs += [dict(zip(network.outputs, naive(network, x, m))) for m in (mask, 1 - mask)]
    assert torch.allclose(found.mean, torch.stack([o["mean"] for o in outs]).mean(0), atol=1e-5)
    if name == "m2b":
        assert torch.allclose(
            found.intrinsic,
            torch.stack([variance(o["log_variance"], REGRESSION_FLOOR) for o in outs]).mean(0),
            atol=1e-5,
        )
    else:
        assert not found.intrinsic.any()  # these networks say nothing of the noise
    assert found.probability.shape[1] == network.classes
    if name == "m3":
        assert torch.allclose(found.probability, torch.stack([o["logits"].softmax(1) for o in outs]).mean(0), atol=1e-5)


@torch.inference_mode()
def test_a_network_without_dropout_is_one_sample_and_several_are_an_ensemble():
    first, second = used("m1", width=4, features=8), used("m1", width=4, features=8)
    for p in second.parameters():
        p.data *= 1.1
    x = torch.randn(1, 1, 16, 16)
    alone = slices.sample([first], x, 20, seed=0)
    assert torch.allclose(alone.mean, first(x).mean) and not alone.parameter.any()
    both = torch.stack([first(x).mean, second(x).mean])
    ensemble = slices.sample([first, second], x, 20, seed=0)
    assert torch.allclose(ensemble.mean, both.mean(0), atol=1e-6) and torch.allclose(
        ensemble.parameter, both.var(0), atol=1e-6
    )


@torch.inference_mode()
def test_dropout_in_every_layer_is_sampled_by_whole_passes():
    network = used("3tn", filters=4, dropout=0.3)
    x = torch.randn(1, 1, 20, 20)
    state = torch.random.get_rng_state()
    found = slices.sample([network], x, 6, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's random numbers are touched
    again = slices.sample([network], x, 6, seed=1)
    assert torch.equal(found.mean, again.mean) and found.parameter.max() > 0
    assert not torch.equal(found.mean, slices.sample([network], x, 6, seed=2).mean)
    many = slices.sample([network], x, 600, seed=3)
    torch.manual_seed(0)
    network.set_sampling(True)
    free = torch.stack([network.interpret(network(x)).mean for _ in range(600)])
    network.set_sampling(False)
    se = (2 * free.var(0) / 600).sqrt() + 1e-6
    assert ((many.mean - free.mean(0)).abs() / se).max() < 5
    assert torch.equal(network(x).body, network(x).body)  # and afterwards it is still again
