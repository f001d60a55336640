"""Metrics against hand computations, scipy and MONAI, and tests of error bars on fields whose truth is known."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage, stats

from rtuncertainty.core.errors import InputError
from rtuncertainty.results import tables
from rtuncertainty.uncertainty import metrics

SPACING = (2.0, 2.0, 3.0)


def correlated_normal(rng, shape=(40, 96, 96), sd_voxels=(0.8, 1.5, 1.5)):
    """A field that is N(0, 1) at every voxel and correlated over a few of them."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), sd_voxels, mode="wrap")
    # the sd of the filtered field follows from the kernel alone, so that each draw keeps its own sampling error
    kernel = np.zeros(shape)
    kernel[tuple(n // 2 for n in shape)] = 1
    return field / np.sqrt((ndimage.gaussian_filter(kernel, sd_voxels, mode="wrap") ** 2).sum())


def test_error_statistics_of_four_numbers():
    found = metrics.error_statistics(np.array([-3.0, 1.0, 2.0, 4.0]))
    assert found == pytest.approx({"MAE": 2.5, "ME": 1.0, "RMSE": np.sqrt(30 / 4)})


def test_regions_follow_the_reference_inside_the_body_only():
    reference = np.array([[[-1000.0, -300, -250, 0, 250, 201, 200, 1500]]])
    body = np.ones(reference.shape, bool)
    body[0, 0, 3] = False
    found = metrics.regions(reference, body)
    assert found["bone"].ravel().tolist() == [False, False, False, False, True, True, False, True]
    assert found["soft tissue"].ravel().tolist() == [False, False, True, False, True, True, True, False]
    assert found["air"].ravel().tolist() == [True] + [False] * 7
    assert found["body"].sum() == 7
    valid = reference < 1000
    assert metrics.regions(reference, body, valid)["bone"].sum() == 2
    assert "air" not in metrics.regions(np.zeros((1, 2, 2)), np.ones((1, 2, 2), bool))


def test_psnr_by_hand():
    image, mask = np.full((2, 4, 4), 30.0), np.ones((2, 4, 4), bool)
    assert metrics.psnr(image, np.zeros_like(image), mask) == pytest.approx(40.0)
    assert metrics.psnr(image, image, mask) == np.inf


def test_ssim_agrees_with_monai():
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    rng = np.random.default_rng(1)
    a = ndimage.gaussian_filter(rng.normal(0, 800, (1, 48, 48)), (0, 2, 2))
    b = a + rng.normal(0, 40, a.shape)
    measure = monai.SSIMMetric(spatial_dims=2, data_range=3000.0, kernel_type="gaussian", win_size=11, kernel_sigma=1.5)
    other = float(measure(torch.tensor(a[None]), torch.tensor(b[None])))
    # MONAI averages over the image less a border of half a window
    mask = np.zeros(a.shape, bool)
    mask[:, 5:-5, 5:-5] = True
    assert metrics.ssim(a, b, mask) == pytest.approx(other, abs=2e-4)
    assert metrics.ssim(a, b, mask) < 0.9999 and metrics.ssim(a, a, mask) == pytest.approx(1)


def test_dice_and_fuzzy_dice():
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    a[:2], b[1:3] = True, True
    assert metrics.dice(a, b) == 0.5 == metrics.fuzzy_dice(a, b)
    assert metrics.fuzzy_dice(0.5 * a, a) == pytest.approx(2 * 4 / 12)
    assert np.isnan(metrics.dice(np.zeros(3), np.zeros(3))) and np.isnan(metrics.fuzzy_dice(np.zeros(3), np.zeros(3)))
    assert metrics.dice(a, np.zeros_like(a)) == 0


def test_z_scores_and_coverage_of_simulated_errors():
    rng = np.random.default_rng(2)
    sd = rng.uniform(5, 80, (20, 50, 50))
    z = metrics.z_scores(rng.normal(0, sd), sd)
    assert z.std() == pytest.approx(1, abs=0.03) and z.mean() == pytest.approx(0, abs=0.02)
    for level, share in metrics.coverage(z).items():
        assert share == pytest.approx(level, abs=0.01)
    assert np.isnan(metrics.z_scores(np.ones(2), np.array([0.0, -1.0]))).all()


def test_correlation_length_is_that_of_the_kernel():
    z = correlated_normal(np.random.default_rng(3), (30, 120, 120), (0.01, 3, 3))
    mask = np.ones(z.shape, bool)
    # the autocorrelation exp(-lag² / (4 sd²)) passes 0.05 at 3.46 sd: 10.4 voxels of 2 mm
    assert metrics.correlation_length(z, mask, SPACING) == pytest.approx(22, abs=2)
    assert metrics.correlation_length(np.random.default_rng(4).normal(size=z.shape), mask, SPACING) <= 3


def test_thinning_keeps_the_step_and_stays_in_the_mask():
    mask = np.zeros((30, 60, 60), bool)
    mask[:, 10:50, 10:50] = True
    lattice = metrics.thinned(mask, SPACING, 10.0)
    assert not (lattice & ~mask).any()
    z, y, x = (np.unique(v) for v in np.nonzero(lattice))
    assert np.diff(z).min() == 4 and np.diff(y).min() == 5 and np.diff(x).min() == 5  # 12, 10 and 10 mm
    assert metrics.thinned(np.ones((1, 20, 20), bool), SPACING, 10.0).sum() == 16


def test_fit_accepts_normal_fields_at_the_expected_rate_and_rejects_too_small_sds():
    rng = np.random.default_rng(5)
    accepted_ks = accepted_chi = 0
    rounds = 60
    mask = np.ones((40, 96, 96), bool)
    for _ in range(rounds):
        z = correlated_normal(rng)
        fit = metrics.goodness_of_fit(z, mask, SPACING)
        assert fit.n >= 200 and fit.step_mm >= 10
        accepted_ks += fit.ks_p > 0.05
        accepted_chi += fit.chi_square_p > 0.05
        wide = metrics.goodness_of_fit(1.4 * z, mask, SPACING)
        assert wide.ks_p < 0.05 and wide.chi_square_p < 0.01
    # 95 % of 60 are 57; a binomial leaves 51 or fewer in 1 of 100 cases
    assert accepted_ks >= 52 and accepted_chi >= 52


def test_without_thinning_a_normal_field_would_be_rejected():
    z = correlated_normal(np.random.default_rng(6), sd_voxels=(3, 4, 4))
    assert stats.kstest(z.ravel(), "norm").pvalue < 0.01
    assert metrics.goodness_of_fit(z, np.ones(z.shape, bool), SPACING).ks_p > 0.01


def test_fit_says_so_when_there_are_too_few_voxels():
    fit = metrics.goodness_of_fit(np.zeros((2, 10, 10)), np.ones((2, 10, 10), bool), SPACING)
    assert fit.n < 20 and np.isnan(fit.ks_p) and np.isnan(fit.chi_square_p)


def test_spearman_is_scipys_and_a_subsample_is_close():
    rng = np.random.default_rng(7)
    sd = rng.uniform(1, 50, 60000)
    error = rng.normal(0, sd)
    whole = stats.spearmanr(np.abs(error), sd).statistic
    assert metrics.error_sd_correlation(error, sd, largest=10**6) == pytest.approx(whole)
    assert metrics.error_sd_correlation(error, sd, largest=5000) == pytest.approx(whole, abs=0.04)
    assert np.isnan(metrics.error_sd_correlation(error, np.ones_like(sd)))


def simulated(rng, shape=(24, 64, 64)):
    reference = np.full(shape, 40.0)
    reference[:, 20:40, 20:40] = 900.0
    reference[:, :6] = -1000.0
    body = np.ones(shape, bool)
    sd = np.where(reference > 200, 100.0, 20.0)
    return reference, body, sd, reference + rng.normal(0, sd) + 5.0


def test_evaluate_gives_known_answers():
    reference, body, sd, synct = simulated(np.random.default_rng(8))
    truth = reference > 200
    moved = np.roll(truth, 4, axis=2)
    rows = metrics.evaluate(
        synct,
        sd,
        reference,
        body,
        spacing=SPACING,
        structures={"bone": moved},
        reference_structures={"bone": truth},
        probabilities={"bone": 0.5 * truth},
    )
    found = {(r.region, r.metric): r.value for r in rows}
    assert found["bone", "MAE"] == pytest.approx(100 * np.sqrt(2 / np.pi), rel=0.03)
    assert found["soft tissue", "ME"] == pytest.approx(5, abs=0.5)
    assert found["soft tissue", "z mean"] == pytest.approx(0.25, abs=0.02)
    assert found["bone", "z sd"] == pytest.approx(1, abs=0.03)
    assert found["bone", "coverage of 90 % intervals"] == pytest.approx(90, abs=1)
    assert found["bone", "Dice"] == pytest.approx(0.8) and found["bone", "fuzzy Dice"] == pytest.approx(2 / 3)
    assert found["body", "voxels"] == reference.size and ("air", "RMSE") in found
    assert found["body", "fit to N(0,1): thinned n"] > 100
    assert not [r for r in rows if r.metric in ("PSNR", "SSIM") and r.region != "body"]
    assert all(r.unit == "HU" for r in rows if r.metric in ("MAE", "ME", "RMSE"))


def test_evaluate_leaves_out_what_is_not_valid_and_works_without_an_sd():
    reference, body, _, synct = simulated(np.random.default_rng(9))
    valid = np.ones(body.shape, bool)
    valid[12:] = False
    synct[12:] = 1e6
    rows = metrics.evaluate(synct, None, reference, body, valid, spacing=SPACING)
    assert max(r.value for r in rows if r.metric == "MAE") < 200
    assert not [r for r in rows if r.metric.startswith("z ")]


def test_evaluate_refuses_other_shapes_and_an_empty_body():
    a = np.zeros((3, 8, 8))
    with pytest.raises(InputError, match="predictive sd"):
        metrics.evaluate(a, np.zeros((3, 8, 7)), a, a > -1, spacing=SPACING)
    with pytest.raises(InputError, match="no voxel"):
        metrics.evaluate(a, None, a, a > 1, spacing=SPACING)


def test_reference_on_another_grid_and_its_field_of_view():
    grid = sitk.Image(40, 40, 20, sitk.sitkInt16)
    grid.SetSpacing((1, 1, 2))
    angle = np.deg2rad(20)
    reference = sitk.Image(30, 30, 8, sitk.sitkInt16) + 77
    reference.SetSpacing((2, 2, 3))
    reference.SetOrigin((-10, -5, 6))
    reference.SetDirection((np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, 1))
    there, covered = metrics.reference_on(reference, grid)
    values = sitk.GetArrayFromImage(there)
    assert 0 < covered.sum() < covered.size
    assert values[ndimage.binary_erosion(covered, iterations=3)] == pytest.approx(77)
    assert values[~ndimage.binary_dilation(covered, iterations=2)].max() == -1000
    reference.SetOrigin((5000, 0, 0))
    with pytest.raises(InputError, match="overlap"):
        metrics.reference_on(reference, grid)


def test_rows_survive_the_file():
    text = tables.text(tables.COLUMNS["metrics"], tables.of_metrics([metrics.Row("body", "MAE", 12.3456789, "HU")]))
    assert text.splitlines() == ["region,metric,value,unit", "body,MAE,12.3457,HU"]


def test_the_reference_body_is_without_couch_and_what_is_called_air_counts():
    ct = np.full((3, 60, 60), -1000.0)
    ct[:, 10:40, 10:50] = 40
    ct[:, 20:25, 20:25] = -900  # gas
    ct[:, 50:52, 5:55] = 200  # the couch
    body = metrics.reference_body(ct, (1.0, 1.0, 3.0))
    assert body[:, 22, 22].all() and not body[:, 50:].any() and body[:, 12:38, 12:48].all()
    synct = ct.copy()
    synct[:, 10:13] = -1000
    rows = {(r.region, r.metric): r.value for r in metrics.evaluate(synct, None, ct, body, spacing=(1.0, 1.0, 3.0))}
    assert rows["body", "tissue called air"] == pytest.approx(100 * 3 * 40 / (30 * 40 - 25), rel=0.2)
    assert rows["body", "MAE"] > 80
