"""Scores against others' numbers: scikit-image and the SynthRAD scripts, MONAI, scipy, hand computations, known
fields.
"""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from training.data.prepare.synthesis import Case
from training.evaluation import score, slices, synthrad, uncertainty
from training.evaluation.case import Evaluated, fingerprint
from training.evaluation.comparison import compare, figures, significance, store, tables

SHAPE = (10, 36, 40)


@pytest.fixture
def quick(monkeypatch):
    """Without MS-SSIM, for which every scan is padded to 97³ voxels: where its value is not asked for."""
    monkeypatch.setattr(synthrad, "ms_ssim", lambda *_: 0.9)


def make_case(name="p1", seed=0, tumour=True) -> Case:
    """A cylinder of soft tissue with a bone of 300 to 1,400 HU, gas and perhaps a tumour."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    body = np.broadcast_to((y - 18) ** 2 + (x - 20) ** 2 < 16**2, SHAPE)
    bone = np.broadcast_to((y - 14) ** 2 + (x - 14) ** 2 < 25, SHAPE)
    gtv = np.broadcast_to((y - 22) ** 2 + (x - 26) ** 2 < 9, SHAPE) & tumour
    ct = np.where(body, rng.normal(20, 30, SHAPE), -1000.0)
    ct[bone] = rng.uniform(300, 1400, int(bone.sum()))
    ct[np.broadcast_to((y - 26) ** 2 + (x - 16) ** 2 < 4, SHAPE)] = -900.0
    valid = np.ones(SHAPE, bool)
    valid[0] = False
    labels = np.where(bone, 1, np.where(gtv, 2, 0)).astype(np.uint8)
    return Case(
        name,
        rng.normal(0, 1, SHAPE).astype(np.float32),
        ct.astype(np.float32),
        labels,
        body.copy(),
        valid,
        (2.0, 2.0, 3.0),
    )


def network_of(case: Case, noise=40.0, classes=3, sd=True, seed=1) -> Evaluated:
    """A network whose errors are N(0, sd²) with the sd that it tells, and whose labels are those of the reference."""
    rng = np.random.default_rng(seed)
    spread = (noise * rng.uniform(0.5, 1.5, SHAPE)).astype(np.float32)
    probability = (
        np.stack([0.1 + 0.7 * (case.labels == k) for k in range(classes)]) if classes else np.zeros((0, *SHAPE))
    )
    synct = case.ct + spread * rng.standard_normal(SHAPE, np.float32)
    return Evaluated(case.name, case, synct, sd=spread if sd else None, probability=probability)


def analytic():
    """A pair of images that a formula gives, so that other programs can be asked about the very same one."""
    z, y, x = np.ogrid[:12, :40, :44]
    ct = 1500 * np.sin(z / 3) * np.sin(y / 5) * np.cos(x / 7) + 200
    return ct * 0.9 + 150 * np.cos(y / 2 + x / 3), ct, np.broadcast_to((y - 20) ** 2 + (x - 22) ** 2 < 18**2, ct.shape)


def test_image_similarity_is_that_of_the_challenges_scripts():
    # printed by the scripts of SynthRAD2023 and 2025 on scikit-image 0.26
    assert synthrad.ssim(*analytic()) == pytest.approx(0.9538520269681483, abs=1e-12)
    assert synthrad.ms_ssim(*analytic()) == pytest.approx(0.9662765332983476, abs=1e-12)
    assert synthrad.psnr(*analytic()) == pytest.approx(30.813820960892105, abs=1e-9)
    assert synthrad.psnr(*analytic(), synthrad.RANGE_2025) == pytest.approx(30.96573964186343, abs=1e-9)


def test_ssim_by_its_definition_in_every_window():
    synct, ct, mask = analytic()
    x, y = (np.where(mask, np.clip(i, -1024, 3000) + 1024, 0.0) for i in (synct, ct))
    windows = [np.lib.stride_tricks.sliding_window_view(i, (7, 7, 7)).reshape(6, 34, 38, -1) for i in (x, y)]
    (mx, my), (vx, vy) = (w.mean(-1) for w in windows), (w.var(-1, ddof=1) for w in windows)
    vxy = ((windows[0] - mx[..., None]) * (windows[1] - my[..., None])).sum(-1) / (343 - 1)
    c1, c2 = 40.24**2, 120.72**2
    value = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert synthrad.ssim(synct, ct, mask) == pytest.approx(value[mask[3:-3, 3:-3, 3:-3]].mean(), abs=1e-9)


def test_similarity_of_equal_and_of_thin_images():
    _, ct, mask = analytic()
    assert synthrad.ssim(ct, ct, mask) == pytest.approx(1) and synthrad.ms_ssim(ct, ct, mask) == pytest.approx(1)
    assert synthrad.psnr(ct, ct, mask) == math.inf
    # six slices hold no window of seven; neither does a mask that lies at the faces only
    assert math.isnan(synthrad.ssim(ct[:6], ct[:6], mask[:6]))
    assert math.isnan(synthrad.ssim(ct, ct, np.broadcast_to(np.arange(12)[:, None, None] < 2, ct.shape)))


def test_sparsification_of_a_perfect_a_random_and_a_reversed_ranking():
    error = np.linspace(-1, 1, 40001)
    perfect = uncertainty.sparsification(error, np.abs(error))
    assert perfect.ause == pytest.approx(0, abs=1e-12) and perfect.mae == pytest.approx(perfect.oracle)
    # |error| is uniform on 0 to 1: the oracle falls as 1 − part, and every other order lies above it by known areas
    assert perfect.oracle == pytest.approx([1 - part for part in uncertainty.REMOVED], abs=2e-4)
    random = uncertainty.sparsification(error, np.ones_like(error))
    assert random.ause == pytest.approx(0.5, abs=0.01) and random.ause_random == pytest.approx(0.5, abs=1e-3)
    # the least errors go first: the mean of the rest is 1 + part
    assert uncertainty.sparsification(error, -np.abs(error)).ause == pytest.approx(1.0, abs=1e-3)
    assert uncertainty.sparsification(np.zeros(9), np.ones(9)) is None
    by_hand = uncertainty.sparsification(
        np.array([4.0, -1.0, 1.0]), np.array([3.0, 2.0, 1.0]), removed=(0, 1 / 3, 2 / 3)
    )
    assert by_hand.mae == pytest.approx([1, 0.5, 0.5]) and by_hand.ause == 0


def test_calibration_error_of_gaussian_errors_and_of_halved_sds():
    rng = np.random.default_rng(0)
    sd = rng.uniform(5, 80, 200_000)
    z = rng.normal(0, sd) / sd
    assert uncertainty.calibration_error(uncertainty.interval_coverage(z)) < 0.003
    levels = np.array(uncertainty.LEVELS)
    truth = 2 * stats.norm.cdf(stats.norm.ppf(0.5 + levels / 2) / 2) - 1
    assert uncertainty.calibration_error(uncertainty.interval_coverage(2 * z)) == pytest.approx(
        (levels - truth).mean(), abs=0.003
    )
    # no sd, no interval: outside
    assert uncertainty.interval_coverage(np.array([np.nan, 0.0]), (0.5,)) == [0.5]


def test_row_of_a_case_by_hand(quick):
    case = make_case()
    region = case.region
    shifted = Evaluated("p1", case, case.ct + 10, sd=np.full(SHAPE, 5, np.float32))
    row = score.run_case(shifted)
    assert row["voxels"] == region.sum() and not region[0].any()
    for name in ("body", "soft tissue", "air", "bone > 200 HU", "bone ≥ 250 HU", "bone", "gtv"):
        assert row[f"MAE {name}"] == pytest.approx(10, abs=1e-3) and row[f"ME {name}"] == pytest.approx(10, abs=1e-3)
    assert row["z mean"] == pytest.approx(2, abs=1e-3) and row["z sd"] == pytest.approx(0, abs=1e-3)
    assert row["PSNR (SynthRAD2023)"] == pytest.approx(20 * math.log10(4024 / 10), abs=1e-3)
    a, b = case.ct[region] + 10 > 600, case.ct[region] > 600
    curve = score.curves(shifted)["bone Dice"]
    assert curve["dice"][curve["threshold"].index(600)] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert math.isnan(curve["dice"][-1])  # the CT has no bone of 1,500 HU
    soft = [(i[region] >= -250) & (i[region] <= 250) for i in (case.ct + 10, case.ct)]
    assert row["Dice soft tissue"] == pytest.approx(2 * (soft[0] & soft[1]).sum() / (soft[0].sum() + soft[1].sum()))


def test_dice_of_the_body_is_taken_over_all_that_was_measured(quick):
    case = make_case()
    body = case.ct_body & case.valid & (case.ct > -400)
    found = np.where(body, case.ct, -1000.0)
    assert score.run_case(Evaluated("p", case, found))["Dice body"] == 1
    # tissue made up outside of the patient costs, as it does in the paper
    outside = np.flatnonzero((~case.ct_body & (case.ct <= -400) & case.valid).ravel())[:100]
    wrong = found.copy()
    wrong.ravel()[outside] = 0
    wanted = 2 * body.sum() / (2 * body.sum() + len(outside))
    assert len(outside) == 100 and score.run_case(Evaluated("p", case, wrong))["Dice body"] == pytest.approx(wanted)


def test_a_network_that_only_segments_has_no_number_of_a_synthetic_ct(quick):
    case = replace(make_case(), ct=None, ct_body=None)
    p = np.stack([case.labels == k for k in range(max(case.classes.values()) + 1)]).astype(np.float32)
    found = score.record(Evaluated("p", case, None, probability=p))
    name = next(n for n, v in case.classes.items() if v == 1)
    assert found["row"][f"Dice {name}"] == 1 and math.isnan(found["row"]["MAE body"]) and found["curves"] == {}
    assert set(found["row"]) == set(score.run_case(Evaluated("p", make_case(), make_case().ct)))


def test_overlap_and_uncertainty_of_a_simulated_network(quick):
    case = make_case()
    row = score.run_case(network_of(case))
    # p = 0.8 inside and 0.1 outside a structure of a voxels in a region of n: 2·0.8a / (0.8a + 0.1(n − a) + a)
    a, n = int(((case.labels == 1) & case.region).sum()), int(case.region.sum())
    assert row["Dice bone"] == row["Dice gtv"] == 1 and row["fuzzy Dice bone"] == pytest.approx(
        1.6 * a / (1.8 * a + 0.1 * (n - a))
    )
    assert (
        row["z sd"] == pytest.approx(1, abs=0.03)
        and row["ECE"] < 0.02
        and row["within 90 %"] == pytest.approx(0.9, abs=0.02)
    )
    assert row["beyond 3 SD"] == pytest.approx(0.0027, abs=0.003) and row["fit KS p"] > 0.001 and row["fit n"] >= 20
    assert 0 < row["AUSE"] < row["AUSE random"] and row["Spearman |error| and sd"] > 0.2
    assert row["mean predictive SD"] == pytest.approx(40, abs=1) and math.isnan(row["mean intrinsic SD"])


@pytest.mark.parametrize("classes, told", [(0, set()), (2, {"bone"}), (3, {"bone", "gtv"})])
def test_networks_with_fewer_classes_have_no_score_where_they_say_nothing(classes, told, quick):
    row = score.run_case(network_of(make_case(), classes=classes, sd=False))
    assert {s for s in ("bone", "gtv") if not math.isnan(row[f"Dice {s}"])} == told
    assert {s for s in ("bone", "gtv") if not math.isnan(row[f"fuzzy Dice {s}"])} == told
    assert math.isnan(row["z sd"]) and math.isnan(row["AUSE"]) and row["MAE gtv"] > 0
    assert set(row) == set(score.run_case(network_of(make_case())))


def test_what_cannot_be_scored_is_told():
    case = make_case()
    with pytest.raises(SystemExit, match="p1.*synct has the shape"):
        Evaluated("p1", case, case.ct[1:])
    with pytest.raises(SystemExit, match="no numbers"):
        Evaluated("p1", case, np.full(SHAPE, np.nan))
    with pytest.raises(SystemExit, match="below zero"):
        Evaluated("p1", case, case.ct, sd=-np.ones(SHAPE))
    with pytest.raises(SystemExit, match="no voxel"):
        Evaluated(
            "p1", Case("p1", case.mr, case.ct, case.labels, case.body, np.zeros(SHAPE, bool), case.spacing), case.ct
        )
    with pytest.raises(SystemExit, match="named 'air'"):
        score.run_case(Evaluated("p1", replace(case, classes={"background": 0, "air": 1}), case.ct))
    with pytest.raises(SystemExit, match="no CT"):
        Evaluated("p1", replace(case, ct=None), case.ct)


def test_wilcoxon_by_hand_and_by_enumeration():
    # ranks 1 to 5, all of one sign: 2 of the 2⁵ sign patterns are as extreme
    assert significance.signed_rank([1, 2, 3, 4, 5], np.zeros(5)) == (5, pytest.approx(2 / 32))
    # rank 1 against the rest: sums 1 and 0 in both directions, 4 of 32
    assert significance.signed_rank([-1, 2, 3, 4, 5], np.zeros(5)) == (5, pytest.approx(4 / 32))
    assert significance.signed_rank([1.5, 2], [1.5, 2]) == (0, 1.0)
    difference = np.array([0.3, -0.1, 0.3, 0.7, 0.2, -0.4, 0.9, 0.2])
    ranks = stats.rankdata(np.abs(difference))
    signs = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1)
    sums = np.abs(ranks @ signs)
    n, p = significance.signed_rank(difference, np.zeros(8))
    assert n == 8 and p == pytest.approx((sums >= abs(ranks @ np.sign(difference)) - 1e-9).mean())


def test_holm_by_hand():
    # 4·0.005, 3·0.01, 2·0.03, then no smaller than the one before
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([0.6, 0.7]) == [1.0, 1.0] and significance.holm([]) == []


CARD = {"name": "net", "version": "1", "weights": {"sha256": "0"}}


def evaluated_folder(
    folder, names=("p1", "p2", "p3"), training=("t1",), tumour=lambda name: True, noise=40.0, **network
):
    """rows.json of a simulated network and of one baseline."""
    folder.mkdir()
    cases = [make_case(name, int(name[1:]), tumour(name)) for name in names]
    records = {c.name: score.record(network_of(c, noise, seed=int(c.name[1:]), **network)) for c in cases}
    zero = {c.name: score.record(Evaluated(c.name, c, np.zeros_like(c.ct))) for c in cases}
    store.write(folder, CARD, 4, list(training), records, {"body = 0 HU": zero})
    return folder


def test_rows_come_back_as_they_were(tmp_path, quick):
    folder = evaluated_folder(tmp_path / "a", ("p1",))
    found = store.read(folder)["cases"]["p1"]
    row = score.run_case(network_of(make_case("p1", 1), seed=1))
    assert found["reference"] == fingerprint(make_case("p1", 1)) != fingerprint(make_case("p1", 2))
    assert found["row"].pop("case") == row.pop("case") == "p1"
    assert found["row"] == pytest.approx(row, rel=1e-5, nan_ok=True)


def test_comparison_of_six_patients(tmp_path, quick):
    names = [f"p{i}" for i in range(1, 7)]
    absent = {"tumour": lambda name: name != "p2"}
    folders = {
        "fine": evaluated_folder(tmp_path / "a", names, noise=10, **absent),
        "coarse": evaluated_folder(tmp_path / "b", names, **absent),
        "plain": evaluated_folder(tmp_path / "c", names, noise=60, classes=0, sd=False, **absent),
    }
    page = compare.run(folders, tmp_path / "out", reference="fine")
    text = page.read_text(encoding="utf-8")
    for name in figures.NAMES:
        assert 5_000 < (tmp_path / "out" / name).stat().st_size < 100_000 and name in text
    networks = {n.name: n for n in store.gather(folders)}
    assert list(networks) == ["fine", "coarse", "plain", "body = 0 HU"] and networks["body = 0 HU"].baseline
    values = networks["fine"].column("MAE body")
    assert f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}" in text and "(n = 5)" in text
    # all six patients better: p = 2/2⁶, times 3 tests
    test = next(
        t for t in significance.run(list(networks.values()), "fine") if t.metric == "MAE body" and t.a == "coarse"
    )
    assert (test.n, test.family, test.better) == (6, 3, "fine")
    assert test.p == pytest.approx(2 / 64) and test.p_holm == pytest.approx(6 / 64) == test.smallest
    assert (
        "\\|z mean\\|" in text
        and "0.094 ▼" in text
        and "smallest attainable p is 0.031, 0.094 after correction" in text
    )
    assert "No difference can be significant" in text
    assert next(t for t in significance.run(list(networks.values()), "fine") if t.metric == "MAE gtv").n == 5
    # what only one network has is not tested; without a reference baselines are not either
    pairs = significance.run(list(networks.values()))
    assert {(t.a, t.b) for t in pairs if t.metric == "AUSE"} == {("fine", "coarse")}
    assert not any("body = 0 HU" in (t.a, t.b) for t in pairs)
    square = compare.run(folders, tmp_path / "out").read_text(encoding="utf-8")
    assert "### MAE body" in square and square.count("▲") == square.count("▼") > 0
    header, *lines = (tmp_path / "out" / "comparison.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4 * 6 and all(line.count(",") == header.count(",") for line in lines)


def test_networks_without_sd_leave_no_figure_of_one(tmp_path, quick):
    out = tmp_path / "out"
    compare.run({"sure": evaluated_folder(tmp_path / "a", ("p1",))}, out)
    page = compare.run({"plain": evaluated_folder(tmp_path / "b", ("p1",), classes=0, sd=False)}, out).read_text(
        encoding="utf-8"
    )
    assert [name for name in figures.NAMES if (out / name).exists()] == ["bone_dice.png"]
    assert "## z-scores" not in page and "Nothing to test" in page and "nan" not in page


def test_folds_are_one_network(tmp_path, quick):
    folds = [
        evaluated_folder(tmp_path / "a", ("p1", "p2"), ("p3",)),
        evaluated_folder(tmp_path / "b", ("p3",), ("p1", "p2")),
    ]
    assert store.gather({"net": folds})[0].cases == ["p1", "p2", "p3"]
    with pytest.raises(SystemExit, match="each patient counts once"):
        store.gather({"net": [folds[0], folds[0]]})


def test_no_silently_wrong_table(tmp_path, quick):
    first = evaluated_folder(tmp_path / "a")
    with pytest.raises(SystemExit, match="b has no row of p3, which a has"):
        store.gather({"a": first, "b": evaluated_folder(tmp_path / "b", ("p1", "p2"))})
    with pytest.raises(SystemExit, match="p2: a and b were scored against different CTs or labels"):
        store.gather({"a": first, "b": evaluated_folder(tmp_path / "c", tumour=lambda name: name != "p2")})
    with pytest.raises(SystemExit, match="trained on different patients"):
        store.gather({"a": first, "b": evaluated_folder(tmp_path / "d", training=("t2",))})
    with pytest.raises(SystemExit, match="scores p1, on which the network was trained"):
        store.gather({"a": evaluated_folder(tmp_path / "e", training=("p1",))})
    with pytest.raises(SystemExit, match="reference 'x' is not among"):
        compare.run({"a": first}, tmp_path / "out", "x")
    with pytest.raises(SystemExit, match="evaluate' on that network first"):
        store.gather({"a": tmp_path})
    with pytest.raises(SystemExit, match="give it another name"):
        store.gather({"body = 0 HU": first})
    found = json.loads((first / store.FILE).read_text(encoding="utf-8"))
    del found["cases"]["p1"]["row"]["ECE"]
    (first / store.FILE).write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(SystemExit, match="columns differ"):
        store.gather({"a": first})
    (first / store.FILE).write_text("{", encoding="utf-8")
    with pytest.raises(SystemExit, match="damaged"):
        store.gather({"a": first})


def test_first_table_of_a_network_beside_its_baseline(tmp_path, quick):
    networks = store.gather({"net": evaluated_folder(tmp_path / "a", ("p1", "p2"))})
    rows = slices.summary_rows(networks)
    assert [row["case"] for row in rows] == ["p1", "p2"]
    for row, ours, zero in zip(rows, networks[0].rows, networks[1].rows):
        assert (
            row["MAE bone, ours"]
            == ours["MAE bone > 200 HU"]
            < row["MAE bone, body = 0 HU"]
            == zero["MAE bone > 200 HU"]
        )
        assert (row["MAE body, ours"], row["Dice gtv"], row["z sd"]) == (
            ours["MAE body"],
            ours["Dice gtv"],
            ours["z sd"],
        )


def test_cells_say_how_many_patients_they_stand_on():
    assert tables.cell([math.nan, 1.0, 3.0], 1) == "2.0 ± 1.4 (n = 2)"
    assert tables.cell([math.nan], 1) == "–" and tables.cell([-0.5], 2) == "−0.50"
