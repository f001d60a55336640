"""A written deformation in Slicer: planning data under the transform node move onto the daily scan, and back again.

What is expected comes from SimpleITK alone, so that nothing here rests on the project's own warping.
"""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import slicer.util
import vtk
from scipy import ndimage

from rtuncertainty import deformation
from rtuncertainty.core import geometry
from RTUncertaintyLib.mrml.volumes import add_volume, ijk_to_ras

LPS = np.array([-1.0, -1.0, 1.0])  # to RAS and back


def rotation(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]])


def make_grid(size, spacing, direction):
    """A grid with its middle at (20, -30, 40) mm."""
    grid = sitk.Image([int(n) for n in size], sitk.sitkFloat32)
    grid.SetSpacing(spacing)
    grid.SetDirection(direction.ravel())
    grid.SetOrigin((np.array([20.0, -30, 40]) - direction @ ((np.array(size) - 1) * spacing / 2)).tolist())
    return grid


DAILY = make_grid((40, 36, 30), (2.0, 2.5, 3.0), rotation(0.4))
PLANNING = make_grid((50, 48, 44), (1.8, 2.2, 2.6), rotation(-0.2) @ np.diag([1.0, -1.0, -1.0]))


def smooth(grid, seed, width):
    """Noise of `width` voxels with a largest value of 1."""
    array = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=grid.GetSize()[::-1]), width)
    return array / np.abs(array).max()


@pytest.fixture(scope="module")
def field():
    """On the daily grid: a shift, and up to 9 mm more or less in each direction."""
    return deformation.field_from_array(
        9 * np.stack([smooth(DAILY, seed, 5) for seed in range(3)], -1) + [5.0, -4.0, 6.0], DAILY
    )


def itk(field):
    return sitk.DisplacementFieldTransform(sitk.Image(field))


def read(scene, path, node_class="vtkMRMLGridTransformNode"):
    node, storage = scene.AddNewNodeByClass(node_class), slicer.vtkMRMLTransformStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    return node


def inner_points(number=60):
    """Points of the daily CT, not at voxels, well inside its grid."""
    index = np.random.default_rng(5).uniform(6, np.array(DAILY.GetSize()) - 7, (number, 3))
    return np.array([DAILY.TransformContinuousIndexToPhysicalPoint(i) for i in index.tolist()])


def resampled(image, transform=None, interpolator=sitk.sitkLinear):
    outside = np.nan if interpolator == sitk.sitkLinear else 0
    return sitk.GetArrayFromImage(sitk.Resample(image, DAILY, transform or sitk.Transform(), interpolator, outside))


@pytest.mark.parametrize("node_class", ["vtkMRMLGridTransformNode", "vtkMRMLTransformNode"])
def test_the_file_is_the_way_from_parent(scene, tmp_path, field, node_class):
    node = read(scene, deformation.write_transform(field, tmp_path / "transform.h5"), node_class)
    assert node.GetTransformFromParent().IsA("vtkOrientedGridTransform")
    forward = itk(field)
    for index in ((20, 18, 15), (7, 9, 22), (0, 0, 0)):  # at voxels it is the same to rounding
        daily = np.array(DAILY.TransformIndexToPhysicalPoint(index))
        assert np.allclose(
            LPS * node.GetTransformFromParent().TransformPoint(LPS * daily), forward.TransformPoint(daily), atol=1e-6
        )
    moved = 0.0
    for daily in inner_points():  # between them Slicer interpolates by splines, ITK linearly
        planning = np.array(forward.TransformPoint(daily))
        assert np.allclose(LPS * node.GetTransformFromParent().TransformPoint(LPS * daily), planning, atol=0.15)
        assert np.allclose(LPS * node.GetTransformToParent().TransformPoint(LPS * planning), daily, atol=0.2)
        moved = max(moved, np.linalg.norm(planning - daily))
    assert moved > 5


def test_beyond_the_grid_the_outermost_displacements_go_on(scene, tmp_path, field):
    node = read(scene, deformation.write_transform(field, tmp_path / "transform.h5"))
    beyond = np.array(DAILY.TransformContinuousIndexToPhysicalPoint((-6.0, 18.0, 15.0)))
    found = LPS * node.GetTransformFromParent().TransformPoint(LPS * beyond) - beyond
    assert np.allclose(found, field[0, 18, 15], atol=1e-6) and np.linalg.norm(found) > 5


