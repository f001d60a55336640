"""The likelihoods against hand-computed cases and known noise."""

import numpy as np
import pytest
import torch
from scipy import stats

from rtbackend.uncertainty import REGRESSION_FLOOR, SEGMENTATION_FLOOR
from training.losses.heteroscedastic import regression_nll, segmentation_nll, weighted_mean


def maps(*values):
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def test_regression_is_the_gaussian_likelihood():
    mean, target, s = maps(0.0, 1.0, -2.0), maps(0.5, 1.0, 1.0), maps(-1.0, 0.0, 1.5)
    sd = np.sqrt(np.exp([-1.0, 0.0, 1.5]) + REGRESSION_FLOOR)
    expected = -stats.norm(mean.numpy().ravel(), sd).logpdf(target.numpy().ravel()) - 0.5 * np.log(2 * np.pi)
    assert regression_nll(mean, s, target, torch.ones_like(mean)).item() == pytest.approx(expected.mean())


def test_segmentation_is_cross_entropy_of_scaled_logits():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.3, 0.1, 0.7]], dtype=torch.float64).T.reshape(1, 3, 1, 2)
    s, labels = maps(0.0, -2.0), torch.tensor([[[0, 2]]])
    expected = []
    for k, sigma2, label in ((0, 1 + SEGMENTATION_FLOOR, 0), (1, np.exp(-2) + SEGMENTATION_FLOOR, 2)):
        f = logits[0, :, 0, k].numpy() / (2 * sigma2)
        expected.append(-(f[label] - np.log(np.exp(f).sum())))
    assert segmentation_nll(logits, s, labels, torch.ones(1, 1, 2, dtype=torch.float64)).item() == pytest.approx(np.mean(expected))


def fitted_z(printed, beta=0.0):
    """z-scores after fitting a variance that depends on x, with the noise's sd 0.5 + x in truth."""
    torch.manual_seed(0)
    x = torch.rand(20000, dtype=torch.float64)
    sigma = 0.5 + x
    target = (3 * x + sigma * torch.randn_like(x)).view(1, 1, 1, -1)
    parameters = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    # with beta there is no function whose gradient this is, so no line search
    optimiser = torch.optim.Adam([parameters], 0.03) if beta else torch.optim.LBFGS([parameters], max_iter=200, line_search_fn="strong_wolfe")

    def predict():
        return (parameters[0] + parameters[1] * x).view(1, 1, 1, -1), (parameters[2] + parameters[3] * x + parameters[4] * x**2).view(1, 1, 1, -1)

    def closure():
        optimiser.zero_grad()
        mean, s = predict()
        loss = regression_nll(mean, s, target, torch.ones_like(target), printed, beta)
        loss.backward()
        return loss

    for _ in range(1500 if beta else 1):
        optimiser.step(closure)
    mean, s = predict()
    return ((target - mean) / (s.exp() + REGRESSION_FLOOR).sqrt()).detach(), x


def test_known_noise_is_recovered_and_the_printed_form_halves_it():
    z, x = fitted_z(False)
    assert z.std().item() == pytest.approx(1.0, abs=0.03)
    for low in (0.0, 0.25, 0.5, 0.75):  # everywhere, not only on average
        assert z[0, 0, 0, (x >= low) & (x < low + 0.25)].std().item() == pytest.approx(1.0, abs=0.05)
    assert fitted_z(True)[0].std().item() == pytest.approx(2**0.5, abs=0.03)


def test_beta_keeps_the_optimal_variance():
    assert fitted_z(False, beta=0.5)[0].std().item() == pytest.approx(1.0, abs=0.04)


def test_voxels_without_weight_do_not_count():
    mean, target, s = maps(0.0, 0.0), maps(1.0, 1e6), maps(0.0, 0.0)
    weight = maps(1.0, 0.0)
    assert regression_nll(mean, s, target, weight).item() == regression_nll(mean[..., :1], s[..., :1], target[..., :1], weight[..., :1]).item()
    assert weighted_mean(mean, torch.zeros_like(mean)).item() == 0.0  # and an empty patch is no NaN
