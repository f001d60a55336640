"""Plans and density tables from files, samples of a synthetic CT, and `rtuncertainty dose` from files to a folder."""

import csv
import json
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from make_plan import limb

from rtuncertainty.cli import command_line
from rtuncertainty.core import geometry
from rtuncertainty.core.errors import InputError
from rtuncertainty.dose.plan import density, plan, samples


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_plan_says_what_differs_from_the_default(tmp_path):
    found = plan.read_plan(
        written(tmp_path, "p.json", '{"modality": "proton", "beams": [45], "isocentre": [1, 2, 3.5], "fractions": 5}')
    )
    assert (found.modality, found.beams, found.isocentre, found.fractions) == ("proton", (45.0,), (1.0, 2.0, 3.5), 5)
    assert found.margin_mm == plan.DEFAULTS["proton"].margin_mm
    assert plan.from_dict(json.loads(json.dumps(found.as_dict()))) == found
    photon = plan.from_dict({"beams": [0, 180], "weights": [1, 2]})
    assert photon.weights == (1.0, 2.0) and plan.from_dict(json.loads(json.dumps(photon.as_dict()))) == photon


@pytest.mark.parametrize(
    "text, words",
    [
        ("nonsense", "no JSON file"),
        ("[1]", "no plan"),
        ('{"modality": "electron"}', "electron"),
        ('{"beam": [0]}', "beam is no entry"),
        ('{"beams": []}', "beams is"),
        ('{"beams": [0, 1e300]}', "from -360 to 360"),
        ('{"beams": [' + "0, " * 100 + "0]}", "101 angles"),
        ('{"beams": ["left"]}', "beams is"),
        ('{"prescription_gy": -1}', "prescription_gy is -1"),
        ('{"fractions": 2.5}', "whole number"),
        ('{"isocentre": [0, 0]}', "isocentre is"),
        ('{"weights": [1]}', "one for each of the 4 beams"),
        ('{"weights": [1, 1, 1, -1]}', "none negative"),
        ('{"spot_spacing_mm": 5}', "no entry of a photon plan"),
        ('{"grid_mm": true}', "grid_mm is True"),
        ('{"modality": "proton", "machine": "x"}', "no entry of a proton plan"),
        ('{"margin_mm": NaN}', "margin_mm is nan"),
        ('{"machine": 3}', "give a text"),
    ],
)
def test_a_plan_that_says_something_else_is_refused_by_name(tmp_path, text, words):
    path = written(tmp_path, "p.json", text)
    with pytest.raises(InputError, match=words) as error:
        plan.read_plan(path)
    assert str(path) in str(error.value)


def test_densities_are_the_published_ones():
    # Schneider 2000: 1.018 + 0.893e-3 HU for soft tissue, 1.017 + 0.592e-3 HU for bone
    for hu, wanted in (
        (-1000, 0.00121),
        (-98, 0.93),
        (0, 1.018),
        (14, 1.03),
        (500, 1.017 + 0.296),
        (1500, 1.017 + 0.888),
    ):
        assert density.SCHNEIDER.mass_density(hu) == pytest.approx(wanted, abs=2e-3)
    # electron densities and stopping powers of ICRU 44 tissues relative to water: adipose 0.95 and muscle 1.05 g/cm³,
    # cortical bone 1.92
    for rho, electrons in ((0.95, 0.951), (1.05, 1.040), (1.92, 1.781)):
        assert density.relative_electron_density(np.array(rho)) == pytest.approx(electrons, abs=2e-3)
    for rho, power in ((0.95, 0.974), (1.05, 1.047), (1.92, 1.70)):
        assert density.relative_stopping_power(np.array(rho)) == pytest.approx(power, rel=0.02)


@settings(max_examples=50, deadline=None)
@given(st.floats(-2000, 4000), st.floats(0.1, 500))
def test_more_hu_is_never_less_dense(hu, more):
    for modality in ("photon", "proton"):
        assert density.SCHNEIDER.relative(hu + more, modality) >= density.SCHNEIDER.relative(hu, modality)
    assert 0.001 < density.SCHNEIDER.mass_density(hu) < 2.8


def test_a_table_of_ones_own_replaces_the_published_one(tmp_path):
    path = written(tmp_path, "t.csv", "# our scanner\nhu,density,stopping_power\n-1000,0,0\n0,1,1.01\n1000,1.6,1.5\n")
    table = density.read_table(path)
    assert table.mass_density([-2000, -500, 500, 9000]) == pytest.approx([0, 0.5, 1.3, 1.6])
    assert table.relative(500, "proton") == pytest.approx(1.255)
    assert table.relative(500, "photon") == pytest.approx(float(density.relative_electron_density(np.array(1.3))))


