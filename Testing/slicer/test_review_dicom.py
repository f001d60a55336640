"""A run of the scene as DICOM: the contours and images of the nodes, in the study of the reference series, by folder
or by database.
"""

import importlib.util
import json
import sys
from pathlib import Path

import make_propagation
import make_result
import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from rtuncertainty.cli import command_line
from rtuncertainty.core import geometry
from rtuncertainty.deformation import read_transform
from rtuncertainty.dicom import structure_input
from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.mrml.volume_export import UnusableVolume
from RTUncertaintyLib.review.dicom import job
from RTUncertaintyLib.review.logic import ReviewLogic

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pydicom") is None, reason="pydicom is not installed")
sys.path.append(str(Path(__file__).resolve().parents[1] / "backend"))


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """The backend's command line without a process of its own."""

    def waited(self, workspace, proof, progress):
        assert command_line.main([*workspace.arguments, "--progress", "none"]) == 0
        return workspace.output

    monkeypatch.setattr(ReviewLogic, "_waited", waited)


def with_model(folder):
    """A result whose card names a version, as those of the backend do."""
    file = folder / "summary.json"
    summary = json.loads(file.read_text(encoding="utf-8"))
    summary["model"] = {"version": "1.0", **summary["model"]}
    file.write_text(json.dumps(summary), encoding="utf-8")
    return folder


def series(image, folder, modality="MR", root="1.2.3.5"):
    from make_dicom import write_series

    return write_series(sitk.Cast(image, sitk.sitkInt16), folder, modality, root)


@pytest.fixture
def prediction(scene, tmp_path):
    folder = with_model(make_result.make_result(tmp_path / "r"))
    series(sitk.ReadImage(str(folder / "synct.nii.gz")), tmp_path / "scan")
    return run_scene.load_result(folder, scene), folder, tmp_path


def masks(file, grid=None):
    return {n: sitk.GetArrayFromImage(s.mask) > 0 for n, s in structure_input.read(file, grid=grid).items()}


def test_a_prediction_into_a_folder(prediction, capfd):
    import pydicom

    from rtuncertainty import dicom

    run, folder, place = prediction
    (place / "out").mkdir()
    written = ReviewLogic().dicom(run, ["ct", "rtstruct"], str(place / "out"), reference=str(place / "scan"))
    assert written.parent == place / "out" and sorted(p.name for p in written.iterdir()) == ["ct", "rtstruct.dcm"]
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(written / "ct")))
    ct, synct = reader.Execute(), sitk.ReadImage(str(folder / "synct.nii.gz"))
    assert (
        geometry.same_grid(ct, synct)
        and np.abs(sitk.GetArrayFromImage(ct) - sitk.GetArrayFromImage(synct)).max() <= 0.5
    )
    grid = dicom.read_series(place / "scan").grid
    found, want = masks(written / "rtstruct.dcm", grid), masks(folder / "structures.seg.nrrd")
    assert set(found) == set(want) and all(np.array_equal(found[n], want[n]) for n in want)
    said = capfd.readouterr()
    assert "GEHEIM" not in said.out + said.err
    made = pydicom.dcmread(written / "rtstruct.dcm")
    assert (
        "Volume" in made.StructureSetROISequence[0].ROIDescription
        and made.StructureSetROISequence[0].ROIGenerationAlgorithm == "AUTOMATIC"
    )
    assert not list(Path(place).glob("RTReview-*"))


def test_corrected_and_rejected_contours(prediction):
    """What the reviewer changed by hand goes out as it is, and what was rejected does not."""
    import pydicom

    from rtuncertainty import dicom

    run, _folder, place = prediction
    (place / "out").mkdir()
    run_scene.decide(run, "bone", "rejected", "", "")
    run_scene.decide(run, "gtv", "edited", "", "")
    written = ReviewLogic().dicom(run, ["rtstruct"], str(place / "out"), reference=str(place / "scan"))
    found = masks(written / "rtstruct.dcm", dicom.read_series(place / "scan").grid)
    assert list(found) == ["gtv"] and job.rejected(run) == ["bone"]
    assert (
        pydicom.dcmread(written / "rtstruct.dcm").StructureSetROISequence[0].ROIGenerationAlgorithm == "SEMIAUTOMATIC"
    )


def test_the_series_of_the_scene_and_the_database(prediction, monkeypatch):
    """The reference is found by the instances that Slicer remembers; the files go into its database, and nothing
    stays behind.
    """
    run, _folder, place = prediction
    files = sorted((place / "scan").iterdir())
    imported = []

    class Database:
        isOpen = True

        def fileForInstance(self, uid):
            return str(files[int(uid)])

    class Utils:
        @staticmethod
        def importDicom(folder, database, copy):
            imported.append((sorted(p.name for p in Path(folder).rglob("*.dcm"))[-1], copy))
            return True

    import types

    monkeypatch.setattr(slicer, "dicomDatabase", Database(), raising=False)
    monkeypatch.setitem(sys.modules, "DICOMLib", types.SimpleNamespace(DICOMUtils=Utils))
    own = run.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "mr")
    own.SetAttribute("DICOM.instanceUIDs", " ".join(str(i) for i in range(len(files))))
    run.input = own
    assert job.series_files(own) == [str(f) for f in files]
    assert ReviewLogic().dicom(run, ["rtstruct"]) is None and imported == [("rtstruct.dcm", True)]
    Database.isOpen = False
    with pytest.raises(UnusableVolume, match="not open"):
        ReviewLogic().dicom(run, ["rtstruct"])
    own.SetAttribute("DICOM.instanceUIDs", "")
    with pytest.raises(UnusableVolume, match="Give the folder"):
        ReviewLogic().dicom(run, ["rtstruct"], str(place))


def test_the_deformation_is_the_files(scene, tmp_path):
    folder = with_model(make_propagation.make_propagation(tmp_path / "r"))
    run = run_scene.load_propagation(folder, scene)
    job.write_result(run, tmp_path / "again")
    was, now = (read_transform(p / "transform.h5") for p in (folder, tmp_path / "again"))
    assert geometry.same_grid(was, now) and np.allclose(
        sitk.GetArrayFromImage(was), sitk.GetArrayFromImage(now), atol=1e-5
    )
    summary = json.loads((tmp_path / "again" / "summary.json").read_text(encoding="utf-8"))
    image, again = (
        sitk.ReadImage(str(p))
        for p in (folder / "warped_planning.nii.gz", tmp_path / "again" / summary["files"]["warped_planning"])
    )
    assert geometry.same_grid(image, again) and np.array_equal(
        sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(again)
    )
    assert all(not why for kind, why in job.offered(run).items() if kind != "seg")


def test_what_is_missing_is_told_in_one_line(prediction, monkeypatch):
    run, _folder, place = prediction
    assert "Only a propagation" in job.offered(run)["registration"]
    with pytest.raises(UnusableVolume, match="at least one kind"):
        ReviewLogic().dicom(run, [], str(place))
    with pytest.raises(UnusableVolume, match="Only a propagation"):
        ReviewLogic().dicom(run, ["registration"], str(place), reference=str(place / "scan"))
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "highdicom" else real(name, *more)
    )
    assert job.offered(run)["seg"] == "" and job.missing_packages(("seg",)) == ["highdicom"], "the export offers it"
    assert "pip_install('highdicom')" in job.missing_library(("seg",))
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "pydicom" else real(name, *more)
    )
    with pytest.raises(UnusableVolume, match=r"DICOM export needs pydicom: .* slicer.util.pip_install\('pydicom'\)"):
        ReviewLogic().dicom(run, ["rtstruct"], str(place), reference=str(place / "scan"))
