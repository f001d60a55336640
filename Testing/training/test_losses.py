"""The likelihoods against hand-computed cases and known noise."""

import numpy as np
import pytest
import torch
from scipy import stats

from rtuncertainty.networks.uncertainty import REGRESSION_FLOOR, SEGMENTATION_FLOOR
from training.methods.bragman2018.loss import HomoscedasticWeights, regression_nll, segmentation_nll, weighted_mean
from training.methods.kaushik2022.loss import dice_loss, global_mae, three_task_loss, weighted_mae


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
    assert segmentation_nll(logits, s, labels, torch.ones(1, 1, 2, dtype=torch.float64)).item() == pytest.approx(
        np.mean(expected)
    )


def fitted_z(printed, beta=0.0):
    """z-scores after fitting a variance that depends on x, with the noise's sd 0.5 + x in truth."""
    torch.manual_seed(0)
    x = torch.rand(20000, dtype=torch.float64)
    sigma = 0.5 + x
    target = (3 * x + sigma * torch.randn_like(x)).view(1, 1, 1, -1)
    parameters = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    # with beta there is no function whose gradient this is, so no line search
    optimiser = (
        torch.optim.Adam([parameters], 0.03)
        if beta
        else torch.optim.LBFGS([parameters], max_iter=200, line_search_fn="strong_wolfe")
    )

    def predict():
        return (parameters[0] + parameters[1] * x).view(1, 1, 1, -1), (
            parameters[2] + parameters[3] * x + parameters[4] * x**2
        ).view(1, 1, 1, -1)

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
    assert (
        regression_nll(mean, s, target, weight).item()
        == regression_nll(mean[..., :1], s[..., :1], target[..., :1], weight[..., :1]).item()
    )
    assert weighted_mean(mean, torch.zeros_like(mean)).item() == 0.0  # and an empty patch is no NaN


def noisy_tasks(printed):
    """Learnt variances of two regressions whose noise has the sd 0.5 and 2, and the noise's true variances."""
    torch.manual_seed(1)
    noise = torch.stack([0.5 * torch.randn(40000), 2.0 * torch.randn(40000)])
    weights = HomoscedasticWeights(2, 0, printed)
    optimiser = torch.optim.Adam(weights.parameters(), 0.05)
    for _ in range(600):
        optimiser.zero_grad()
        weights((noise**2).mean(1)).backward()
        optimiser.step()
    return weights.log_variance.detach().exp(), (noise**2).mean(1)


def test_homoscedastic_weights_converge_to_the_noise():
    found, truth = noisy_tasks(False)
    assert torch.allclose(found, truth, rtol=0.01) and (found[1] / found[0]).item() == pytest.approx(16, rel=0.05)
    halved, _ = noisy_tasks(True)
    assert torch.allclose(halved, truth / 2, rtol=0.01)  # as printed, without the half before the logarithm


def test_a_classification_is_weighed_twice_as_much_as_a_regression():
    weights = HomoscedasticWeights(1, 1)
    assert weights([torch.tensor(3.0), torch.tensor(5.0)]).item() == pytest.approx(3 / 2 + 5)
    with torch.no_grad():
        weights.log_variance += torch.log(torch.tensor([4.0, 2.0]))
    assert weights([torch.tensor(3.0), torch.tensor(5.0)]).item() == pytest.approx(3 / 8 + 5 / 2 + 0.5 * np.log(8))


def test_weighted_mae_of_a_hand_computed_case():
    found, target = maps(1.0, 2.0, 0.0, 5.0, 9.0), maps(0.0, 0.0, 0.0, 1.0, 0.0)
    body, valid = maps(1.0, 0.0, 0.0, 0.0, 1.0), maps(1.0, 1.0, 1.0, 1.0, 0.0)
    # N = 4 measured, 1 of them body: 3/4 · MAE_body + 1/4 · MAE_rest
    assert weighted_mae(found, target, body, valid).item() == pytest.approx(0.75 * 1 + 0.25 * (2 + 0 + 4) / 3)
    assert weighted_mae(found, target, torch.ones_like(body), valid).item() == pytest.approx(7 / 4)  # nothing but body
    assert global_mae(found, target, valid).item() == pytest.approx(7 / 4)


def test_dice_loss_of_a_hand_computed_case_and_of_monai():
    from monai.losses import DiceLoss

    p, truth, valid = maps(0.5, 1.0, 0.0, 1.0), maps(1.0, 1.0, 0.0, 0.0), maps(1.0, 1.0, 1.0, 0.0)
    assert dice_loss(p, truth, valid).item() == pytest.approx(1 - 2 * 1.5 / (0.25 + 1 + 2))
    theirs = DiceLoss(squared_pred=True, smooth_nr=0.0, smooth_dr=0.0, batch=True)
    generator = torch.Generator().manual_seed(0)
    p, truth = torch.rand(2, 1, 6, 7, generator=generator), (torch.rand(2, 1, 6, 7, generator=generator) < 0.3).float()
    assert dice_loss(p, truth, torch.ones_like(p)).item() == pytest.approx(theirs(p, truth).item(), rel=1e-5)


@pytest.mark.parametrize(
    "name, terms", [("1tn-fl", {"body"}), ("2tn", {"body", "bone_hu"}), ("3tn", {"body", "bone_hu", "bone_class"})]
)
def test_without_bone_its_terms_are_silent_and_never_nan(name, terms):
    from rtuncertainty import networks

    torch.manual_seed(0)
    network = networks.build(name, filters=2)
    x, body, none = torch.randn(2, 1, 16, 16), torch.ones(2, 1, 16, 16), torch.zeros(2, 1, 16, 16)
    body[:, :, :4] = 0
    losses = three_task_loss(network(x), torch.zeros_like(x), body, none, torch.ones_like(x))
    assert set(losses) == terms | {"loss"} and losses["loss"].item() == pytest.approx(losses["body"].item())
    losses["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    with_bone = none.clone()
    with_bone[:, :, 8:] = 1
    losses = three_task_loss(network(x), torch.full_like(x, 0.7), body, with_bone, torch.ones_like(x))
    weights = {"body": 1.0, "bone_class": 1.5, "bone_hu": 1.3}
    assert losses["loss"].item() == pytest.approx(sum(weights[k] * losses[k].item() for k in terms), rel=1e-5)