@pytest.mark.parametrize(
    "text, words",
    [
        ("a,b\n1,2\n", "columns are a, b"),
        ("hu,density\n0,1\n", "two rows"),
        ("hu,density\n0,1\n0,2\n", "rising"),
        ("hu,density\n0,1\n1,x\n", "no number"),
        ("hu,density\n0,1\n5,-1\n", "negative"),
        ("", "columns are none"),
        ("hu,density\n0,1\n5,nan\n", "not finite"),
        ("hu,density,colour\n0,1,2\n5,2,2\n", "colour"),
    ],
)
def test_a_table_that_is_none_is_refused_by_name(tmp_path, text, words):
    path = written(tmp_path, "t.csv", text)
    with pytest.raises(InputError, match=words) as error:
        density.read_table(path)
    assert str(path) in str(error.value)


def test_a_smooth_field_has_unit_variance_and_its_correlation():
    spacing, reach, found, product, edge = (2.0, 2.0, 4.0), 8.0, [], [], []
    generator = np.random.default_rng(0)
    for _ in range(40):
        f = samples.smooth_field((16, 40, 40), spacing, reach, generator)
        assert f.shape == (16, 40, 40) and f.dtype == np.float32
        found.append((f**2).mean())
        edge.append((f[:, 0] ** 2).mean())
        product.append(
            [(f[:, :, :-4] * f[:, :, 4:]).mean(), (f[:-2] * f[2:]).mean(), (f[:, :, :-8] * f[:, :, 8:]).mean()]
        )
    assert np.mean(found) == pytest.approx(1, abs=0.05) and np.mean(edge) == pytest.approx(1, abs=0.12)
    # 8, 8 and 16 mm apart
    assert np.mean(product, 0) == pytest.approx([np.exp(-1), np.exp(-1), np.exp(-4)], abs=0.05)
    assert np.ptp(samples.smooth_field((3, 4, 5), spacing, np.inf, generator)) == 0
    # the sum of several lengths has their correlation
    assert sum(part for part, _ in samples.MEASURED) == pytest.approx(1)
    mixed = [samples.smooth_field((16, 40, 40), spacing, None, generator) for _ in range(60)]
    assert np.mean([(f**2).mean() for f in mixed]) == pytest.approx(1, abs=0.08)
    apart = [np.mean([(f[:, :, :-k] * f[:, :, k:]).mean() for f in mixed]) for k in (1, 4, 15)]
    assert apart == pytest.approx(samples.expected([2, 8, 30]).tolist(), abs=0.06)
    white = samples.smooth_field((20, 30, 30), spacing, 0.0, generator)
    assert abs((white[:, :, 1:] * white[:, :, :-1]).mean()) < 0.05 and white.var() == pytest.approx(1, abs=0.05)


def test_members_are_steady_antithetic_and_seeded():
    mean, sd = np.full((6, 8, 8), 40.0, np.float32), np.full((6, 8, 8), 20.0, np.float32)
    first, again, other = (list(samples.field_members(mean, sd, (1, 1, 3), 4, seed, 5.0)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again)) and not np.array_equal(first[0], other[0])
    assert np.allclose(first[0] + first[1], 80, atol=1e-3) and not np.allclose(first[0], first[2])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """CT, target, and a result folder with a synthetic CT that is 30 HU too dense, its sd and body."""
    folder = tmp_path_factory.mktemp("plan")
    ct, target = limb(slices=16, bone=800, target_radius=14.0, radius=45.0)
    sitk.WriteImage(ct, str(folder / "ct.nii.gz"))
    sitk.WriteImage(target, str(folder / "gtv.nii.gz"))
    (folder / "gtv.json").write_text('{"GTV": 1}', encoding="utf-8")
    result = folder / "result"
    result.mkdir()
    hu = sitk.GetArrayFromImage(ct).astype(np.float32)
    sitk.WriteImage(geometry.like(np.where(hu > -500, hu + 30, hu), ct, np.int16), str(result / "synct.nii.gz"))
    sitk.WriteImage(geometry.like(np.where(hu > -500, 40.0, 0.0), ct), str(result / "sd.nii.gz"))
    sitk.WriteImage(geometry.like(hu > -500, ct, np.uint8), str(result / "body.nii.gz"))
    (result / "summary.json").write_text(
        json.dumps(
            {
                "model": {"name": "m"},
                "files": {"synct": "synct.nii.gz", "predictive_sd": "sd.nii.gz", "body": "body.nii.gz"},
            }
        ),
        encoding="utf-8",
    )
    (folder / "plan.json").write_text('{"beams": [0, 120], "grid_mm": 4, "prescription_gy": 20}', encoding="utf-8")
    return folder


