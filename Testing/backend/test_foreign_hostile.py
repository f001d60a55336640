"""What cannot be read as another tool's result is refused in one line that names the file and what to do."""

import json
import pickle

import make_foreign as foreign
import numpy as np
import pytest
import SimpleITK as sitk

import rtuncertainty
from rtuncertainty.cli.command_line import main
from rtuncertainty.core.errors import InputError
from rtuncertainty.results import Result


@pytest.fixture
def image(tmp_path):
    """The patient's CT."""
    return foreign.write(foreign.ct(), tmp_path / "case_01_0000.nii.gz")


def refused(image, *sources, **options) -> str:
    """The message, which is one line."""
    with pytest.raises(InputError) as error:
        result = rtuncertainty.collect(image, list(sources), **options)
        list(result.content.get("samples") or ())
    assert "\n" not in str(error.value)
    return str(error.value)


def source(folder, **said):
    folder.mkdir(exist_ok=True)
    (folder / "source.json").write_text(json.dumps(said), encoding="utf-8")
    return folder


# -- geometry


def test_other_voxels(tmp_path, image):
    moved = foreign.image(foreign.labels())
    moved.SetOrigin((0, 0, 0))
    (tmp_path / "seg").mkdir()
    sitk.WriteImage(sitk.Equal(moved, 1), str(tmp_path / "seg" / "liver.nii.gz"))
    text = refused(image, tmp_path / "seg")
    assert "liver.nii.gz: lies on other voxels" in text and "--input" in text
    foreign.write(foreign.ct()[:-2], tmp_path / "sct" / "sct.nii.gz")
    assert "sct.nii.gz: lies on other voxels (24 × 20 × 14" in refused(image, tmp_path / "sct")


def test_axes_in_another_order(tmp_path, image):
    folder = foreign.fold(tmp_path / "nn", foreign.labels())
    swapped = foreign.probabilities(foreign.labels()).transpose(0, 3, 2, 1)
    foreign.npz(folder / "case_01.npz", swapped, foreign.properties(foreign.image(foreign.labels())))
    text = refused(image, folder)
    assert "case_01.npz: holds [class, x, y, z]" in text and "transpose it" in text


def test_axes_in_another_order_where_the_shape_is_the_same(tmp_path):
    """In a cube the shape tells nothing: the segmentation beside it does."""
    cube = np.zeros((16, 16, 16), np.uint8)
    cube[2:6, 4:9, 9:15] = 1
    hu = np.where(cube, 50.0, -1000.0).astype(np.float32)
    hu[1:-1, 1:-1, 1:-1][cube[1:-1, 1:-1, 1:-1] == 0] = -90
    image = foreign.write(hu, tmp_path / "ct.nii.gz")
    folder = tmp_path / "nn"
    foreign.dataset(folder, {"background": 0, "liver": 1})
    foreign.write(cube, folder / "ct.nii.gz")
    values = foreign.probabilities(cube, classes=1)
    foreign.npz(folder / "ct.npz", values, foreign.properties(foreign.image(cube)))
    assert rtuncertainty.collect(image, folder).table("volumes")[0]["structure"] == "liver"
    foreign.npz(folder / "ct.npz", values.transpose(0, 3, 2, 1), foreign.properties(foreign.image(cube)))
    text = refused(image, folder)
    assert "its probabilities are not those of" in text and "[class, z, y, x]" in text


def test_probabilities_without_a_place(tmp_path, image):
    foreign.dataset(tmp_path / "nn")
    foreign.npz(tmp_path / "nn" / "case_01.npz", foreign.probabilities(foreign.labels()))
    assert "has no case_01.pkl beside it" in refused(image, tmp_path / "nn")


# -- values


@pytest.mark.parametrize("offset, scale", [(1024, 1), (0, 1e-3), (0, 100)])
def test_no_hounsfield_units(tmp_path, image, offset, scale):
    foreign.write((foreign.ct(0) + offset) * scale, tmp_path / "sct" / "sct.nii.gz")
    text = refused(image, tmp_path / "sct")
    assert "sct.nii.gz: is no CT in HU" in text and "water 0" in text


def test_the_input_is_no_member(tmp_path):
    """It may lie among them; a copy of it may not."""
    image = foreign.write(foreign.ct(), tmp_path / "sct" / "cbct.nii.gz")
    foreign.write(foreign.ct(5, 1), tmp_path / "sct" / "sct.nii.gz")
    assert rtuncertainty.collect(image, tmp_path / "sct").summary["options"] == {"members": 1}
    foreign.write(foreign.ct(), tmp_path / "sct" / "copy.nii.gz")
    assert "copy.nii.gz: is the input image itself" in refused(image, tmp_path / "sct")
    foreign.total_folder(tmp_path / "seg")
    other = foreign.write(foreign.ct(), tmp_path / "seg" / "ct.nii.gz")
    assert "holds masks beside other images" in refused(other, tmp_path / "seg")


