"""Cached and antithetic sampling against full forward passes, and the estimators against known distributions."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rtbackend import networks, sampling
from rtbackend.moments import Moments
from rtbackend.networks.folded import FoldedHeads
from rtbackend.uncertainty import REGRESSION_FLOOR, class_probabilities, entropy, variance


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(3)
    m4 = networks.build("m4", classes=3, width=4, features=8, branch_width=6)
    for p in m4.parameters():  # slopes, scales and shifts that differ from channel to channel
        p.data += 0.1 * torch.randn_like(p)
    for _ in range(3):  # batch normalisation needs statistics of its own
        m4.train()(torch.randn(2, 1, 24, 24))
    return m4.eval()


def naive(net, x, mask):
    """The whole network once, with the features multiplied by 2 × mask."""
    features = net.trunk(x) * 2 * mask
    return [branch(features) for branch in net.branches]


@torch.inference_mode()
def test_cached_sampling_equals_full_passes_with_the_same_masks(net):
    x = torch.randn(2, 1, 20, 22)
    found = sampling.sample([net], x, 6, seed=11)
    outs = []
    for mask in sampling.masks(net.trunk(x).shape, 6, 11, "cpu"):
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
    heads = FoldedHeads(net)
    other = heads.pair_sum(features) - heads.first(2 * mask * features)
    assert torch.allclose(other, heads.first(2 * (1 - mask) * features), atol=1e-5)


@torch.inference_mode()
def test_folded_heads_are_the_branches(net):
    features = net.trunk(torch.randn(2, 1, 18, 16))
    heads = FoldedHeads(net)
    for found, branch in zip(heads.finish(heads.first(features)), net.branches):
        assert torch.allclose(found, branch(features), atol=1e-5)


@torch.inference_mode()
def test_antithetic_estimates_agree_with_many_independent_samples(net):
    x = torch.randn(1, 1, 12, 12)
    torch.manual_seed(0)
    outs = torch.cat([net.branches[0](F.dropout(net.trunk(x), 0.5, True)) for _ in range(3000)])
    runs = [sampling.sample([net], x, 20, seed=s) for s in range(150)]
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
    assert np.allclose(moments.mean, data.numpy().mean(0)) and np.allclose(moments.variance(), data.numpy().var(0, ddof=1))
    with pytest.raises(ValueError, match="mixed"):
        moments.add(data[0], data[1])


def test_masks_are_fair_independent_and_repeatable():
    first = sampling.bernoulli_mask((2, 10, 101, 33), torch.Generator().manual_seed(5), "cpu")
    again = sampling.bernoulli_mask((2, 10, 101, 33), torch.Generator().manual_seed(5), "cpu")
    assert torch.equal(first, again) and set(first.unique().tolist()) == {0.0, 1.0}
    assert first.mean().item() == pytest.approx(0.5, abs=0.01)
    flat = first.permute(0, 2, 3, 1).flatten()
    for lag in (1, 7, 8, 64):
        assert abs(np.corrcoef(flat[:-lag], flat[lag:])[0, 1]) < 0.02


def test_uncertainties_of_classes_are_consistent(net):
    found = sampling.sample([net], torch.randn(1, 1, 16, 16), 8, seed=0)
    assert torch.allclose(found.probability.sum(1), torch.ones(1, 16, 16), atol=1e-5)
    total = entropy(found.probability)
    assert (total - found.expected_entropy).min() > -1e-5  # mutual information is not negative (Jensen)
    assert total.max() <= np.log(3) + 1e-5


def test_several_checkpoints_share_the_samples(net):
    x = torch.randn(1, 1, 16, 16)
    both = sampling.sample([net, net], x, 40, seed=0)
    assert torch.allclose(both.mean, sampling.sample([net], x, 400, seed=9).mean, atol=0.5 * both.parameter.max().sqrt())


def test_too_few_samples_are_refused(net):
    with pytest.raises(ValueError, match="two samples"):
        sampling.sample([net], torch.randn(1, 1, 8, 8), 1, seed=0)
