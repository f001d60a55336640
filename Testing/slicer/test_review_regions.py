"""The regions above a map's threshold: found, measured and ranked as counted by hand; jumped to; named by their
structure.
"""

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
    ct[5:9, 15:18, 18:22] = -900  # air in the body is a part of it
    slicer.util.updateVolumeFromArray(run.warped, ct)
    (region,) = run_scene.uncertain_regions(run, "displacement_sd", 1.0)
    ml = float(np.prod(node.GetSpacing())) / 1000
    tissue = (ct > -500).sum() + 4 * 3 * 4
    assert region.volume_ml == pytest.approx(tissue * ml, rel=0.02) and region.volume_ml < 0.75 * array.size * ml


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31), threshold=st.floats(0.1, 0.9))
def test_regions_hold_all_that_is_large_enough(run, seed, threshold):
    from scipy import ndimage

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
