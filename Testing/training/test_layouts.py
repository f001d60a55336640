"""Every layout in which data come: written with SimpleITK, found, read back with its geometry, and prepared."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from rtuncertainty.core import geometry
from rtuncertainty.phantoms import limb as phantom
from training.data import dicom, layouts, reading
from training.data.labels import Rule, from_mapping, parse, parse_all
from training.data.prepare import synthesis

QUICK = synthesis.Options(spacing=(None, None, None), bias_field="off", register="none")


@pytest.fixture(scope="module")
def limb():
    """A small digital limb that does not lie along the axes of the scanner."""
    turn = sitk.Euler3DTransform((0, 0, 0), 0.1, -0.05, 0.2).GetMatrix()
    return phantom.digital_limb(
        2, size=(44, 40, 6), spacing=(2.2, 2.4, 5.0), direction=turn, origin=(-30.0, 12.0, 55.0)
    )


def write(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def as_read(image):
    return sitk.Cast(image, sitk.sitkFloat32)


def same(a, b):
    return geometry.same_grid(a, b) and np.array_equal(sitk.GetArrayFromImage(a), sitk.GetArrayFromImage(b))


def one(data, layout, **more):
    """The only case of a folder, found by itself and by name."""
    found = layouts.find(data, **more)
    assert found.layout == layout and found == layouts.find(data, layout, **more) and len(found.sources) == 1
    return found, found.sources[0]


@pytest.mark.parametrize("folder, suffix", [("Task1/pelvis/1PA001", ".nii.gz"), ("Task1/AB/1ABA002", ".mha")])
def test_synthrad(limb, tmp_path, folder, suffix):
    for name, image in (("mr", limb.mr), ("ct", limb.ct), ("mask", sitk.Cast(limb.ct > -500, sitk.sitkUInt8))):
        write(image, tmp_path / folder / (name + suffix))
    (tmp_path / folder).parent.joinpath("overview").mkdir()
    for data in (tmp_path, tmp_path / "Task1", (tmp_path / folder).parent):
        found, source = one(data, "synthrad")
        assert found.registered and source.name == folder.split("/")[-1]
    assert same(reading.read(source.mr), as_read(limb.mr)) and same(reading.read(source.ct), as_read(limb.ct))
    case, scores, _ = synthesis.prepare_case(source, QUICK)
    mask = sitk.GetArrayFromImage(geometry.to_axial(reading.read_label(source.mask))) > 0
    assert not case.valid[~mask].any() and case.region.sum() > 0.8 * case.body.sum()
    assert scores["body_dice"] > 0.9 and np.array_equal(case.ct, np.maximum(sitk.GetArrayFromImage(limb.ct), -1000))


def nnunet(root, channels, labels, images, label=None):
    root.mkdir(parents=True)
    content = {"channel_names": channels, "labels": labels, "file_ending": ".nrrd", "numTraining": 1}
    (root / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    for k, image in enumerate(images):
        write(image, root / "imagesTr" / f"limb_01_{k:04d}.nrrd")
    if label is not None:
        write(label, root / "labelsTr" / "limb_01.nrrd")


def test_nnunet_with_ct_as_a_channel(limb, tmp_path):
    classes = {"background": 0, "bone": 1, "tumour": 2}
    nnunet(tmp_path / "Dataset001_Limb", {"0": "T1", "1": "CT"}, classes, [limb.mr, limb.ct], limb.labels)
    found, source = one(tmp_path, "nnunet")
    assert found.registered and [str(r) for r in found.rules] == ["bone=ct", "tumour=2"]
    case, _, _ = synthesis.prepare_case(source, QUICK, found.rules)
    truth = sitk.GetArrayFromImage(geometry.to_axial(limb.labels))
    assert case.name == "limb_01" and np.array_equal(case.labels == case.classes["tumour"], truth == 2)


def test_nnunet_with_labels_in_hu(limb, tmp_path):
    nnunet(tmp_path / "d", {"0": "MR"}, {"background": 0}, [limb.mr], limb.ct)
    found, source = one(tmp_path / "d", "nnunet")
    assert [str(r) for r in found.rules] == ["bone=ct"] and not source.labels
    assert same(reading.read(source.ct), as_read(limb.ct))


def test_nnunet_segmentation_has_no_ct(limb, tmp_path):
    labels = sitk.GetArrayFromImage(limb.labels)
    labels[0, 0, 0] = 3
    labels[2, 18:20, 20:24] = 3
    classes = {"background": 0, "all": [1, 2], "gtv": 2, "ignore": 3}
    nnunet(
        tmp_path / "d",
        {"0": "T1", "1": "T2"},
        classes,
        [limb.mr, limb.mr],
        geometry.like(labels, limb.labels, np.uint8),
    )
    found, source = one(tmp_path / "d", "nnunet")
    assert source.ct is None and "T2" in source.notes[0]
    with pytest.raises(SystemExit, match="--for segmentation"):
        synthesis.run(tmp_path / "d", tmp_path / "out")
    rows = synthesis.run(tmp_path / "d", tmp_path / "out", options=replace(QUICK, purpose="segmentation"))
    case = synthesis.load_case(tmp_path / "out" / "cases" / "limb_01.npz")
    assert rows == [{"case": "limb_01", "kept": "yes", "why": ""}] and case.ct is None
    assert case.classes == {"background": 0, "all": 1, "gtv": 2} and (case.labels == 2).sum() == (labels == 2).sum()
    assert not case.valid[2, 18:20, 20:24].any()


def test_learn2reg(limb, tmp_path):
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    for case in ("0001", "0002"):
        write(limb.mr, tmp_path / "imagesTr" / f"AbdomenMRCT_{case}_0000.nii.gz")
        write(limb.ct, tmp_path / "imagesTr" / f"AbdomenMRCT_{case}_0001.nii.gz")
    write(limb.labels, tmp_path / "labelsTr" / "AbdomenMRCT_0001_0000.nii.gz")
    pair = {k: f"./imagesTr/AbdomenMRCT_0001_000{i}.nii.gz" for i, k in enumerate(("fixed", "moving"))}
    swapped = {a: pair[b].replace("0001_", "0002_") for a, b in (("fixed", "moving"), ("moving", "fixed"))}
    content = {
        "name": "AbdomenMRCT",
        "modality": {"0": "MR", "1": "CT"},
        "labels": {"0": "background", "1": "femur", "2": "gtv"},
        "training_paired_images": [pair],
        "registration_val": [pair, swapped],
        "training": [{"image": pair["fixed"], "label": "./labelsTr/AbdomenMRCT_0001_0000.nii.gz"}],
    }
    for modality in ({"0": "MR", "1": "CT"}, {}):  # told by the channel, or else by the values
        (tmp_path / "AbdomenMRCT_dataset.json").write_text(
            json.dumps({**content, "modality": modality}), encoding="utf-8"
        )
        found = layouts.find(tmp_path)
        assert found.layout == "learn2reg" and not found.registered
        assert [s.name for s in found.sources] == ["AbdomenMRCT_0001", "AbdomenMRCT_0002"]
        assert [str(r) for r in found.rules] == ["bone=ct", "femur=1", "gtv=2"]
        for source in found.sources:
            assert same(reading.read(source.ct), as_read(limb.ct)) and same(reading.read(source.mr), as_read(limb.mr))
        assert set(found.sources[0].labels) == {"label"} and not found.sources[1].labels
    content["registration_val"].append({"fixed": pair["fixed"], "moving": pair["fixed"].replace("0001_", "0002_")})
    (tmp_path / "AbdomenMRCT_dataset.json").write_text(json.dumps(content), encoding="utf-8")
    assert [s.problem for s in layouts.find(tmp_path).sources if s.problem][0].endswith("are both MR")


def test_left_atrium(limb, tmp_path, monkeypatch):
    (tmp_path / "A1").mkdir()
    (tmp_path / "A1" / "mri_norm2.h5").write_bytes(b"")
    found, source = one(tmp_path, "left_atrium")
    monkeypatch.setitem(sys.modules, "h5py", None)
    rows = synthesis.run(tmp_path, tmp_path / "out", options=synthesis.Options(purpose="segmentation"))
    assert "pip install h5py" in rows[0]["why"]
    monkeypatch.undo()
    h5py = pytest.importorskip("h5py")
    image, label = (sitk.GetArrayFromImage(i).transpose(2, 1, 0) for i in (limb.mr, limb.labels))
    with h5py.File(tmp_path / "A1" / "mri_norm2.h5", "w") as f:
        f["image"], f["label"] = (image - image.mean()) / image.std(), (label == 2).astype(np.uint8)
    case, _, findings = synthesis.prepare_case(source, replace(QUICK, purpose="segmentation"), found.rules)
    assert case.ct is None and case.spacing == (0.625,) * 3 and case.classes == {"background": 0, "la": 1}
    assert np.array_equal(case.labels == 1, sitk.GetArrayFromImage(limb.labels) == 2)
    assert any(f.check == "shifted" for f in findings)


def test_plain_folders_with_labels_of_every_kind(limb, tmp_path):
    folder = tmp_path / "cohort" / "p1"
    write(limb.mr, folder / "mr.nii"), write(limb.ct, folder / "ct.nrrd")
    write(limb.labels, folder / "organs.nii.gz"), write(limb.labels == 2, folder / "gtv.mha")
    found, source = one(tmp_path, "plain")
    assert [str(r) for r in found.rules] == ["bone=ct", "gtv=gtv"] and set(source.labels) == {"gtv", "organs"}
    truth = sitk.GetArrayFromImage(geometry.to_axial(limb.labels))
    case, _, _ = synthesis.prepare_case(source, QUICK, found.rules)
    assert np.array_equal(case.labels == 2, truth == 2) and case.classes == synthesis.LABELS
    (tmp_path / "map.json").write_text(json.dumps({"labels": {"femur": "organs:1"}}), encoding="utf-8")
    rules = parse_all([str(tmp_path / "map.json"), "tumour=organs:2", "cortex=ct"])
    case, _, _ = synthesis.prepare_case(source, QUICK, rules)
    assert case.classes == {"background": 0, "femur": 1, "tumour": 2, "cortex": 3}
    assert np.array_equal(
        (case.labels == 2) | (case.labels == 3), (truth == 2) & (case.labels != 3) | (case.labels == 3)
    )
    with pytest.raises(synthesis.checks.BadCase, match="write femur=FILE:VALUE"):
        synthesis.prepare_case(source, QUICK, (Rule("femur", None, (1,)),))
    with pytest.raises(SystemExit, match="no case has a label image organ; there are gtv, organs"):
        synthesis.run(tmp_path, tmp_path / "out", options=synthesis.Options(labels=("x=organ",)))


@pytest.mark.parametrize("text", ["bone", "=3", "x=", "background=0", "a=b:c:1"])
def test_rules_that_say_nothing_are_refused(text):
    with pytest.raises(SystemExit, match="NAME=VALUE"):
        parse(text)


def test_rules_in_both_directions():
    assert from_mapping({"0": "background", "1": "liver", "4": "spleen"}) == (
        Rule("liver", None, (1,)),
        Rule("spleen", None, (4,)),
    )
    assert from_mapping({"background": 0, "whole": [1, 2], "core": 2}) == (
        Rule("whole", None, (1, 2)),
        Rule("core", None, (2,)),
    )
    for text in ("bone=ct", "a=1,2", "a=file:3", "a=file"):
        assert str(parse(text)) == text
    with pytest.raises(SystemExit, match="twice"):
        parse_all(["a=1", "a=2"])


def write_series(image, folder, uid, modality, number, description, patient="P", skip=(), tags=()):
    """A DICOM series, one file a slice, with the tags that place it."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    direction = np.array(image.GetDirection()).reshape(3, 3)
    for z in range(image.GetSize()[2]):
        if z in skip:
            continue
        one = sitk.Cast(image[:, :, z], sitk.sitkInt16)
        header = {
            "0008|0060": modality,
            "0008|0018": f"{uid}.{z + 1}",
            "0020|000e": uid,
            "0020|000d": "1.2.3",
            "0010|0020": patient,
            "0020|0011": str(number),
            "0008|103e": description,
            "0020|0013": str(z),
            "0008|0008": "ORIGINAL\\PRIMARY",
            "0020|0032": "\\".join(f"{v:.6f}" for v in image.TransformIndexToPhysicalPoint((0, 0, z))),
            "0020|0037": "\\".join(f"{v:.8f}" for v in [*direction[:, 0], *direction[:, 1]]),
        }
        for key, value in (header | dict(tags)).items():
            one.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{uid}.{99 - z}.dcm"))  # names in no useful order
        writer.Execute(one)


