"""Structures from files and back, and which organ a name means."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from rtuncertainty.core import structure_names
from rtuncertainty.core import structure_set as sets
from rtuncertainty.core.errors import InputError

CODE = {
    "scheme": "SCT",
    "value": "2812003",
    "meaning": "Head of femur",
    "modifier": {"scheme": "SCT", "value": "7771000", "meaning": "Left"},
}


def mask(*where):
    array = np.zeros((10, 12, 14), np.uint8)
    if where:
        array[where] = 1
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((5.0, -6.0, 7.0))
    return image


@pytest.fixture
def structures():
    """Two that overlap, one that is empty, one that fits into the first layer."""
    return [
        sets.Structure("head", mask(slice(2, 5), slice(2, 6), slice(2, 8)), (255, 0, 0), CODE),
        sets.Structure("PTV 70", mask(slice(4, 8), slice(5, 9), slice(6, 12)), (0, 255, 0)),
        sets.Structure("empty", mask(), (0, 0, 255)),
        sets.Structure("dot", mask(8, 1, 1), (0, 0, 9)),
    ]


def test_what_is_written_is_read(structures, tmp_path):
    path = tmp_path / "s.seg.nrrd"
    image = sets.as_segmentation(structures)
    assert image.GetNumberOfComponentsPerPixel() == 2
    sitk.WriteImage(image, str(path), useCompression=True)
    for found in (sets.read(path), sets.read(str(path))):
        assert list(found) == [s.name for s in structures]
        for s in structures:
            back = found[s.name]
            assert (
                np.array_equal(sitk.GetArrayFromImage(back.mask), sitk.GetArrayFromImage(s.mask))
                and back.color == s.color
            )
            assert back.mask.GetOrigin() == s.mask.GetOrigin() and back.mask.GetSpacing() == s.mask.GetSpacing()
        code = found["head"].code
        assert {k: code[k] for k in CODE} == CODE and found["dot"].code is None


def test_slicer_reads_all_layers(structures, tmp_path):
    slicer = pytest.importorskip("slicer")
    path = tmp_path / "s.seg.nrrd"
    sitk.WriteImage(sets.as_segmentation(structures), str(path))
    scene = slicer.vtkMRMLScene()
    node, storage = (scene.AddNewNodeByClass(f"vtkMRMLSegmentation{k}Node") for k in ("", "Storage"))
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    segmentation = node.GetSegmentation()
    assert [segmentation.GetNthSegment(i).GetName() for i in range(4)] == [s.name for s in structures]
    for i, s in enumerate(structures):
        image = slicer.vtkOrientedImageData()
        node.GetBinaryLabelmapRepresentation(segmentation.GetNthSegmentID(i), image)
        scalars = image.GetPointData().GetScalars()
        values = [scalars.GetTuple1(k) for k in range(scalars.GetNumberOfTuples())]
        assert sum(values) == sitk.GetArrayFromImage(s.mask).sum()


def test_label_images_take_names_from_the_table_beside_them(tmp_path):
    image = sitk.GetImageFromArray(np.array([[[0, 1, 4], [4, 0, 0]]], np.int16))
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    assert list(sets.read(tmp_path / "a.nii.gz")) == list(sets.read(image)) == ["label 1", "label 4"]
    (tmp_path / "a.json").write_text(json.dumps({"Bladder": 4, "Rectum": 1}), encoding="utf-8")
    found = sets.read(tmp_path / "a.nii.gz")
    assert {n: int(sitk.GetArrayFromImage(s.mask).sum()) for n, s in found.items()} == {"Rectum": 1, "Bladder": 2}
    (tmp_path / "a.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(InputError, match="a.json"):
        sets.read(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(
    "spoil, told",
    [
        (lambda p: p / "none.seg.nrrd", "no such file"),
        (lambda p: (p / "x.nrrd").write_bytes(b"NRRD0004\n") and p / "x.nrrd", "damaged"),
        (lambda p: sitk.Image(4, 4, 4, sitk.sitkFloat32), "whole numbers"),
        (lambda p: sitk.Image(4, 4, 4, sitk.sitkUInt8), "no structure with a voxel"),
        (lambda p: {"a": sitk.Image(4, 4, 4, sitk.sitkUInt8)}, "no structure with a voxel"),
        (lambda p: sitk.Image([4, 4, 4], sitk.sitkVectorUInt8, 3), "segment names"),
    ],
)
def test_what_is_no_segmentation_is_told(tmp_path, spoil, told):
    with pytest.raises(InputError, match=told):
        sets.read(spoil(tmp_path))


def test_label_images_that_are_cut_short_are_told(tmp_path):
    """ITK reads what there is, and the rest of the structures would be missing without a word."""
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 3, (20, 20, 20)).astype(np.uint8))
    for name in ("a.nii", "a.nii.gz"):
        sitk.WriteImage(image, str(tmp_path / name))
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(InputError, match="cut short"):
            sets.read(tmp_path / name)


@pytest.mark.parametrize(
    "key, value", [("Color", "red"), ("Color", "nan 0 0"), ("Layer", "7"), ("Layer", "x"), ("LabelValue", "one")]
)
def test_damaged_headers_of_segments_are_told(structures, tmp_path, key, value):
    image = sets.as_segmentation(structures)
    image.SetMetaData(f"Segment1_{key}", value)
    sitk.WriteImage(image, str(tmp_path / "s.seg.nrrd"))
    with pytest.raises(InputError, match="s.seg.nrrd: .*segment 'PTV 70' is damaged"):
        sets.read(tmp_path / "s.seg.nrrd")


def test_a_scan_is_no_segmentation(tmp_path):
    """An image of whole numbers in HU would become hundreds of structures."""
    sitk.WriteImage(
        sitk.GetImageFromArray(np.arange(1000, dtype=np.int16).reshape(10, 10, 10)), str(tmp_path / "ct.nii.gz")
    )
    with pytest.raises(InputError, match="ct.nii.gz: holds 999 different labels"):
        sets.read(tmp_path / "ct.nii.gz")
    with pytest.raises(InputError, match="holds 256 different labels"):
        sets.read({f"s{k}": mask(1, 1, 1) for k in range(256)})


@pytest.mark.parametrize("table", [{"a": 1, "b": 1}, {"a": 1, "b": 2.5}])
def test_a_table_of_names_gives_each_its_own_whole_number(tmp_path, table):
    sitk.WriteImage(sitk.GetImageFromArray(np.array([[[0, 1, 2], [2, 0, 0]]], np.uint8)), str(tmp_path / "a.nrrd"))
    (tmp_path / "a.json").write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(InputError, match="a.json: gives two names one value"):
        sets.read(tmp_path / "a.nrrd")


@pytest.mark.parametrize(
    "name, organ",
    [
        ("RightParotid", "parotid_right"),
        ("Parotid_L", "parotid_left"),
        ("glnd_parotid_rt", "parotid_right"),
        ("Parotis li", "parotid_left"),
        ("SpinalCord", "spinal_cord"),
        ("Spinal Cord", "spinal_cord"),
        ("BrainStem", "brainstem"),
        ("Oesophagus", "esophagus"),
        ("Bone_Mandible", "mandible"),
        ("Femur_Head_L", "femoral_head_left"),
        ("Femoral_Head_RT", "femoral_head_right"),
        ("BLADDER", "bladder"),
        ("parotid", None),
        ("SpinalCord_PRV05", None),
        ("PTV70", None),
        ("Rectum wall", None),
        ("Bladder left", None),
        ("", None),
        ("Liver", None),
    ],
)
def test_names_in_many_spellings(name, organ):
    assert structure_names.organ(name) == organ


@given(st.text(max_size=30))
def test_any_name_is_an_organ_or_none(name):
    found = structure_names.organ(name)
    assert found is None or structure_names.organ(found) == found


def test_two_names_for_one_organ_are_not_both_taken():
    organs = ["parotid_left", "mandible"]
    assert structure_names.match(["Parotid_L", "LeftParotid", "Mandible", "PTV"], organs) == {
        "Parotid_L": "parotid_left",
        "Mandible": "mandible",
    }
