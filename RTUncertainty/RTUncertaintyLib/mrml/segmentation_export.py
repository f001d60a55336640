"""From a segmentation node to a `.seg.nrrd` file on the voxels of its planning CT, overlapping structures in layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..widgets.text import _
from .volume_export import RAS_TO_LPS, UnusableVolume, as_array, ijk_to_world, in_lps, parent_to_world, volume_array

LABELS = "Binary labelmap"
GENERIC = "~SCT^85756007^Tissue~SCT^85756007^Tissue~"


def segments_of(node):
    """The vtkSegmentation of a segmentation node. Raises `UnusableVolume` for another node and for one without
    segments.
    """
    if node is None or not node.IsA("vtkMRMLSegmentationNode"):
        raise UnusableVolume(
            _("{name} is no segmentation: choose the planning structures.").format(
                name=_("There") if node is None else node.GetName()
            )
        )
    segmentation = node.GetSegmentation()
    if segmentation is None or segmentation.GetNumberOfSegments() == 0:
        raise UnusableVolume(
            _("{name} holds no structures: choose the segmentation that was drawn on the planning CT.").format(
                name=node.GetName()
            )
        )
    return segmentation


def structure_boxes(node) -> dict[str, np.ndarray | None]:
    """The corners (8 × 3; RAS, mm) of the box around every structure, None for an empty one; parent transforms
    included.

    Raises `UnusableVolume` for what is no segmentation or lies under a transform that is not linear.
    """
    segmentation, world = segments_of(node), parent_to_world(node)
    labelled = _label_boxes(segmentation) if segmentation.ContainsRepresentation(LABELS) else {}
    boxes = {}
    for identifier in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(identifier)
        corners = labelled.get(identifier)
        if not segmentation.ContainsRepresentation(LABELS):
            surface = segment.GetRepresentation(segmentation.GetSourceRepresentationName())
            if surface is not None and surface.GetNumberOfPoints():
                corners = box_corners(*np.reshape(surface.GetBounds(), (3, 2)).T)
        boxes[segment.GetName()] = None if corners is None else corners @ world[:3, :3].T + world[:3, 3]
    return boxes


def box_corners(low, high) -> np.ndarray:
    """The corners (8 × 3) of the box from `low` to `high`."""
    return np.stack(np.meshgrid(*zip(low, high), indexing="ij"), -1).reshape(-1, 3)


def _label_boxes(segmentation) -> dict[str, np.ndarray]:
    """Segment identifier -> corners of its box in the segmentation's own space; empty segments are left out."""
    import vtk
    from scipy import ndimage

    boxes = {}
    for layer in range(segmentation.GetNumberOfLayers(LABELS)):
        image = segmentation.GetLayerDataObject(layer, LABELS)
        if image is None or image.IsEmpty():
            continue
        matrix, array = vtk.vtkMatrix4x4(), _voxels(image)
        image.GetImageToWorldMatrix(matrix)
        found = ndimage.find_objects(array if array.dtype.kind in "iu" else array.astype(np.int32))
        for identifier in segmentation.GetSegmentIDsForLayer(layer, LABELS):
            label = segmentation.GetSegment(identifier).GetLabelValue()
            box = found[label - 1] if 0 < label <= len(found) else None
            if box is not None:
                start = np.array(image.GetExtent()[::2])
                low, high = ([getattr(s, end) for s in reversed(box)] for end in ("start", "stop"))
                to_space = as_array(matrix)
                boxes[identifier] = (
                    box_corners(low + start - 0.5, high + start - 0.5) @ to_space[:3, :3].T + to_space[:3, 3]
                )
    return boxes


def _voxels(image) -> np.ndarray:
    """The voxels [k, j, i] of a vtkOrientedImageData, not copied."""
    from vtkmodules.util.numpy_support import vtk_to_numpy

    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def export_structures(node, planning, path: Path) -> Path:
    """Write the structures to `path` (`.seg.nrrd`) on the voxels of the planning CT, cropped to what they cover;
    returns the path.

    Names, colours and terminology go with them; contours and surfaces become voxels. The node is left as it is. Raises
    `UnusableVolume` when it is no segmentation, none of it lies in the planning CT, or the disk cannot take it.
    """
    segmentation = segments_of(node)
    source = node if segmentation.ContainsRepresentation(LABELS) else _as_labels(node, planning)
    to_planning = np.linalg.inv(ijk_to_world(planning)) @ parent_to_world(node)
    segments = [(source, identifier, to_planning) for identifier in segmentation.GetSegmentIDs()]
    return write_segmentation(segments_image(segments, planning, node.GetName()), path, node.GetName())