def test_a_dicom_study(limb, tmp_path):
    study = tmp_path / "patients" / "P"
    write_series(limb.mr, study / "mr", "1.2.3.1", "MR", 4, "T1 tra")
    write_series(limb.mr[:30, :30], study / "mr", "1.2.3.2", "MR", 2, "T2 small")
    write_series(
        limb.mr,
        study / "mr" / "scouts",
        "1.2.3.3",
        "MR",
        1,
        "scout",
        tags={"0008|0008": "ORIGINAL\\PRIMARY\\LOCALIZER"}.items(),
    )
    write_series(limb.ct, study / "ct", "1.2.3.4", "CT", 5, "planning")
    write_series(limb.ct, study / "ct", "1.2.3.5", "CT", 6, "gap", skip=(3,))
    (study / "ct" / "notes.txt").write_text("no DICOM", encoding="utf-8")
    for data, name in ((tmp_path / "patients", "P"), (study, "P")):  # patients, and the series of one of them
        found, source = one(data, "dicom")
        assert source.name == name and not found.registered and not source.warnings
        for place, truth in ((source.mr, limb.mr), (source.ct, limb.ct)):
            image = reading.read(place)
            assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(truth)) and geometry.same_grid(
                image, truth
            )
        assert (
            source.mr.description == "T1 tra"
            and "a localiser" in source.notes[0]
            and "T2 small' (6 files) (no more voxels)" in source.notes[0]
        )
        assert source.ct.number == 5 and "slices are missing" in source.notes[1]
    assert layouts.find(study, mr_series="t2").sources[0].mr.description == "T2 small"
    assert layouts.find(study, mr_series="flair").sources[0].problem.startswith("no usable MR")
    case, _, _ = synthesis.prepare_case(source, QUICK)
    assert (case.labels == 1).sum() > 50 and reading.read(source.mr).GetMetaData("modality") == "MR"


