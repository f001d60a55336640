"""Results of other tools, in the forms that these tools write, become results of the project."""

import json

import make_foreign as foreign
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import stats

import rtuncertainty
from rtuncertainty.cli.command_line import main
from rtuncertainty.core import geometry
from rtuncertainty.report.build import write_report
from rtuncertainty.results import Result

ML = np.prod(foreign.SPACING) / 1000


@pytest.fixture
def image(tmp_path):
    """The patient's CT, as nnU-Net names it."""
    return foreign.write(foreign.ct(), tmp_path / "case_01_0000.nii.gz")


def collected(tmp_path, image, *sources, **options) -> Result:
    """What `collect` makes of it, written and read again."""
    rtuncertainty.collect(image, list(sources), **options).write(tmp_path / "result")
    found = Result.read(tmp_path / "result")
    found.require_files()
    return found


def array(found: Result, key: str, structure=None) -> np.ndarray:
    return sitk.GetArrayFromImage(found.image(key, structure))


def volumes(found: Result) -> dict[str, float]:
    return {row["structure"]: float(row["volume_ml"]) for row in found.table("volumes")}


# -- one segmentation


@pytest.mark.parametrize("form", ["folder", "multilabel", "seg.nrrd", "labels and .json"])
def test_one_segmentation_has_volumes_and_no_uncertainty(tmp_path, image, form):
    if form == "folder":
        given = foreign.total_folder(tmp_path / "seg")
    elif form == "multilabel":
        given = foreign.total_multilabel(tmp_path / "seg" / "segmentations.nii.gz")
    elif form == "seg.nrrd":
        given = foreign.seg_nrrd(tmp_path / "seg" / "a.seg.nrrd").parent
    else:
        given = foreign.write(foreign.labels(), tmp_path / "seg" / "monai_trans.nii.gz")
        given.with_name("monai_trans.json").write_text(json.dumps({n: k for k, n in enumerate(foreign.NAMES, 1)}))
    found = collected(tmp_path, image, given)
    masks = {n: sitk.GetArrayFromImage(s.mask) > 0 for n, s in found.structures().items()}
    for k, name in enumerate(foreign.NAMES, 1):
        assert np.array_equal(masks[name], foreign.labels() == k)
        assert volumes(found)[name] == pytest.approx((foreign.labels() == k).sum() * ML, abs=1e-3)
    # no SD, no interval, no percentile, and it is said so: never a zero
    for key in ("entropy", "inside", "probabilities", "volume_distribution", "volume_intervals", "quality"):
        assert not found.has(key), key
    assert all(row["lower_ml"] == row["upper_ml"] == "" and row["calibrated"] == "no" for row in found.table("volumes"))
    assert any("this model gives none" in note for note in found.notes)
    assert found.card["name"] == ("TotalSegmentator" if form in ("folder", "multilabel") else "unknown tool")
    assert geometry.same_grid(found.grid(), sitk.ReadImage(str(image)))


def test_the_version_is_read_where_the_tool_left_it(tmp_path, image):
    folder = foreign.total_folder(tmp_path / "seg")
    (folder / "report.json").write_text(json.dumps({"totalsegmentator_version": "2.18.0", "task": "total"}))
    found = collected(tmp_path, image, folder)
    assert found.card["version"] == "2.18.0" == found.summary["source"]["version"]
    assert found.summary["source"]["recognised"] == "in the form of TotalSegmentator"


def test_a_file_in_other_axes_is_turned_exactly(tmp_path, image):
    turned = sitk.DICOMOrient(foreign.image(foreign.labels()), "RAS")
    (tmp_path / "seg").mkdir()
    sitk.WriteImage(turned, str(tmp_path / "seg" / "a.nii.gz"))
    (tmp_path / "seg" / "a.json").write_text('{"liver": 1, "spleen": 2, "rib": 3}')
    found = collected(tmp_path, image, tmp_path / "seg")
    assert np.array_equal(sitk.GetArrayFromImage(found.structures()["spleen"].mask) > 0, foreign.labels() == 2)


def test_a_segmentation_that_slicer_cropped_is_put_back(tmp_path, image):
    whole = sitk.ReadImage(str(foreign.seg_nrrd(tmp_path / "whole.seg.nrrd")))
    part = sitk.RegionOfInterest(whole, [20, 16, 12], [2, 3, 1])
    for key in whole.GetMetaDataKeys():
        if key.startswith("Segment"):
            part.SetMetaData(key, whole.GetMetaData(key))
    (tmp_path / "seg").mkdir()
    sitk.WriteImage(part, str(tmp_path / "seg" / "part.seg.nrrd"))
    found = collected(tmp_path, image, tmp_path / "seg")
    assert volumes(found)["liver"] == pytest.approx((foreign.labels() == 1).sum() * ML, abs=1e-3)


