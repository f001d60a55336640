"""From rows to a card, tables and figures; and the experiment on worse images, with a network that has learnt
nothing.
"""

import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from rtuncertainty.uncertainty import flags, quality, volume_calibration, volume_distribution, volume_range
from rtuncertainty.uncertainty.fit import volume_card
from rtuncertainty.uncertainty.fit.volumes import VolumeRow
from training.__main__ import main
from training.calibration import calibrate
from training.calibration.rows import write_rows
from training.studies.volumes import noise as noise_experiment
from training.studies.volumes import tables

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "backend"))
from make_bundle import make_bundle  # noqa: E402

Z = np.array([volume_distribution.PERCENTILES]) / 50 - 1


def simulated(count=40, seed=0, informative=True) -> list[VolumeRow]:
    """Two structures a patient; where the network is off, its spread is wide and its expected Dice low."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(count):
        for structure in ("prostate", "bladder"):
            true, wrong = rng.uniform(20, 80), rng.uniform(0.02, 0.35)
            told = wrong if informative else rng.uniform(0.02, 0.35)
            median = true * math.exp(wrong * rng.standard_normal())
            rows.append(
                VolumeRow(
                    "net",
                    f"p{number:02}",
                    structure,
                    tuple((median * np.exp(0.5 * told * Z[0])).tolist()),
                    true,
                    True,
                    "",
                    float(np.clip(1 - wrong + 0.02 * rng.standard_normal(), 0, 1)),
                    1 - 0.6 * told,
                    rng.uniform(0.3, 0.6),
                )
            )
    rows.append(VolumeRow("net", "p00", "seroma", rows[0].ml, 0.0, False))
    return rows


@pytest.fixture(scope="module")
def rows():
    return simulated()


def test_what_goes_into_the_card(rows):
    found = volume_card.fit(rows)
    card = json.loads(json.dumps({"name": "m", "calibration": found.as_card()}, allow_nan=False))
    volumes = card["calibration"]["volumes"]
    # wrong where it is unsure: scaled margins are narrower
    assert (
        volumes["method"] == "conformal_scaled" and volume_card.fit(rows, "conformal").volumes["method"] == "conformal"
    )
    assert volumes["cases"] == 80 and volumes["patients"] == 40 and volumes["per"] == ["prostate", "bladder"]
    assert volumes["within_90_before"] < 0.7 and 0.8 < volumes["within_90"] <= 1.0
    interval = volume_calibration.of_card(card).interval(rows[0].distribution, 0.9)
    assert interval.calibrated and interval.cases == 40
    assert quality.of_card(card).apply(0.85)[0] == pytest.approx(0.75, abs=0.06)
    (name, entry), tried = *card["calibration"]["flags"].items(), found.tried
    assert tried["expected_dice"].validated and not tried["surface_entropy"].validated
    mistakes = {n: e.missed + e.false_alarms for n, e in tried.items() if e.validated}
    assert mistakes[name] == min(mistakes.values()) and entry["caught"] > 3 * entry["missed"]
    assert {n: limit for n, (limit, _) in flags.limits(card).items()} == {name: entry["threshold"]}


def test_what_tells_nothing_earns_nothing():
    found = volume_card.fit(simulated(informative=False, seed=3))
    assert found.flags is None and found.tried


def test_an_unusual_volume_is_flagged_where_validation_shows_that_it_helps():
    usual = {"prostate": list(np.linspace(20, 80, 30)), "bladder": [50.0, 60.0]}
    good = simulated(20)
    lost = [
        VolumeRow("net", f"lost{k}", "prostate", tuple(3.0 + 0.01 * Z[0]), 40.0, True, "", 0.1, 0.8, 0.3)
        for k in range(4)
    ]
    found = volume_card.fit(good + lost, training=usual)
    e = found.flags["usual_volume"]
    # the bladder has too few training patients to say what is usual
    assert (
        (e["caught"], e["missed"], e["cases"]) == (4, 0, 24)
        and list(e["structures"]) == ["prostate"]
        and e["structures"]["prostate"]["cases"] == 30
    )
    card = {"calibration": found.as_card()}
    assert "gave away 4 of 4" in volume_range.reason("prostate", 3.0, json.loads(json.dumps(card)))
    assert (
        "usual_volume" not in (volume_card.fit(good, training=usual).flags or {})
        and volume_card.fit(good + lost).tried.get("usual_volume") is None
    )
    # contours that are lost at a usual volume earn nothing
    hidden = [
        VolumeRow("net", f"lost{k}", "prostate", tuple(40.0 + 0.01 * Z[0]), 40.0, True, "", 0.1, 0.8, 0.3)
        for k in range(4)
    ]
    tried = volume_card.fit(good + hidden, training=usual)
    assert tried.tried["usual_volume"].missed == 4 and "usual_volume" not in (tried.flags or {})


def test_few_patients_and_no_spread(rows):
    assert volume_card.fit(rows[:2]).as_card() == {"volumes": None, "quality": None, "flags": None}
    few = volume_card.fit(rows[:12])
    assert few.volumes["method"] == "log_affine" and few.volumes["patients"] == 6 and few.quality is None
    card = {"calibration": {"volumes": few.volumes}}
    assert "too few cases" in volume_calibration.of_card(card).interval(rows[0].distribution, 0.9).note
    flat = [
        VolumeRow(r.network, r.patient, r.structure, (r.ml[8],) * len(r.ml), r.true_ml, r.present) for r in rows[:12]
    ]
    assert volume_card.fit(flat).volumes is None


def test_rows_and_evaluation_become_a_card(rows, tmp_path):
    made = {"weights_sha256": "a", "accuracy": {}, "calibration": {"synct": None, "volumes": None}}
    (tmp_path / "evaluation.json").write_text(json.dumps(made), encoding="utf-8")
    file = write_rows(
        rows[:40],
        tmp_path / "rows.json",
        weights_sha256="a",
        training={"prostate": [30.0, 50.0]},
        input_statistics={"cases": 3},
    )
    assert (
        main(
            [
                "calibrate",
                f"HR={file}",
                "--out",
                str(tmp_path / "out"),
                "--evaluation",
                str(tmp_path / "evaluation.json"),
                "--method",
                "log_affine",
            ]
        )
        == 0
    )
    found = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    assert (
        found["calibration"]["volumes"]["method"] == "log_affine" and found["calibration"]["volumes"]["patients"] == 20
    )
    assert (
        found["calibration"]["synct"] is None
        and found["calibration"]["quality"]
        and found["input_statistics"] == {"cases": 3}
    )
    assert (tmp_path / "out" / "volumes.md").exists()
    write_rows(rows[:8], file, weights_sha256="b")
    with pytest.raises(SystemExit, match="different weights"):
        calibrate.into_evaluation(file, tmp_path / "evaluation.json")


def test_worse_images_are_worse_on_their_own_grid():
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray((100 + 50 * rng.random((10, 32, 30))).astype(np.float32))
    image.SetSpacing((1.0, 1.0, 3.0))
    for kind, amounts in noise_experiment.STEPS.items():
        found = [noise_experiment.degraded(image, kind, a) for a in (noise_experiment.NONE[kind], *amounts)]
        assert all(f.GetSize() == image.GetSize() and f.GetSpacing() == image.GetSpacing() for f in found)
        spread = [sitk.GetArrayViewFromImage(f).std() for f in found]
        assert (
            all(a < b if kind == "noise" else a > b for a, b in zip(spread, spread[1:]))
            and sitk.GetArrayViewFromImage(found[-1]).min() >= 0
        )
        assert np.array_equal(sitk.GetArrayViewFromImage(found[0]), sitk.GetArrayViewFromImage(image))
    with pytest.raises(ValueError, match="fog"):
        noise_experiment.degraded(image, "fog", 1.0)


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("noise")
    model = make_bundle(folder / "m")
    z, y, x = np.indices((6, 40, 40))
    leg = np.hypot(y - 20, x - 20)
    image = sitk.GetImageFromArray(
        np.where(leg < 16, 100.0, 2.0).astype(np.float32) + np.where(leg < 6, 80, 0).astype(np.float32)
    )
    image.SetSpacing((2.0, 2.0, 4.0))
    bone = sitk.GetImageFromArray((leg < 6).astype(np.uint8))
    bone.CopyInformation(image)
    cases = [noise_experiment.NoiseCase("p1", image, {"bone": bone, "unknown": bone})]
    return noise_experiment.run(
        model, cases, folder / "out", {"noise": (0.2,), "blur": (3.0,)}, samples=2, device="cpu"
    )


def test_experiment_on_worse_images(noise):
    rows = noise_experiment.read_rows(noise)
    assert [(r.kind, r.amount, r.structure) for r in rows] == [
        ("noise", 0.0, "bone"),
        ("noise", 0.2, "bone"),
        ("blur", 0.0, "bone"),
        ("blur", 3.0, "bone"),
    ]
    assert all(math.isnan(r.score) and r.true_ml == pytest.approx(109 * 6 * 0.016) for r in rows)
    clean, noisy, same, blurred = rows
    assert (clean.volume_ml, clean.lower_ml) == (same.volume_ml, same.lower_ml) and (
        noisy.volume_ml,
        noisy.lower_ml,
    ) != (clean.volume_ml, clean.lower_ml)
    found = noise_experiment.curves(rows)
    assert [c["amount"] for c in found["blur"]] == [0.0, 3.0] and found["noise"][0]["volume"] == pytest.approx(
        clean.volume_ml / clean.true_ml
    )
    assert all(c["coverage"] == float(r.held) for c, r in zip(found["noise"], rows))
    with pytest.raises(SystemExit, match="missing"):
        noise_experiment.read_rows(noise.parent / "none.json")


def test_document_tables_and_figures(noise, tmp_path):
    rows = simulated(24)
    out = tables.write(
        {"HR-a": rows, "HR-b": simulated(10, 5)},
        tmp_path / "results",
        {"prostate": [30.0, 40.0, 50.0]},
        noise,
        "Of a test.",
    )
    text = out.read_text(encoding="utf-8")
    assert text.startswith("# Volumes and their intervals\n\nOf a test.\n\n24 patients") and "1 structure that" in text
    for name in ("coverage", "width", "pit", "noise"):
        assert f"({name}.png)" in text and (tmp_path / "results" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    with open(tmp_path / "results" / "coverage.csv", newline="", encoding="utf-8") as f:
        found = {
            (r["network"], r["interval"], r["structure"], r["level"]): float(r["coverage"]) for r in csv.DictReader(f)
        }
    own = tables.volume_coverage.evaluate(rows)["conformal"]
    assert found["HR-a", "conformal", "all", "0.9"] == pytest.approx(own["all"].coverage[0.9], abs=1e-5)
    # the table says what the curve says
    line = next(row for row in text.splitlines() if row.startswith("| HR-a | conformal | 48 |"))
    assert f"| {100 * own['all'].coverage[0.9]:.0f} % |" in line
    with open(tmp_path / "results" / "volumes.csv", newline="", encoding="utf-8") as f:
        written = list(csv.DictReader(f))
    assert len(written) == 49 + 21 and written[48]["present"] == "no"
    assert "| HR-a | low expected Dice |" in text and text.count("| yes |") >= 1