def run(capsys, place, *more):
    """(exit code, lines on standard output, the line of the error)"""
    code = command_line.main(
        [
            "dose",
            "--ct",
            str(place / "ct.nii.gz"),
            "--structures",
            str(place / "gtv.nii.gz"),
            "--device",
            "cpu",
            *map(str, more),
        ]
    )
    told = capsys.readouterr()
    return (
        code,
        told.out.splitlines(),
        ([line for line in told.err.splitlines() if line.startswith("rtuncertainty:")] or [""])[-1],
    )


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return {row["structure"]: row for row in csv.DictReader(file)}


def test_from_files_to_a_folder_and_twice_the_same(place, tmp_path, capsys):
    for name in ("a", "b"):
        code, out, error = run(
            capsys,
            place,
            "--plan",
            place / "plan.json",
            "--synct",
            place / "result",
            "--samples",
            4,
            "--output",
            tmp_path / name,
        )
        assert code == 0, error
    told = json.loads((tmp_path / "a" / "summary.json").read_text(encoding="utf-8"))
    assert (
        told["target"] == "GTV"
        and told["samples"]["number"] == 4
        and told["samples"]["correlation_mm"] == "as measured"
        and not told["samples"]["calibrated"]
    )
    for file in told["files"].values():
        assert (tmp_path / "a" / file).is_file()
        if file.endswith(".csv"):
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    doses = {
        k: sitk.ReadImage(str(tmp_path / "a" / told["files"][k]))
        for k in ("dose_ct", "dose_synct", "dose_synct_lower", "dose_synct_upper")
    }
    again = sitk.ReadImage(str(tmp_path / "b" / told["files"]["dose_synct"]))
    low, mean, high = (sitk.GetArrayFromImage(doses[k]) for k in ("dose_synct_lower", "dose_synct", "dose_synct_upper"))
    assert np.array_equal(mean, sitk.GetArrayFromImage(again)) and (low <= high).all() and (high - low).max() > 0.01
    row = rows(tmp_path / "a" / "comparison.csv")["GTV"]
    # 30 HU too dense: less dose, about 2 % of density over 45 mm at 3 to 4 % a centimetre
    assert -1.2 < float(row["davg_difference_rx_percent"]) < -0.1
    assert (
        float(row["davg_difference_lower"])
        < float(row["davg_difference_rx_percent"])
        < float(row["davg_difference_upper"])
    )
    assert 90 < float(row["gamma_2percent_2mm_pass_percent"]) <= 100
    assert any("GTV" in line for line in out)