def test_planning_points_move_onto_the_daily_scan(scene, tmp_path, field):
    node, forward = read(scene, deformation.write_transform(field, tmp_path / "transform.h5")), itk(field)
    markups = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    daily = inner_points(10)
    for point in daily:
        markups.AddControlPoint(vtk.vtkVector3d(*(LPS * forward.TransformPoint(point))))
    markups.SetAndObserveTransformNodeID(node.GetID())
    for number, point in enumerate(daily):
        world = [0.0] * 3
        markups.GetNthControlPointPositionWorld(number, world)
        assert np.allclose(LPS * world, point, atol=0.2)
    assert markups.HardenTransform()
    assert np.allclose(LPS * markups.GetNthControlPointPosition(3), daily[3], atol=0.2)


def test_a_planning_volume_moves_onto_the_daily_scan(scene, tmp_path, field):
    image = geometry.like(300 * smooth(PLANNING, 7, 4), PLANNING)
    volume = add_volume(scene, image, "planning")
    volume.SetAndObserveTransformNodeID(
        read(scene, deformation.write_transform(field, tmp_path / "transform.h5")).GetID()
    )
    assert volume.HardenTransform()
    hardened = resampled(as_image(volume))
    right, still = resampled(image, itk(field)), resampled(image)
    wrong = resampled(image, itk(deformation.field_from_array(-sitk.GetArrayFromImage(field), DAILY)))
    inner = (slice(4, -4),) * 3

    def difference(other):
        return float(np.sqrt(np.nanmean((hardened - other)[inner] ** 2)))

    assert difference(right) < 5 and difference(still) > 30 and difference(wrong) > 50


def as_image(volume) -> sitk.Image:
    """A volume node as an image in LPS."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    lps = np.diag([-1.0, -1.0, 1.0]) @ np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(3)])
    image = sitk.GetImageFromArray(slicer.util.arrayFromVolume(volume).astype(np.float32))
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:, 3].tolist())
    return image


def oriented(image: sitk.Image):
    """A mask as Slicer's segments have it."""
    data = slicer.vtkOrientedImageData()
    data.SetDimensions(image.GetSize())
    data.GetPointData().SetScalars(
        vtk.util.numpy_support.numpy_to_vtk(sitk.GetArrayFromImage(image).ravel(), deep=True)
    )
    data.SetImageToWorldMatrix(ijk_to_ras(image))
    return data


def test_a_planning_structure_moves_onto_the_daily_scan(scene, tmp_path, field):
    index = np.stack(np.meshgrid(*[np.arange(n) for n in PLANNING.GetSize()[::-1]], indexing="ij"), -1)
    ball = np.linalg.norm((index - [21, 25, 20]) * PLANNING.GetSpacing()[::-1], axis=-1) < 22
    mask = geometry.like(ball, PLANNING, np.uint8)
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    name = segmentation.AddSegmentFromBinaryLabelmapRepresentation(oriented(mask), "bladder")
    segmentation.SetAndObserveTransformNodeID(
        read(scene, deformation.write_transform(field, tmp_path / "transform.h5")).GetID()
    )
    assert segmentation.HardenTransform()
    found, on_daily = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    segmentation.GetBinaryLabelmapRepresentation(name, found)
    reference = oriented(geometry.like(np.zeros(DAILY.GetSize()[::-1]), DAILY, np.uint8))
    assert slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(found, reference, on_daily)
    found = vtk.util.numpy_support.vtk_to_numpy(on_daily.GetPointData().GetScalars()).reshape(DAILY.GetSize()[::-1]) > 0

    def dice(other):
        return 2 * (found & other).sum() / (found.sum() + other.sum())

    right = resampled(mask, itk(field), sitk.sitkNearestNeighbor) > 0
    # two nearest neighbours in a row cost a little
    assert dice(right) > 0.93 and dice(resampled(mask, None, sitk.sitkNearestNeighbor) > 0) < 0.75


def test_a_rigid_pre_alignment_is_worked_into_the_field(scene, tmp_path, field):
    rigid = sitk.Euler3DTransform((20, -30, 40), 0.1, -0.05, 0.2, (12.0, -7.0, 4.0))
    node = read(scene, deformation.write_transform(field, tmp_path / "transform.h5", rigid))
    assert node.GetTransformFromParent().IsA("vtkOrientedGridTransform")
    both = sitk.CompositeTransform([rigid, itk(field)])
    for daily in inner_points(20):
        assert np.allclose(
            LPS * node.GetTransformFromParent().TransformPoint(LPS * daily), both.TransformPoint(daily), atol=0.15
        )
    # a file with both steps is read too, but no longer as a grid
    sitk.WriteTransform(both, str(tmp_path / "both.h5"))
    assert read(scene, tmp_path / "both.h5", "vtkMRMLTransformNode").GetTransformFromParent().IsA("vtkGeneralTransform")
