"""Samples that a result kept: sequences with a browser that shows one after the other."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from make_result import image, labels, make_result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A result with three samples: synthetic CT of 10, 20 and 30 HU, the tumour one voxel further to the left each."""
    folder = make_result(tmp_path_factory.mktemp("r") / "result")
    summary, files = json.loads((folder / "summary.json").read_text(encoding="utf-8")), {"synct": {}, "structures": {}}
    first = sitk.ReadImage(str(folder / "structures.seg.nrrd"))
    for number in (1, 2, 3):
        files["synct"][str(number)], files["structures"][str(number)] = (f"s_{number}.nii.gz", f"s_{number}.seg.nrrd")
        synct = image(np.full(labels().shape, 10 * number, np.int16), np.eye(3))
        synct.CopyInformation(first)
        sitk.WriteImage(synct, str(folder / f"s_{number}.nii.gz"))
        moved = sitk.GetImageFromArray(np.roll(labels(), -number, 2))
        moved.CopyInformation(first)
        for key in first.GetMetaDataKeys():
            moved.SetMetaData(key, first.GetMetaData(key))
        sitk.WriteImage(moved, str(folder / f"s_{number}.seg.nrrd"))
    summary["files"] |= {f"sample_{k}": v for k, v in files.items()}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder


def centre_of_tumour(node, volume):
    """Its column of voxels."""
    from RTUncertaintyLib.mrml.segmentation import indices_on

    return indices_on(node, "gtv", volume)[:, 2].mean()


def test_the_browser_goes_through_all_samples_together(scene, folder):
    import slicer

    from RTUncertaintyLib import runs

    run = runs.load_result(folder, scene)
    browser, shown = run.samples["browser"], run.samples["shown_synct"]
    assert [run.samples[k].GetNumberOfDataNodes() for k in ("synct", "structures")] == [3, 3]
    assert run.samples["synct"].GetNthIndexValue(2) == "3" and run.samples["synct"].GetIndexName() == "sample"
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(scene)
    seen = []
    for number in range(3):
        browser.SetSelectedItemNumber(number)
        logic.UpdateProxyNodesFromSequences(browser)
        seen.append(
            (slicer.util.arrayFromVolume(shown).max(), centre_of_tumour(run.samples["shown_structures"], shown))
        )
    assert [s[0] for s in seen] == [10, 20, 30] and np.allclose(np.diff([s[1] for s in seen]), -1)
    assert not run.samples["shown_structures"].GetDisplayNode().GetVisibility()


def test_nothing_of_them_stays_and_a_run_is_found_again(scene, folder):
    from RTUncertaintyLib import runs
    from RTUncertaintyLib.mrml.attributes import nodes_by_class
    from RTUncertaintyLib.runs.registry import run_nodes

    kinds = ("vtkMRMLSequenceNode", "vtkMRMLSequenceBrowserNode", "vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode")

    def count():
        return [len(nodes_by_class(scene, kind)) for kind in kinds]

    before = count()
    run = runs.load_result(folder, scene)
    assert run_nodes(run.run_id, scene).samples == run.samples and count()[:2] == [
        before[0] + 2,
        before[1] + 1,
    ]
    runs.remove_run(run)
    assert count() == before
    assert not runs.load_result(folder, scene, most_samples=2).samples


def test_a_scene_file_has_few_samples_and_leaves_out_many(folder, tmp_path, views):
    from RTUncertaintyLib.headless import scene as headless
    from RTUncertaintyLib.headless.scene_bundle import write_scene
    from RTUncertaintyLib.mrml.attributes import nodes_by_class
    from RTUncertaintyLib.runs import samples

    headless.open_scene(views, write_scene(folder, tmp_path / "few.mrb"))
    sequences = nodes_by_class(views.scene, "vtkMRMLSequenceNode")
    assert sorted(s.GetNumberOfDataNodes() for s in sequences) == [3, 3]
    many = shutil.copytree(folder, tmp_path / "many")
    summary = json.loads((many / "summary.json").read_text(encoding="utf-8"))
    for part in ("sample_synct", "sample_structures"):
        first = summary["files"][part]["1"]
        summary["files"][part] = {str(n): first for n in range(1, samples.SCENE_SAMPLES + 2)}
    (many / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    views.scene.Clear(0)
    headless.open_scene(views, write_scene(many, tmp_path / "many.mrb"))
    assert not nodes_by_class(views.scene, "vtkMRMLSequenceNode")