def segments_image(segments: list, grid, name: str, whole: bool = False, to_lps: np.ndarray | None = None):
    """Segments of one or several nodes as a SimpleITK image with Slicer's header, on the voxels of a volume node.

    segments: (segmentation node with voxels, segment identifier, 4 × 4 matrix from its space to the voxels of `grid`).
    name: what messages
    call them. whole: not cropped to what they cover; then all may be empty. to_lps: 4 × 4, voxels to LPS; where the
    volume lies in the world when None. Raises `UnusableVolume`.
    """
    from rtuncertainty.core import structure_set

    size = np.array(volume_array(grid).shape[::-1])
    pieces = [on_grid(source, identifier, to_grid, size) for source, identifier, to_grid in segments]
    inside = [(low, low + array.shape[::-1]) for low, array in (p for p in pieces if p is not None)]
    if not inside and not whole:
        raise UnusableVolume(
            _(
                "None of the structures of {name} lies in {planning}: choose the segmentation that was drawn on it."
            ).format(name=name, planning=grid.GetName())
        )
    low, high = (
        (np.zeros(3, int), size) if whole else (np.min([b[0] for b in inside], 0), np.max([b[1] for b in inside], 0))
    )
    matrix = (RAS_TO_LPS @ ijk_to_world(grid) if to_lps is None else to_lps).copy()
    matrix[:3, 3] = (matrix @ (*low, 1.0))[:3]
    structures, entries, names = [], [], set()
    for (source, identifier, _to_grid), piece in zip(segments, pieces):
        segment, mask = source.GetSegmentation().GetSegment(identifier), np.zeros((high - low)[::-1], np.uint8)
        if piece is not None:
            at = tuple(slice(a, a + n) for a, n in zip((piece[0] - low)[::-1], piece[1].shape))
            mask[at] = piece[1]
        title = structure_set.unused(segment.GetName(), names)
        names.add(title)
        structures.append(
            structure_set.Structure(title, in_lps(mask, matrix), tuple(round(255 * c) for c in segment.GetColor()))
        )
        entries.append(_terminology(segment))
    try:
        image = structure_set.as_segmentation(structures)
    except ValueError as error:
        raise UnusableVolume(
            _("{name} cannot be given to the model: {error}.").format(name=name, error=error)
        ) from error
    for index, entry in enumerate(entries):
        if entry:
            image.SetMetaData(f"Segment{index}_Tags", f"TerminologyEntry:{entry}|")
    return image


def write_segmentation(image, path: Path, name: str) -> Path:
    """Write an image with Slicer's header to `path` (`.seg.nrrd`) and return the path. Raises `UnusableVolume` when
    the disk cannot take it.
    """
    import SimpleITK as sitk

    try:
        sitk.WriteImage(image, str(path), True)
    except RuntimeError as error:
        raise UnusableVolume(
            _("{name} could not be written to {folder}: the disk is full, or the folder cannot be written to.").format(
                name=name, folder=path.parent
            )
        ) from error
    return path


def _terminology(segment) -> str:
    """The terminology entry of a segment; empty when there is none, or only the "tissue" that Slicer writes on new
    segments.
    """
    import slicer
    import vtk

    value = vtk.reference("")
    found = segment.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), value)
    return str(value) if found and GENERIC not in str(value) else ""


def _as_labels(node, planning):
    """A segmentation node outside of the scene with voxels in place of the surfaces or contours of `node`."""
    import slicer
    import vtk

    copy = slicer.vtkMRMLSegmentationNode()
    copy.SetName(node.GetName())
    segmentation = slicer.vtkSegmentation()
    segmentation.DeepCopy(node.GetSegmentation())
    copy.SetAndObserveSegmentation(segmentation)
    grid, geometry = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    # in the node's own space, whatever it lies under
    geometry.DeepCopy((np.linalg.inv(parent_to_world(node)) @ ijk_to_world(planning)).ravel().tolist())
    grid.SetImageToWorldMatrix(geometry)
    grid.SetDimensions(*(int(n) for n in volume_array(planning).shape[::-1]))
    segmentation.SetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName(),
        slicer.vtkSegmentationConverter.SerializeImageGeometry(grid),
    )
    if not segmentation.CreateRepresentation(LABELS):
        raise UnusableVolume(
            _(
                "{name} cannot be turned into voxels: create its binary labelmap in the Segmentations module "
                "(contours need the SlicerRT extension)."
            ).format(name=node.GetName())
        )
    return copy


def on_grid(node, identifier: str, to_planning: np.ndarray, size) -> tuple[np.ndarray, np.ndarray] | None:
    """(lowest index (i, j, k), voxels [k, j, i]) of a segment on the planning grid; None when nothing of it is there.

    Interpolated linearly where the grids differ; a voxel belongs to the structure when half of it does.
    """
    import slicer
    import vtk
    from scipy import ndimage

    image, matrix = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    if not node.GetBinaryLabelmapRepresentation(identifier, image) or image.IsEmpty():
        return None
    array = (_voxels(image) > 0).astype(np.uint8)
    box = ndimage.find_objects(array)
    if not box:
        return None
    image.GetImageToWorldMatrix(matrix)
    first = np.array(image.GetExtent()[::2]) + [s.start for s in reversed(box[0])]
    array = array[box[0]]
    index = to_planning @ as_array(matrix)  # voxels of the segment to voxels of the planning CT
    index[:3, 3] += index[:3, :3] @ first
    corners = box_corners([-0.5] * 3, np.array(array.shape[::-1]) - 0.5) @ index[:3, :3].T + index[:3, 3]
    low = np.maximum(np.floor(corners.min(0) + 1e-3), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(0) - 1e-3) + 1, size).astype(int)
    if np.any(high <= low):
        return None
    back = np.linalg.inv(index)
    flip = slice(None, None, -1)
    offset = (back[:3, :3] @ low + back[:3, 3])[flip]
    padded = np.pad(array, 1).astype(np.float32)
    found = (
        ndimage.affine_transform(padded, back[:3, :3][flip, flip], offset + 1, tuple((high - low)[flip]), order=1) > 0.5
    )
    return (low, found.astype(np.uint8)) if found.any() else None