def test_dicom_patients_are_not_mixed(limb, tmp_path):
    write_series(limb.mr, tmp_path / "a", "1.2.4.1", "MR", 1, "T1", "A")
    write_series(limb.ct, tmp_path / "b", "1.2.4.2", "CT", 1, "CT", "B")
    assert [s.ct for s in layouts.find(tmp_path).sources] == [None]
    write_series(limb.ct, tmp_path / "a", "1.2.4.3", "CT", 2, "CT", "B")
    assert "different patient IDs (A, B)" in layouts.find(tmp_path).sources[0].warnings[0]


def test_echoes_and_slices_without_order_are_no_volume(limb, tmp_path):
    write_series(limb.mr, tmp_path / "s", "1.2.5.1", "MR", 1, "echo 1")
    for file in list((tmp_path / "s").iterdir()):
        image = sitk.ReadImage(str(file))
        image[0, 0, 0] = 7
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(file.with_name("e2" + file.name)))
        writer.Execute(image)
    [series] = dicom.scan(tmp_path)
    assert "at one position" in series.problem and dicom.choose([series], "MR")[0] is None


def test_what_is_no_data_is_told(tmp_path):
    with pytest.raises(SystemExit, match="no such folder"):
        layouts.find(tmp_path / "absent")
    with pytest.raises(SystemExit, match="mr.nii.gz"):
        layouts.find(tmp_path)
    with pytest.raises(SystemExit, match="one of learn2reg, nnunet, synthrad"):
        layouts.find(tmp_path, "bids")


