"""The regions above a map's threshold: found, measured and ranked as counted by hand; jumped to; named by their
structure.
"""

import itertools

import numpy as np
import pytest
import slicer.util
import vtk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from make_propagation import make_propagation
from make_result import SPACING, make_result

from RTUncertaintyLib import scene as run_scene

ML = float(np.prod(SPACING)) / 1000


@pytest.fixture
def run(scene, tmp_path):
    return run_scene.load_result(make_result(tmp_path / "r", reference=True))


def paint(run, key, boxes, ground=0.0):
    """Write boxes (slices, value) into a map."""
    node = run.overlays[key]
    array = np.full_like(slicer.util.arrayFromVolume(node), ground)
    for box, value in boxes:
        array[box] = value
    slicer.util.updateVolumeFromArray(node, array)
    return array


def index_of(run, point):
    matrix = vtk.vtkMatrix4x4()
    run.synct.GetRASToIJKMatrix(matrix)
    return tuple(np.rint(matrix.MultiplyPoint((*point, 1.0))[:3]).astype(int)[::-1])


def test_ranked_by_what_lies_above(run):
    slicer.mrmlScene.RemoveNode(run.segmentation)  # without structures nothing else counts
    large, high = (slice(1, 5), slice(2, 8), slice(2, 8)), (slice(8, 10), slice(20, 24), slice(20, 24))
    paint(run, "predictive", [(large, 110.0), (high, 900.0)], 100.0)
    first, second = run_scene.uncertain_regions(run, "predictive", 100.0)
    assert (
        first.volume_ml == pytest.approx(32 * ML) and first.mean == 900 and first.excess == pytest.approx(32 * 800 * ML)
    )
    assert second.volume_ml == pytest.approx(144 * ML) and second.mean == 110
    assert all(s.start <= i < s.stop for s, i in zip(high, index_of(run, first.point)))
    assert all(s.start <= i < s.stop for s, i in zip(large, index_of(run, second.point)))
    assert (
        len(run_scene.uncertain_regions(run, "predictive", 110.0)) == 1
        and run_scene.uncertain_regions(run, "predictive", 900.0) == []
    )


def test_noise_is_no_region(run):
    paint(run, "predictive", [((3, 3, 3), 500.0)])
    assert ML < 0.05 and run_scene.uncertain_regions(run, "predictive", 100.0) == []


def test_both_sides_of_a_signed_map_are_apart(run):
    paint(
        run,
        "zscore",
        [((slice(2, 6), slice(4, 9), slice(4, 9)), 3.0), ((slice(2, 6), slice(4, 9), slice(9, 12)), -5.0)],
    )
    first, second = run_scene.uncertain_regions(run, "zscore", 2.0)
    assert (first.mean, second.mean) == (-5.0, 3.0)


def test_named_by_the_structure(run):
    label = run.segmentation
    matrix = vtk.vtkMatrix4x4()
    run.synct.GetRASToIJKMatrix(matrix)
    from RTUncertaintyLib.mrml.segmentation import voxels_of

    array = np.zeros_like(slicer.util.arrayFromVolume(run.overlays["entropy"]))
    for i, j, k in np.rint(voxels_of(label, "gtv", matrix)).astype(int):
        array[k, j, i] = 0.6
    array[1:4, 1:5, 28:33] = 0.5
    slicer.util.updateVolumeFromArray(run.overlays["entropy"], array)
    regions = {r.place: r for r in run_scene.uncertain_regions(run, "entropy", 0.1)}
    assert set(regions) == {"in gtv", "outside the structures"}
    assert array[index_of(run, regions["in gtv"].point)] == pytest.approx(0.6)