# -- several segmentations


def test_members_of_a_segmentation_give_percentiles_by_hand(tmp_path, image):
    for k in range(4):
        foreign.seg_nrrd(tmp_path / "tta" / f"member_{k}.seg.nrrd", foreign.labels(grow=k))
    found = collected(tmp_path, image, tmp_path / "tta")
    liver = np.stack([foreign.labels(grow=k) == 1 for k in range(4)])
    share = liver.mean(0)
    # the contour of percentile q holds what more than 1 − q of the members hold; the shown one what most hold
    inside = array(found, "inside", "liver")
    assert np.array_equal(inside > 5, share > 0.05) and np.array_equal(inside > 95, share > 0.95)
    shown = sitk.GetArrayFromImage(found.structures()["liver"].mask) > 0
    assert np.array_equal(shown, share > 0.5)
    rows = {float(r["percentile"]): r for r in found.table("volume_distribution") if r["structure"] == "liver"}
    assert float(rows[5]["volume_ml"]) == pytest.approx(liver[0].sum() * ML, abs=1e-3)
    assert float(rows[95]["volume_ml"]) == pytest.approx(liver[3].sum() * ML, abs=1e-3)
    # sampled, and marked as not calibrated: no interval
    assert all(r["calibrated_ml"] == "" for r in found.table("volume_distribution"))
    assert {(r["lower_ml"], r["calibrated"]) for r in found.table("volume_intervals")} == {("", "no")}
    assert not found.has("probabilities")
    p = np.stack([(np.stack([foreign.labels(grow=k) for k in range(4)]) == c).mean(0) for c in range(4)])
    assert np.allclose(array(found, "entropy"), stats.entropy(p), atol=1e-5)
    # the members are kept as samples
    assert found.samples == 4
    for k in range(4):
        mask = found.structures("sample_structures", str(k + 1))["liver"].mask
        assert np.array_equal(sitk.GetArrayFromImage(mask) > 0, liver[k])


def test_folds_of_nnunet_are_averaged_as_nnunet_does(tmp_path, image):
    folds = [foreign.fold(tmp_path / f"fold_{k}", foreign.labels(grow=k), 0.9 - 0.15 * k) for k in range(3)]
    found = collected(tmp_path, image, *folds)
    p = np.stack([np.load(f / "case_01.npz")["probabilities"] for f in folds])
    mean = p.mean(0)  # nnunetv2.ensembling: the mean of the softmax, then argmax
    labels = mean.argmax(0)
    for k, name in enumerate(foreign.NAMES, 1):
        assert np.array_equal(sitk.GetArrayFromImage(found.structures()[name].mask) > 0, labels == k)
        assert np.allclose(array(found, "probabilities", name), mean[k], atol=1e-6)
    assert np.allclose(array(found, "entropy"), stats.entropy(mean), atol=1e-5)
    information = stats.entropy(mean) - stats.entropy(p, axis=1).mean(0)
    assert np.allclose(array(found, "mutual_information"), information.clip(0), atol=1e-5)
    assert found.card["name"] == "nnU-Net Dataset123_Abdomen" and found.card["version"] == "unknown version"
    assert found.summary["options"] == {"members": 3}
    assert found.summary["source"]["files"][0] == "fold_0/case_01.nii.gz"


def test_regions_of_nnunet_may_hold_one_another(tmp_path, image):
    array_ = foreign.labels()
    values = np.stack([np.where(np.isin(array_, ks), 0.8, 0.1) for ks in ((1, 2), (2,))]).astype(np.float32)
    for k in range(2):
        folder = tmp_path / f"fold_{k}"
        foreign.dataset(folder, {"background": 0, "whole": [1, 2], "core": [2]})
        foreign.npz(folder / "case_01.npz", values - 0.02 * k, foreign.properties(foreign.image(array_)))
    found = collected(tmp_path, image, tmp_path / "fold_0", tmp_path / "fold_1")
    assert volumes(found)["whole"] == pytest.approx(np.isin(array_, (1, 2)).sum() * ML, abs=1e-3)
    assert volumes(found)["core"] == pytest.approx((array_ == 2).sum() * ML, abs=1e-3)
    assert not found.has("mutual_information")  # structures that overlap share no distribution