def test_cases_of_the_same_name_are_kept_apart(limb, tmp_path):
    for part in ("train", "test"):
        write(limb.mr, tmp_path / part / "p1" / "mr.nii.gz")
    assert [s.name for s in layouts.find(tmp_path).sources] == ["p1", "p1_2"]


@settings(max_examples=8, deadline=None)
@given(
    turn=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    swap=st.sampled_from(["LPS", "RAS", "PIR", "SLA"]),
    shift=st.tuples(*[st.floats(-6, 6)] * 3),
    spacing=st.tuples(*[st.floats(1.5, 3.0)] * 3),
)
def test_a_prepared_ct_is_where_the_mr_says(turn, swap, shift, spacing):
    """HU that are linear in space come out as that function of each MR voxel's place, however the CT's grid lies."""
    slope = np.array([6.0, -4.0, 3.0])

    def image(size, spacing, values, turn=(0, 0, 0), shift=(0, 0, 0)):
        grid = sitk.Image(size, sitk.sitkFloat32)
        grid.SetSpacing(spacing)
        grid.SetDirection(sitk.Euler3DTransform((0, 0, 0), *turn).GetMatrix())
        middle = grid.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in size])
        grid.SetOrigin([s - m for s, m in zip(shift, middle)])
        return geometry.like(values(places(grid)), grid)

    def places(grid):
        index = np.indices(grid.GetSize()[::-1])[::-1].reshape(3, -1)
        matrix = np.array(grid.GetDirection()).reshape(3, 3) * grid.GetSpacing()
        return (matrix @ index + np.array(grid.GetOrigin())[:, None]).reshape(3, *grid.GetSize()[::-1])

    class Place:
        def __init__(self, image):
            self.image = image

        def read(self):
            return self.image

    def tissue(p):
        r = np.hypot(p[0], p[1])
        return 200 + 300 * (r < 18) + 5 * np.sin(p[0]) - 199 * (r > 20)

    mr = image((26, 24, 12), (2.5, 2.5, 4.0), tissue, (0.1, 0.05, -0.1))
    extent = [int(np.ceil(120 / s)) for s in spacing]
    ct = sitk.DICOMOrient(image(extent, spacing, lambda p: np.tensordot(slope, p, 1), turn, shift), swap)
    case, _, _ = synthesis.prepare_case(layouts.Source("a", Place(mr), Place(ct)), QUICK, (Rule("bone", "ct"),))
    truth = np.tensordot(slope, places(geometry.to_axial(mr)), 1)
    assert case.region.sum() > 300 and np.abs(case.ct - truth)[case.region].max() < 0.5