def test_only_the_body_of_a_propagation_counts(scene, tmp_path):
    run = run_scene.load_propagation(make_propagation(tmp_path / "r"))
    node = run.overlays["displacement_sd"]
    array = np.full_like(slicer.util.arrayFromVolume(node), 5.0)
    slicer.util.updateVolumeFromArray(node, array)
    ct = slicer.util.arrayFromVolume(run.warped).copy()
    ct[5:9, 15:18, 18:22] = -900  # air in the body, such as lung, is none
    slicer.util.updateVolumeFromArray(run.warped, ct)
    (region,) = run_scene.uncertain_regions(run, "displacement_sd", 1.0)
    ml = float(np.prod(node.GetSpacing())) / 1000
    tissue = (ct > -500).sum()
    assert region.volume_ml == pytest.approx(tissue * ml, rel=0.02) and region.volume_ml < 0.75 * array.size * ml


def test_what_could_change_a_contour_comes_first(run):
    """A small excess at the surface of a structure counts more than a large one outside of all, and dose decides
    between two of a kind.
    """
    from RTUncertaintyLib.mrml.segmentation import indices_on

    node = run.overlays["predictive"]
    bone = indices_on(run.segmentation, "bone", node)
    k, j, i = (int(v) for v in bone[bone[:, 0] == int(np.median(bone[:, 0]))].min(0))
    near = (slice(k, k + 2), slice(j, j + 4), slice(i, i + 4))
    every = np.concatenate([bone, indices_on(run.segmentation, "gtv", node)])
    shape = slicer.util.arrayFromVolume(node).shape
    corners = itertools.product(*((slice(0, n), slice(size - n, size)) for n, size in zip((2, 5, 5), shape)))

    def gap(box):  # mm from a box to the structures
        grid = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in box), indexing="ij"), -1).reshape(-1, 1, 3)
        return np.linalg.norm((every - grid) * np.array(SPACING)[::-1], axis=2).min()

    far = max(corners, key=gap)
    assert gap(far) > 5, "the far region is far from every structure"
    paint(run, "predictive", [(far, 900.0), (near, 300.0)])
    first, second = run_scene.uncertain_regions(run, "predictive", 100.0)
    assert (first.mean, second.mean) == (300.0, 900.0) and first.excess < second.excess
    dose = _like(run, node)
    values = np.zeros_like(slicer.util.arrayFromVolume(node))
    slicer.mrmlScene.RemoveNode(run.segmentation)
    values[near] = 60.0
    slicer.util.updateVolumeFromArray(dose, values)
    assert [r.mean for r in run_scene.uncertain_regions(run, "predictive", 100.0)] == [900.0, 300.0]
    paint(run, "predictive", [(far, 300.0), (near, 300.0)])
    weighted = run_scene.uncertain_regions(run, "predictive", 100.0, dose)
    assert weighted[0].volume_ml == pytest.approx(32 * ML) and weighted[1].volume_ml == pytest.approx(50 * ML)


def _like(run, node):
    """A volume on the grid of another one."""
    from RTUncertaintyLib.mrml.volumes import add_volume, image_like

    return add_volume(run.scene, image_like(np.zeros_like(slicer.util.arrayFromVolume(node)), node), "dose")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31), threshold=st.floats(0.1, 0.9))
def test_regions_hold_all_that_is_large_enough(run, seed, threshold):
    from scipy import ndimage

    slicer.mrmlScene.RemoveNode(run.segmentation)
    random = np.random.default_rng(seed)
    array = paint(run, "entropy", [])
    array[:] = ndimage.gaussian_filter(random.random(array.shape), 1.5)
    array[:] = (array - array.min()) / (array.max() - array.min())
    slicer.util.updateVolumeFromArray(run.overlays["entropy"], array)
    regions = run_scene.uncertain_regions(run, "entropy", threshold)
    labels, count = ndimage.label(array > np.float32(threshold), np.ones((3, 3, 3)))
    sizes = [s * ML for s in np.bincount(labels.ravel())[1:] if s * ML >= 0.05]
    assert sorted(r.volume_ml for r in regions) == pytest.approx(sorted(sizes))
    excess = [r.excess for r in regions]
    assert excess == sorted(excess, reverse=True)
    assert len({labels[index_of(run, r.point)] for r in regions}) == len(regions) and all(
        labels[index_of(run, r.point)] for r in regions
    )