def test_probabilities_that_nibabel_reoriented_lie_where_the_image_lies(tmp_path, image):
    turned = sitk.DICOMOrient(foreign.image(foreign.labels()), "RAS")
    # RAS, what NibabelIOWithReorient pickles: the affine of the reoriented image
    affine = np.eye(4)
    affine[:3, :3] = np.array(turned.GetDirection()).reshape(3, 3) * turned.GetSpacing()
    affine[:3, 3] = turned.GetOrigin()
    affine = np.diag([-1.0, -1, 1, 1]) @ affine
    known = {"nibabel_stuff": {"original_affine": np.eye(4), "reoriented_affine": affine}, "spacing": [3.0, 2.5, 2.0]}
    foreign.dataset(tmp_path / "nn")
    foreign.npz(tmp_path / "nn" / "case_01.npz", foreign.probabilities(sitk.GetArrayFromImage(turned)), known)
    found = collected(tmp_path, image, tmp_path / "nn")
    assert np.array_equal(sitk.GetArrayFromImage(found.structures()["spleen"].mask) > 0, foreign.labels() == 2)
    # of one probability map: its own contours, no SD over members
    assert np.array_equal(array(found, "inside", "spleen") > 50, foreign.labels() == 2)
    assert not found.has("mutual_information") and found.samples == 0


def test_probabilities_of_totalsegmentator_come_on_voxels_of_their_own(tmp_path, image):
    """--ml --save_probabilities: the image is in RAS and resampled, the .pkl says where; the segmentation is shown."""
    seg = foreign.total_multilabel(tmp_path / "seg.nii.gz")
    whole = sitk.DICOMOrient(foreign.image(foreign.labels()), "RAS")
    grid = geometry.resampled_grid(whole, [1.5, 1.5, 1.5])
    low = sitk.GetArrayFromImage(sitk.Resample(whole, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0))
    foreign.npz(tmp_path / "probs.npz", foreign.probabilities(low), foreign.properties(grid))
    found = collected(tmp_path, image, seg, tmp_path / "probs.npz")
    assert volumes(found)["liver"] == pytest.approx((foreign.labels() == 1).sum() * ML, abs=1e-3)
    p = array(found, "probabilities", "liver")
    assert p[8, 9, 7] == pytest.approx(0.9, abs=1e-5) and p[0, 0, 0] < 0.1
    assert any("interpolated onto the input's" in note for note in found.notes)


def test_one_patient_of_a_folder_with_several(tmp_path, image):
    folder = foreign.fold(tmp_path / "nn", foreign.labels())
    foreign.fold(folder, foreign.labels(grow=2), case="case_02")
    assert volumes(collected(tmp_path, image, folder))["liver"] == pytest.approx(7.56)
    assert volumes(collected(tmp_path, image, folder, case="case_02"))["liver"] == pytest.approx(9.72)


# -- synthetic CTs


def test_synthetic_cts_have_a_mean_and_an_sd(tmp_path, image):
    members = [foreign.ct(20, seed) for seed in range(1, 5)]
    for k, hu in enumerate(members):
        foreign.write(hu, tmp_path / "sct" / f"sct_{k}.nii.gz")
    found = collected(tmp_path, image, tmp_path / "sct", modality="MR")
    assert np.abs(array(found, "synct") - np.mean(members, 0).clip(-1024)).max() <= 0.51
    assert np.allclose(array(found, "parameter_sd"), np.std(members, 0, ddof=1), rtol=1e-3, atol=0.01)
    assert np.array_equal(array(found, "parameter_sd"), array(found, "predictive_sd"))
    assert not found.has("intrinsic_sd") and found.samples == 4
    assert "Intrinsic uncertainty (SD): this model gives none." in found.notes
    assert any("what all of them get wrong is not in them" in note for note in found.notes)
    assert found.card["input"]["modality"] == "MR"
    text = write_report(tmp_path / "result", image).read_text(encoding="utf-8")
    assert "alone: the model gives no other" in text and "Never checked against truth" in text


def test_one_synthetic_ct_has_no_sd(tmp_path, image):
    foreign.write(foreign.ct(3), tmp_path / "sct" / "sct.nii.gz")
    found = collected(tmp_path, image, tmp_path / "sct")
    for key in ("parameter_sd", "intrinsic_sd", "predictive_sd"):
        assert not found.has(key)
    assert sum("this model gives none" in note for note in found.notes) == 3
    page = write_report(tmp_path / "result", image).read_text(encoding="utf-8")
    assert "<h1>Synthetic CT</h1>" in page