def test_doses_on_samples_that_were_kept(place, tmp_path, capsys):
    """Two samples, 60 HU less and 60 HU more than the synthetic CT: the doses on them are the band's ends."""
    import shutil

    result = shutil.copytree(place / "result", tmp_path / "result")
    synct = sitk.ReadImage(str(result / "synct.nii.gz"))
    hu = sitk.GetArrayFromImage(synct)
    for number, change in (("1", -60), ("2", 60)):
        sitk.WriteImage(
            geometry.like(np.where(hu > -500, hu + change, hu), synct, np.int16), str(result / f"{number}.nrrd")
        )
    summary = json.loads((result / "summary.json").read_text(encoding="utf-8"))
    summary["files"]["sample_synct"] = {"1": "1.nrrd", "2": "2.nrrd"}
    (result / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    given = ("--plan", place / "plan.json", "--kept-samples", "--output", tmp_path / "kept", "--synct")
    code, _, error = run(capsys, place, *given, result)
    assert code == 0, error
    told = json.loads((tmp_path / "kept" / "summary.json").read_text(encoding="utf-8"))["samples"]
    assert told["number"] == 2 and "kept" in told["how"] and not told["calibrated"]
    row = {k: float(v) for k, v in rows(tmp_path / "kept" / "comparison.csv")["GTV"].items() if k.startswith("davg_d")}
    # four times what 30 HU do in the test above
    width = row["davg_difference_upper"] - row["davg_difference_lower"]
    assert (
        0.4 < width < 4.8
        and row["davg_difference_lower"] < row["davg_difference_rx_percent"] < row["davg_difference_upper"]
    )
    code, _, error = run(capsys, place, *given, place / "result")
    assert code == 2 and "holds no two samples" in error


def test_a_calibrated_card_widens_the_targets_band_of_the_simple_plan(place, tmp_path, capsys):
    import shutil

    shutil.copytree(place / "result", tmp_path / "result")
    summary = json.loads((tmp_path / "result" / "summary.json").read_text(encoding="utf-8"))
    summary["model"]["calibration"] = {
        "dose": {"photon": {"level": 0.8, "patients": 5, "margins_percent": {"d98": 0.4, "davg": 0.25, "d2": 0.0}}}
    }
    (tmp_path / "result" / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    code, _, error = run(
        capsys, place, "--synct", tmp_path / "result", "--samples", 10, "--output", tmp_path / "simple"
    )
    assert code == 0, error
    row = rows(tmp_path / "simple" / "comparison.csv")["GTV"]
    for d, margin in (("d98", 0.4), ("davg", 0.25), ("d2", 0.0)):
        assert float(row[f"{d}_calibrated_lower"]) == pytest.approx(
            float(row[f"{d}_difference_lower"]) - margin, abs=2e-3
        )
        assert float(row[f"{d}_calibrated_upper"]) == pytest.approx(
            float(row[f"{d}_difference_upper"]) + margin, abs=2e-3
        )
    told = json.loads((tmp_path / "simple" / "summary.json").read_text(encoding="utf-8"))["samples"]
    assert told["calibrated"]["level"] == 0.8 and told["calibrated"]["patients"] == 5
    # another plan, or samples that go together otherwise, are not what was calibrated
    for more in (["--plan", place / "plan.json"], ["--correlation-mm", "10"]):
        code, _, error = run(
            capsys,
            place,
            "--synct",
            tmp_path / "result",
            "--samples",
            10,
            *more,
            "--output",
            tmp_path / more[0].strip("-"),
        )
        assert code == 0, error
        assert "davg_calibrated_lower" not in rows(tmp_path / more[0].strip("-") / "comparison.csv")["GTV"]


def test_the_ct_itself_gives_no_difference(place, tmp_path, capsys):
    code, _, error = run(
        capsys, place, "--plan", place / "plan.json", "--synct", place / "ct.nii.gz", "--output", tmp_path / "out"
    )
    assert code == 0, error
    found = rows(tmp_path / "out" / "comparison.csv")
    assert all(float(found["GTV"][f"{d}_difference_rx_percent"]) == 0 for d in ("d98", "davg", "d2"))
    assert all(float(v) == 100 for row in found.values() for k, v in row.items() if k.startswith("gamma"))
    notes = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["notes"]
    assert any("no bands" in n for n in notes)


def test_what_cannot_be_is_refused_in_one_line_and_writes_nothing(place, tmp_path, capsys, monkeypatch):
    ct, target = limb(slices=16, radius=45.0)
    ct.SetOrigin((5000.0, 0.0, 0.0))
    sitk.WriteImage(ct, str(tmp_path / "far.nii.gz"))
    two = geometry.like(sitk.GetArrayFromImage(target) + 1, target, np.uint8)
    sitk.WriteImage(two, str(tmp_path / "two.nii.gz"))
    (tmp_path / "iso.json").write_text('{"isocentre": [900, 0, 0]}', encoding="utf-8")
    output = tmp_path / "out"
    for words, more in (
        ("do not overlap", ["--synct", tmp_path / "far.nii.gz"]),
        ("no structure 'PTV'", ["--target", "PTV"]),
        ("Name it with --target", ["--structures", tmp_path / "two.nii.gz"]),
        ("isocentre (900.0", ["--plan", tmp_path / "iso.json"]),
        ("leave one of the two out", ["--plan", tmp_path / "iso.json", "--modality", "photon"]),
        ("cannot be read as a table", ["--density", tmp_path / "none.csv"]),
        ("no synthetic CT", ["--synct", _empty(tmp_path)]),
        ("0 or more", ["--correlation-mm", "-1"]),
        ("does not exist", ["--synct", tmp_path / "nothing.nii.gz"]),
    ):
        code, out, error = run(capsys, place, *more, "--output", output)
        assert code == 2 and words in error and out == [], (words, error)
        assert not output.exists()
    code, _, error = run(capsys, place, "--synct", place / "result", "--output", place / "result")
    assert code == 2 and "give another folder" in error and (place / "result" / "synct.nii.gz").is_file()
    monkeypatch.setitem(sys.modules, "pydosert", None)
    code, out, error = run(capsys, place, "--output", output)
    assert code == 2 and "needs pydosert: run 'pip install --no-deps pydosert'" in error and not output.exists()


def _empty(folder):
    (folder / "seg").mkdir(exist_ok=True)
    (folder / "seg" / "summary.json").write_text('{"model": {"name": "m"}, "files": {}}', encoding="utf-8")
    return folder / "seg"
