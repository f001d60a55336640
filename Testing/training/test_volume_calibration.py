"""Fits of volume intervals on simulated networks whose true spread is known, and the scores that never saw their own
fit.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from rtuncertainty.uncertainty.fit import conformal, volume_coverage, volumes
from rtuncertainty.uncertainty.fit.volumes import VolumeRow
from rtuncertainty.uncertainty.volume_distribution import PERCENTILES
from training.calibration.rows import read_rows, write_rows

Z = stats.norm.ppf(np.array(PERCENTILES) / 100)
SURE = 0.276  # with this part of the true spread a nominal 90 % interval holds 35 %


def simulated(rng, count: int, sure=SURE, structures=("prostate",), bias=0.05) -> list[VolumeRow]:
    """Patients whose volumes are log-normal about a biased median; the network tells `sure` times the true spread,
    which differs by patient.
    """
    rows = []
    for number in range(count):
        for structure in structures:
            median, spread = math.exp(rng.normal(3.5, 0.6)), 0.25 * math.exp(0.3 * rng.standard_normal())
            truth = median * math.exp(bias + spread * rng.standard_normal())
            rows.append(VolumeRow("net", f"p{number:03}", structure, tuple(median * np.exp(sure * spread * Z)), truth))
    return rows


def held(calibration, rows, level=0.9) -> float:
    ends = [calibration.interval(r.distribution, level) for r in rows]
    return float(np.mean([i.lower <= r.true_ml <= i.upper for i, r in zip(ends, rows)]))


def test_57_cases_at_90_percent():
    """METHODS: uncalibrated 0.35, log-volume 0.88, conformal at least what it promises. Means over repeated draws."""
    rng = np.random.default_rng(1)
    found = {"none": [], "log_affine": [], "conformal": [], "conformal_scaled": []}
    for _ in range(25):
        known, new = simulated(rng, 57), simulated(rng, 100)
        for method in found:
            found[method].append(held(volumes.fit(known, method), new))
    mean = {k: float(np.mean(v)) for k, v in found.items()}
    assert mean["none"] == pytest.approx(0.35, abs=0.04)
    assert mean["log_affine"] == pytest.approx(0.88, abs=0.03)
    # the standard error of a mean of 25 calibrations is about 0.01
    assert 0.88 < mean["conformal"] < 0.96 and 0.88 < mean["conformal_scaled"] < 0.96


def test_scaled_margins_are_narrower_where_the_network_knows_what_it_does_not_know():
    """One contour in four is missed, and told to be uncertain: added to all, its margin makes every interval as wide
    as its own.
    """
    rng = np.random.default_rng(9)
    sure, lost = simulated(rng, 150), simulated(rng, 50)
    rows = sure + [
        VolumeRow(
            "net",
            f"lost {r.patient}",
            r.structure,
            tuple(float(r.distribution.volume_ml * (v / r.distribution.volume_ml) ** 6) for v in r.ml),
            r.distribution.volume_ml * float(np.exp(1.5 * rng.standard_normal())),
        )
        for r in lost
    ]
    known, new = rows[::2], rows[1::2]
    width, inside = {}, {}
    for method in ("conformal", "conformal_scaled"):
        fitted = volumes.fit(known, method)
        ends = [fitted.interval(r.distribution, 0.95) for r in new]
        inside[method] = held(fitted, new, 0.95)
        width[method] = float(np.median([(i.upper - i.lower) / r.distribution.volume_ml for i, r in zip(ends, new)]))
    assert min(inside.values()) > 0.9 and width["conformal_scaled"] < 0.6 * width["conformal"]


def test_a_network_that_is_right_is_left_alone():
    rows = simulated(np.random.default_rng(2), 400, sure=1.0, bias=0.0)
    group = volumes.fit(rows, "log_affine").groups["pooled"]
    assert group.scale == pytest.approx(1.0, abs=0.1) and group.shift == pytest.approx(0.0, abs=0.04)
    assert abs(volumes.fit(rows, "conformal").groups["pooled"].margins[0.9]) < 0.06


def test_shift_and_scale_are_found():
    group = volumes.fit(simulated(np.random.default_rng(3), 400), "log_affine").groups["pooled"]
    assert group.scale == pytest.approx(1 / SURE, rel=0.1) and group.shift == pytest.approx(0.05, abs=0.04)


def test_usual_volumes_make_intervals_narrower_and_keep_the_promise():
    """Contours that were missed take large margins, which lead beyond what any patient has."""
    rng = np.random.default_rng(12)
    inside, widths = {True: [], False: []}, {True: [], False: []}
    for _ in range(12):
        rows = [
            replace(r, ml=tuple(v * (0.05 if k % 6 == 0 else 1) for v in r.ml))
            for k, r in enumerate(simulated(rng, 140))
        ]
        known, new, usual = rows[:40], rows[40:], {"prostate": (10.0, 110.0)}
        for use in inside:
            found = volumes.fit(known, "conformal", usual=usual if use else None)
            inside[use].append(held(found, new))
            ends = [found.interval(r.distribution, 0.9) for r in new]
            widths[use].append(
                float(np.median([(i.upper - i.lower) / r.distribution.volume_ml for i, r in zip(ends, new)]))
            )
    assert 0.88 < np.mean(inside[True]) < 0.97 and 0.88 < np.mean(inside[False]) < 0.97
    assert np.mean(widths[True]) < 0.5 * np.mean(widths[False])


def test_no_spread_cannot_be_scaled_but_conformal_holds():
    rng = np.random.default_rng(4)
    flat = [
        VolumeRow("net", r.patient, r.structure, (r.distribution.volume_ml,) * len(PERCENTILES), r.true_ml)
        for r in simulated(rng, 240)
    ]
    with pytest.raises(ValueError, match="conformal"):
        volumes.fit(flat[:40], "log_affine")
    assert held(volumes.fit(flat[:40], "conformal"), flat[40:]) > 0.82
    assert held(volumes.fit(flat[:40], "conformal_scaled"), flat[40:]) > 0.82
    assert "log_affine" not in volume_coverage.evaluate(flat[:40])


def test_conformal_quantile_promises_what_it_says():
    """One row a patient is split conformal prediction; several rows of a patient count as one patient."""
    scores = np.arange(1, 20.0)
    assert conformal.quantile(scores, list(range(19)), 0.9) == 18.0  # ⌈20 · 0.9⌉
    assert conformal.quantile(scores, list(range(19)), 0.95) == 19.0
    assert math.isinf(conformal.quantile(scores, list(range(19)), 0.96))
    assert math.isinf(conformal.quantile(np.arange(100.0), [k % 5 for k in range(100)], 0.9))
    # rows of one patient are alike: taken as independent they would promise too much
    rng, missed, naive = np.random.default_rng(5), [], []
    for _ in range(1500):
        patient = rng.standard_normal(13).repeat(8) + 0.1 * rng.standard_normal(104)
        for misses, names in ((missed, np.arange(12).repeat(8)), (naive, np.arange(96))):
            misses.append(np.mean(patient[96:] > conformal.quantile(patient[:96], names, 0.9)))
    assert np.mean(missed) < 0.1 < 0.12 < np.mean(naive)


def test_scores_are_of_patients_who_were_left_out():
    rows = simulated(np.random.default_rng(6), 30, structures=("prostate", "bladder"))
    for _, calibration in volume_coverage.cross_validated(rows, "conformal"):
        assert calibration.groups["pooled"].patients < 30
    for others, left_out in volume_coverage.folds(rows):
        assert not {r.patient for r in others} & {r.patient for r in left_out}
    # each fold's own fit does not change when the left-out patients' truths do
    others, left_out = volume_coverage.folds(rows)[0]
    changed = [VolumeRow(r.network, r.patient, r.structure, r.ml, r.true_ml * 9) if r in left_out else r for r in rows]
    assert volume_coverage.folds(changed)[0][0] == others
    with pytest.raises(ValueError, match="two"):
        volume_coverage.folds(rows[:2])


def test_coverage_width_and_percentiles():
    rng = np.random.default_rng(7)
    rows = simulated(rng, 60, structures=("prostate", "bladder"))
    rows.append(VolumeRow("net", "p000", "seroma", rows[0].ml, 0.0, present=False))
    found = volume_coverage.evaluate(rows)
    assert list(found) == ["none", "log_affine", "conformal", "conformal_scaled", "uninformed"]
    assert set(found["none"]) == {"all", "prostate", "bladder"}
    everything = {k: v["all"] for k, v in found.items()}
    assert everything["none"].n == 120 and everything["none"].patients == 60
    assert everything["none"].coverage[0.9] < 0.5 and everything["conformal"].coverage[0.9] > 0.82
    assert everything["none"].error > 0.25 > 0.08 > everything["log_affine"].error
    for c in everything.values():
        assert sum(c.pit) == pytest.approx(1.0) and all(
            a <= b + 1e-9 for a, b in zip(c.width.values(), list(c.width.values())[1:])
        )
    # overconfident: truths pile up at both ends; calibrated: no more
    assert (
        everything["none"].pit[0] + everything["none"].pit[-1]
        > 0.6
        > 0.35
        > everything["log_affine"].pit[0] + everything["log_affine"].pit[-1]
    )
    # who has seen the image is narrower than who has not
    assert everything["conformal"].width[0.9] < everything["uninformed"].width[0.9]
    known = volume_coverage.evaluate(rows, {"prostate": [10.0, 20.0, 30.0]})["uninformed"]
    assert known["prostate"].width[0.9] != found["uninformed"]["prostate"].width[0.9] and known["bladder"].n == 60


def test_structures_get_their_own_fit_where_there_are_enough_patients():
    rng = np.random.default_rng(8)
    rows = simulated(rng, 25, structures=("prostate",)) + simulated(rng, 8, structures=("bladder",), sure=1.0)
    assert set(volumes.fit(rows, "conformal").groups) == {"pooled", "prostate"}
    assert set(volumes.fit(rows, "conformal", least=5).groups) == {"pooled", "prostate", "bladder"}
    # no level is given up for it: 10 patients reach 90 %, 57 reach 95 %
    assert [volumes.own_fit(n) for n in (3, 8, 10, 18, 57)] == [1, 4, 9, 9, 19]
    few = simulated(rng, 10, structures=("prostate", "bladder"))
    assert set(volumes.fit(few, "conformal").groups) == {"pooled", "prostate", "bladder"}
    with pytest.raises(ValueError, match="present"):
        volumes.fit([], "conformal")


def test_what_was_not_found_spoils_no_interval():
    rows = simulated(np.random.default_rng(10), 30)
    lost = [VolumeRow("net", r.patient, "larynx", (0.0,) * (len(PERCENTILES) - 1) + (0.1,), 12.0) for r in rows[:9]]
    assert volumes.fit(rows + lost, "conformal") == volumes.fit(rows, "conformal")
    assert volume_coverage.evaluate(rows + lost)["conformal"]["all"].n == 30
    told = volumes.fit(rows, "conformal").interval(lost[0].distribution, 0.9)
    assert (told.lower, told.upper, told.calibrated) == (0.0, 0.0, False) and "not found" in told.note


def test_rows_come_back_from_their_file(tmp_path):
    rows = simulated(np.random.default_rng(9), 3)
    rows.append(VolumeRow("net", "p9", "x", rows[0].ml, 1.0, dice=0.9, case="p9_day1"))
    path = write_rows(rows, tmp_path / "rows.json", weights_sha256="0")
    again = read_rows(path)
    assert [r.ml for r in again] == [r.ml for r in rows] and math.isnan(again[0].dice) and again[-1].dice == 0.9
    path.write_text(path.read_text(encoding="utf-8")[:50], encoding="utf-8")
    with pytest.raises(SystemExit, match="damaged"):
        read_rows(path)
    with pytest.raises(ValueError, match="percentiles"):
        VolumeRow("n", "p", "s", (1.0, 2.0), 1.0)