def source(folder, **said) -> None:
    (folder / "source.json").write_text(json.dumps(said), encoding="utf-8")


def test_source_json_names_tool_version_and_files(tmp_path, image):
    folder = tmp_path / "impact"
    for k in range(2):
        foreign.write(foreign.ct(10, k), folder / f"sct_{k}.nii.gz")
        foreign.write(
            np.full(foreign.SIZE[::-1], 30.0 + 10 * k, np.float32) + foreign.labels(), folder / f"sd_{k}.nii.gz"
        )
    foreign.write(foreign.labels(), folder / "seg.nii.gz")
    foreign.write(foreign.ct(), folder / "mr.nii.gz")
    code = {"scheme": "SCT", "value": "10200004", "meaning": "Liver"}
    source(
        folder,
        tool="ImpactSynth",
        version="1.2",
        input="mr.nii.gz",
        synct=["sct_0.nii.gz", "sct_1.nii.gz"],
        sd=["sd_0.nii.gz", "sd_1.nii.gz"],
        segmentations="seg.nii.gz",
        structures={"Leber, links": {"label": 1, "color": [1, 2, 3], "code": code}, "Milz (größer)": 2, "CTV 50/60": 3},
    )
    found = collected(tmp_path, None, folder)
    assert (found.card["name"], found.card["version"], found.input_name()) == ("ImpactSynth", "1.2", "mr")
    assert found.summary["source"]["recognised"] == "as its source.json says"
    assert set(volumes(found)) == {"Leber, links", "Milz (größer)", "CTV 50/60"}
    liver = found.structures()["Leber, links"]
    assert liver.color == (1, 2, 3) and liver.code["value"] == "10200004"
    # members' own variances add to that over the members (law of total variance)
    own = [np.asarray(30.0 + 10 * k + foreign.labels()) for k in range(2)]
    members = [foreign.ct(10, k) for k in range(2)]
    total = np.mean(np.square(own), 0) + np.var(members, 0, ddof=1)
    assert np.allclose(array(found, "predictive_sd"), np.sqrt(total), rtol=1e-3)
    assert np.allclose(array(found, "intrinsic_sd"), np.sqrt(np.mean(np.square(own), 0)), rtol=1e-4)
    assert found.card["calibration"] == {} == found.card["accuracy"]


def test_a_single_map_of_the_sd_is_taken_as_it_is(tmp_path, image):
    folder = tmp_path / "vendor"
    foreign.write(foreign.ct(3), folder / "sct.nii.gz")
    foreign.write(20.0 + foreign.labels().astype(np.float32), folder / "sd.nii.gz")
    source(folder, tool="Vendor", version="7", synct="sct.nii.gz", sd="sd.nii.gz")
    found = collected(tmp_path, image, folder)
    assert np.allclose(array(found, "predictive_sd"), 20.0 + foreign.labels())
    assert not found.has("parameter_sd")
    text = write_report(tmp_path / "result", image).read_text(encoding="utf-8")
    assert "what it is made of is not known" in text


# -- deformations


@pytest.fixture
def scans(tmp_path):
    """Daily and planning CT, the latter 4 mm (two voxels) to the left, and its structures."""
    daily = foreign.write(foreign.ct(0), tmp_path / "daily.nii.gz")
    plan = foreign.write(np.roll(foreign.ct(0), 2, 2), tmp_path / "plan.nii.gz")
    drawn = foreign.seg_nrrd(tmp_path / "plan.seg.nrrd", np.roll(foreign.labels(), 2, 2))
    return daily, {"planning": plan, "planning_structures": drawn}


@pytest.mark.parametrize("nifti", [True, False])
def test_one_deformation_moves_the_structures(tmp_path, scans, nifti):
    daily, options = scans
    folder = foreign.field(tmp_path / "dvf" / ("field.nii.gz" if nifti else "transform.h5"), (4, 0, 0), nifti).parent
    found = collected(tmp_path, daily, folder, **options)
    for k, name in enumerate(foreign.NAMES, 1):
        assert np.array_equal(
            sitk.GetArrayFromImage(found.structures("propagated")[name].mask) > 0, foreign.labels() == k
        )
    assert not found.has("displacement_sd") and not found.has("inside")
    assert "Uncertainty of the deformation (SD): this model gives none." in found.notes
    assert {row["light"] for row in found.table("structure_table")} == {"amber"}  # nothing speaks for it
    assert found.summary["similarity"]["after"] > found.summary["similarity"]["before"]
    assert np.allclose(sitk.GetArrayFromImage(found.transform())[..., 0], 4) and found.summary["rigid"] is None
    page = write_report(tmp_path / "result", daily).read_text(encoding="utf-8")
    assert "<h1>Propagated contours</h1>" in page and "Rigid alignment" not in page