def test_the_same_member_twice(tmp_path, image):
    for k in range(2):
        foreign.write(foreign.ct(5, 1), tmp_path / "sct" / f"sct_{k}.nii.gz")
    assert "the same in every voxel" in refused(image, tmp_path / "sct")
    assert "is given twice" in refused(image, tmp_path / "sct", tmp_path / "sct")


@pytest.mark.parametrize(
    "values, told",
    [
        (lambda p: p * 0.7, "add up to 0.7 to 0.7, not 1"),
        (lambda p: np.log(p + 1e-3), "where probabilities are 0 to 1"),
        (lambda p: np.where(p > 0.5, np.nan, p), "where probabilities are 0 to 1"),
        (lambda p: p[:3], "holds 3 classes, but .*names 4 with the background"),
        (lambda p: p.argmax(0), "must be \\[class, z, y, x\\] of floating-point numbers"),
    ],
)
def test_what_are_no_probabilities(tmp_path, image, values, told):
    folder = foreign.fold(tmp_path / "nn", foreign.labels())
    (folder / "case_01.nii.gz").unlink()
    foreign.npz(folder / "case_01.npz", values(foreign.probabilities(foreign.labels())))
    with pytest.raises(InputError, match=told):
        rtuncertainty.collect(image, folder)


def test_nnunet_1_and_damaged_files(tmp_path, image):
    folder = foreign.fold(tmp_path / "nn", foreign.labels())
    np.savez_compressed(folder / "case_01.npz", softmax=foreign.probabilities(foreign.labels()))
    assert "nnU-Net v1 wrote 'softmax'" in refused(image, folder)
    foreign.fold(folder, foreign.labels())
    data = (folder / "case_01.npz").read_bytes()
    (folder / "case_01.npz").write_bytes(data[: len(data) // 2])
    assert "cannot be read as .npz" in refused(image, folder)
    (folder / "case_01.npz").write_bytes(data)
    (folder / "case_01.pkl").write_bytes(b"\x80\x04nonsense")
    assert "cannot be read as nnU-Net's properties" in refused(image, folder)


class Evil:
    """Would make a file if it were unpickled as Python does."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_in_a_pickle_is_executed(tmp_path, image):
    folder = foreign.fold(tmp_path / "nn", foreign.labels())
    trap = tmp_path / "executed"
    (folder / "case_01.pkl").write_bytes(pickle.dumps({"sitk_stuff": Evil(trap)}))
    assert "it names" in refused(image, folder) and not trap.exists()
    with np.errstate(all="ignore"):  # an object array in the .npz is pickled, too
        np.savez(folder / "case_01.npz", probabilities=np.array([[[[Evil(trap)]]]], object))
    assert "floating-point numbers" in refused(image, folder) and not trap.exists()


# -- names


def test_labels_without_names(tmp_path, image):
    given = foreign.write(foreign.labels(), tmp_path / "seg" / "monai.nii.gz")
    text = refused(image, tmp_path / "seg")
    assert "monai.nii.gz: nothing says what its labels are called" in text and "monai.json beside it" in text
    given.with_name("monai.json").write_text('{"liver": 1, "spleen": 2}')
    assert "holds the label 3, which" in refused(image, tmp_path / "seg")


def test_names_that_would_break_a_header(tmp_path, image):
    given = foreign.write(foreign.labels(), tmp_path / "seg" / "monai.nii.gz")
    given.with_name("monai.json").write_text(json.dumps({"liver\nSegment0_Name:=x": 1, "spleen": 2, "rib": 3}))
    assert "which cannot be printed; rename it" in refused(image, given)


def test_a_single_mask_says_not_of_what(tmp_path, image):
    file = foreign.write((foreign.labels() == 1).astype(np.uint8), tmp_path / "out.nii.gz")
    assert "nothing says of what" in refused(image, file)


def test_members_of_different_models(tmp_path, image):
    foreign.seg_nrrd(tmp_path / "tta" / "a.seg.nrrd")
    foreign.seg_nrrd(tmp_path / "tta" / "b.seg.nrrd", names=("liver", "spleen"))
    assert "b.seg.nrrd: lacks 'rib_left_1', which" in refused(image, tmp_path / "tta")
    folds = [foreign.fold(tmp_path / f"fold_{k}", foreign.labels(grow=k)) for k in range(2)]
    (folds[1] / "case_01.npz").unlink()
    assert "fold_1" in (text := refused(image, *folds)) and "has no probabilities, while other members have" in text
    foreign.dataset(folds[1], {"background": 0, "spleen": 1, "liver": 2, "rib_left_1": 3})
    foreign.npz(folds[1] / "case_01.npz", foreign.probabilities(foreign.labels()))
    assert "another order" in refused(image, *folds)


def test_several_patients_in_a_folder(tmp_path):
    image = foreign.write(foreign.ct(), tmp_path / "mr.nii.gz")
    folder = foreign.fold(tmp_path / "nn", foreign.labels())
    foreign.fold(folder, foreign.labels(), case="case_02")
    assert "several cases (case_01, case_02); name the patient's with --case" in refused(image, folder)
    assert "no case 'x'" in refused(image, folder, case="x")


def test_a_hundred_and_four_classes_and_empty_ones(tmp_path, image):
    names = [f"class, Nr. {k}; größer/kleiner" for k in range(1, 105)]
    array = foreign.labels() * 30  # 30, 60 and 90 are there
    found = rtuncertainty.collect(image, foreign.total_multilabel(tmp_path / "all.nii.gz", array, names))
    found.write(tmp_path / "out")
    found = Result.read(tmp_path / "out")
    assert [r["structure"] for r in found.table("volumes")] == [names[29], names[59], names[89]]
    note = next(n for n in found.notes if "left out" in n)
    assert note.count("größer") == 101
    assert np.array_equal(sitk.GetArrayFromImage(found.structures()[names[59]].mask) > 0, foreign.labels() == 2)


def test_nothing_found(tmp_path, image):
    foreign.total_folder(tmp_path / "seg", np.zeros_like(foreign.labels()))
    assert "holds no structure with a voxel" in refused(image, tmp_path / "seg")
    (tmp_path / "nothing").mkdir()
    assert "holds nothing that is known" in refused(image, tmp_path / "nothing")
    assert "there is no such file or folder" in refused(image, tmp_path / "absent")


# -- source.json


def test_a_structure_that_is_not_there(tmp_path, image):
    folder = foreign.total_folder(tmp_path / "seg")
    text = refused(image, source(folder, tool="Vendor", structures={"livr": {"color": [1, 2, 3]}}))
    assert "holds no structure 'livr', which source.json names; it holds liver" in text
    (folder / "source.json").unlink()
    foreign.write((foreign.labels() == 1).astype(np.uint8), folder / "liver.nii")
    assert "liver.nii.gz: is there as liver.nii, too" in refused(image, folder)


@pytest.mark.parametrize(
    "said, told",
    [
        ({"synct": "../ct.nii.gz"}, "outside of"),
        ({"synct": "/etc/hostname"}, "outside of"),
        ({"segmentations": ["."]}, "outside of"),
        ({"synct": "link.nii.gz"}, "outside of"),
        ({"synct": "absent.nii.gz"}, "which is not in"),
        ({"synct": 3}, "must be the name of a file"),
        ({"sinct": "a"}, "did you mean 'synct'"),
        ({"version": 1.2}, "'version' must be a text"),
        ({"sd": "sct.nii.gz"}, "'synct' names no synthetic CT"),
        ({"synct": ["sct.nii.gz", "sct.nii.gz"]}, "names one file twice"),
        ({"structures": {"liver": 1, "spleen": 1}}, "gives two structures one label"),
        ({"structures": {"liver": {"label": 1, "colour": [0, 0, 0]}}}, "an object with label, color and code"),
        ({"structures": {"liver": {"code": {"scheme": "SCT", "value": "1~2", "meaning": "x"}}}}, "the code of 'liver'"),
    ],
)
def test_a_source_that_says_too_much(tmp_path, image, said, told):
    foreign.write(foreign.ct(), tmp_path / "ct.nii.gz")
    foreign.write(foreign.ct(), tmp_path / "tool" / "sct.nii.gz")
    (tmp_path / "tool" / "link.nii.gz").symlink_to(tmp_path / "ct.nii.gz")
    text = refused(image, source(tmp_path / "tool", **said))
    assert "source.json: " in text and told in text


def test_a_map_of_an_sd_is_no_member(tmp_path, image):
    folder = tmp_path / "tool"
    foreign.write(foreign.ct(5, 1), folder / "sct.nii.gz")
    foreign.write(np.random.default_rng(0).uniform(1, 80, foreign.SIZE[::-1]).astype(np.float32), folder / "sd.nii.gz")
    text = refused(image, folder)
    assert "sd.nii.gz: " in text and "source.json" in text
    foreign.write(foreign.ct(), folder / "negative.nii.gz")
    text = refused(image, source(folder, synct="sct.nii.gz", sd="negative.nii.gz"))
    assert "negative.nii.gz: is no map of an SD" in text


def test_deformations_need_what_they_move(tmp_path, image):
    folder = foreign.field(tmp_path / "dvf" / "field.nii.gz", (4, 0, 0)).parent
    assert "give the planning scan with --planning" in refused(image, folder)
    foreign.write(foreign.ct(), tmp_path / "sct" / "sct.nii.gz")
    assert "have no use; leave them out" in refused(image, tmp_path / "sct", planning=image)
    foreign.write(foreign.ct(), folder / "sct.nii.gz")
    assert "lies beside synthetic CTs" in refused(image, folder, planning=image, planning_structures=image)


# -- the command, and who opens the folder of another tool as a result


def test_the_command_fails_in_one_line(tmp_path, image, capsys):
    (tmp_path / "nothing").mkdir()
    arguments = ["collect", "--input", str(image), "--from", str(tmp_path / "nothing")]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and "holds nothing that is known" in told[0]
    assert not (tmp_path / "out").exists()


def test_a_foreign_folder_says_how_it_becomes_a_result(tmp_path):
    foreign.total_folder(tmp_path / "seg")
    with pytest.raises(InputError, match="becomes one by 'rtuncertainty collect'"):
        Result.read(tmp_path / "seg")