def test_displacement_vectors_of_nifti_are_ras(tmp_path, scans):
    """Intent 1006 (NIFTI_INTENT_DISPVECT) is RAS by the standard: minus 4 mm there are 4 mm in LPS."""
    daily, options = scans
    file = foreign.field(tmp_path / "dvf" / "field.nii", (-4, 0, 0))
    data = bytearray(file.read_bytes())
    data[68:70] = (1006).to_bytes(2, "little")
    file.write_bytes(data)
    found = collected(tmp_path, daily, file, **options)
    assert np.allclose(sitk.GetArrayFromImage(found.transform()), (4, 0, 0))


def test_several_deformations_have_an_sd(tmp_path, scans):
    daily, options = scans
    shifts = (2.0, 4.0, 6.0)
    for k, shift in enumerate(shifts):
        foreign.field(tmp_path / "dvf" / f"field_{k}.nii.gz", (shift, 0, 0))
    found = collected(tmp_path, daily, tmp_path / "dvf", **options)
    body = array(found, "displacement_sd") > 0
    assert body.any() and np.allclose(array(found, "displacement_sd")[body], np.std(shifts, ddof=1))
    share = np.mean([np.roll(foreign.labels() == 1, 2 - round(s / 2), 2) for s in shifts], 0)
    inside = array(found, "inside", "liver")
    assert np.array_equal(inside > 5, share > 0.05) and np.array_equal(inside > 95, share > 0.95)
    row = next(r for r in found.table("structure_table") if r["structure"] == "liver")
    assert row["propagated_lower_ml"] == "" and float(row["propagated_sd_mm"]) < np.std(shifts, ddof=1)
    # too small a patient to compare skins, bones or lungs: members that agree are no proof
    assert row["light"] == "amber" and set(found.summary["checks"].values()) == {None}


def test_mirrored_vectors_are_found_out(tmp_path, scans):
    from rtuncertainty.core.errors import InputError

    daily, options = scans
    folder = foreign.field(tmp_path / "dvf" / "field.nii.gz", (-4, 0, 0)).parent
    with pytest.raises(InputError, match=r"field.nii.gz: its vectors are RAS, not LPS: .*write it as ITK does"):
        collected(tmp_path, daily, folder, **options)


# -- what takes a result takes these


def test_report_bands_and_export_read_the_folder(tmp_path, capsys):
    """The command, and on its folder report, dvh --bands, dvh --kept-samples and export."""
    from make_dicom import write_series

    from rtuncertainty import dicom

    series = write_series(foreign.image(foreign.ct().astype(np.int16)), tmp_path / "dicom")
    for k in range(3):
        foreign.fold(tmp_path / f"fold_{k}", foreign.labels(grow=k), 0.9 - 0.1 * k)
    command = ["collect", "--input", str(series), "--from", *(str(tmp_path / f"fold_{k}") for k in range(3))]
    assert main([*command, "--output", str(tmp_path / "out"), "--report", "--progress", "none"]) == 0
    out = tmp_path / "out"
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "nnU-Net Dataset123_Abdomen" in page and "not calibrated" in page and "90% interval" in page
    assert "Look at all of it" in page and 'class="box good"' not in page  # nothing was checked, so nothing is green
    assert "Samples, seed" not in page and "Weights, SHA-256" not in page
    dose = foreign.write(
        np.broadcast_to(np.linspace(0, 60, 24), foreign.SIZE[::-1]).astype(np.float32), tmp_path / "d.nrrd"
    )
    structures = out / "structures.seg.nrrd"
    for more in ([], ["--kept-samples"]):
        table = tmp_path / f"dvh{len(more)}.csv"
        dvh = ["dvh", "--dose", str(dose), "--structures", str(structures), "--bands", str(out), "--output", str(table)]
        assert main([*dvh, *more]) == 0
        assert "liver" in table.read_text(encoding="utf-8")
    done = dicom.export_result(out, series, tmp_path / "export", what=["rtstruct"])
    assert "3 structures" in done.written["rtstruct"]
    capsys.readouterr()
