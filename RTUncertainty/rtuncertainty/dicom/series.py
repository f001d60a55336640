"""The reference series: the slices that a result was made on, their place in space, and whose they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset

from rtuncertainty.core.errors import InputError
from rtuncertainty.core.scans import slice_stack
from rtuncertainty.core.scans.dicom_scan import NO_SCAN
from rtuncertainty.deformation.field import between

from . import files

# how far a voxel may lie from its place, in voxels: NIfTI files have 32 bits, DICOM ones 16 characters a number
PLACE = 0.02
REQUIRED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")


@dataclass
class Series:
    """One image series.

    Attributes:
        folder: it lies in.
        slices: headers, from one end to the other.
        grid: an empty image with its geometry.
    """

    folder: Path
    slices: list[Dataset]
    grid: sitk.Image

    @property
    def first(self) -> Dataset:
        """The header of the first slice."""
        return self.slices[0]

    @property
    def frame_of_reference(self) -> str:
        """The UID of its frame of reference."""
        return str(self.first.FrameOfReferenceUID)

    def fit(self, image: sitk.Image, name: str, part: bool = False) -> sitk.Image:
        """An image on the grid of this series, whose voxels it has, if need be with its axes in another order. No value
        changes.

        Args:
            image: 3-D.
            name: what messages call it.
            part: it may cover a part of the series only (3D Slicer crops segmentations), and is 0 elsewhere.

        Returns:
            On the grid.

        Raises:
            InputError: its voxels are not those of the series.
        """
        self.require(image, name, part)
        moved = sitk.Resample(image, self.grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0, image.GetPixelID())
        if part and np.count_nonzero(sitk.GetArrayViewFromImage(moved)) != np.count_nonzero(
            sitk.GetArrayViewFromImage(image)
        ):
            raise InputError(f"{name}: reaches beyond the series in {self.folder}; cut it there.")
        return moved

    def require(self, image: sitk.Image, name: str, part: bool = False) -> None:
        """Raises unless the voxels of an image are those of this series.

        Args:
            image: 3-D.
            name: what messages call it.
            part: some of the series' voxels will do.

        Raises:
            InputError: they are not.
        """
        matrix, shift = between(self.grid, image)
        size, turn, start = np.array(self.grid.GetSize()), np.rint(matrix).astype(int), np.rint(shift)
        # an axis of the one must be an axis of the other, if need be backwards
        fits = (np.abs(turn).sum(0) == 1).all() and (np.abs(turn).sum(1) == 1).all()
        corners = np.array(list(np.ndindex(2, 2, 2))) * (size - 1)
        fits = fits and np.abs(corners @ (matrix - turn).T + shift - start).max() <= PLACE
        if fits and not part:
            fits = (np.abs(turn) @ size == image.GetSize()).all() and (
                start == np.where(turn.sum(1) < 0, np.array(image.GetSize()) - 1, 0)
            ).all()
        if not fits:
            raise InputError(
                f"{self.folder}: is not the series that {name} was made on ({self._differs(image)}); give the folder "
                "of the scan "
                "that the result describes."
            )

    def _differs(self, image: sitk.Image) -> str:
        def description(i):
            return f"{' × '.join(map(str, i.GetSize()))} voxels of {' × '.join(f'{s:.3g}' for s in i.GetSpacing())} mm"

        here, there = description(self.grid), description(image)
        return (
            f"{there} lie at another place or in another direction"
            if here == there
            else f"it has {here}, the other {there}"
        )


def read_series(folder) -> Series:
    """The only image series in a folder; other objects in it, such as structure sets, do not matter.

    Args:
        folder: its path.

    Returns:
        The series, in order.

    Raises:
        InputError: a folder without or with several series, and slices that make no volume.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; give the folder of a DICOM series.")
    try:
        names = sorted(p for p in folder.iterdir() if p.is_file())
    except PermissionError:
        raise InputError(f"{folder}: no permission to read it.") from None
    found: dict[str, list[Dataset]] = {}
    for header in filter(None, map(files.read_header, names)):
        if "Rows" in header and "Columns" in header and files.value(header, "Modality") not in NO_SCAN:
            found.setdefault(str(files.value(header, "SeriesInstanceUID")), []).append(header)
    if not found:
        raise InputError(f"{folder}: holds no DICOM slices; give the folder in which those of the scan lie.")
    if len(found) > 1:
        description = ", ".join(f"{files.value(s[0], 'Modality', 'unknown')} of {len(s)} files" for s in found.values())
        raise InputError(f"{folder}: holds {len(found)} DICOM series ({description}); give a folder with one.")
    [slices] = found.values()
    for keyword in REQUIRED:
        if any(not files.value(s, keyword) for s in slices):
            raise InputError(f"{folder}: the series lacks {keyword}, without which nothing can refer to it.")
    return _in_order(folder, slices)


def _in_order(folder: Path, slices: list[Dataset]) -> Series:
    """The series, its slices sorted along their normal, with the grid of the volume."""

    def no_volume(why):
        return InputError(f"{folder}: the slices make no volume: {why}.")

    if any(files.value(s, "NumberOfFrames", 1) != 1 for s in slices):
        raise no_volume(
            "they are multi-frame images, which are not supported; convert them to a series of single slices"
        )
    places = [
        (
            files.numbers(s, "ImageOrientationPatient", 6),
            files.numbers(s, "ImagePositionPatient", 3),
            files.numbers(s, "PixelSpacing", 2),
            [int(s.Rows), int(s.Columns)],
        )
        for s in slices
    ]
    if any(None in p for p in places):
        raise no_volume("position, orientation or pixel spacing is missing")
    try:
        order, axes, step = slice_stack.ordered(*zip(*places))
    except ValueError as why:
        raise no_volume(why) from None
    first = slices[order[0]]
    between_rows, between_columns = files.numbers(first, "PixelSpacing", 2)
    grid = sitk.Image([int(first.Columns), int(first.Rows), len(slices)], sitk.sitkUInt8)
    grid.SetSpacing([between_columns, between_rows, step])
    grid.SetOrigin(files.numbers(first, "ImagePositionPatient", 3))
    grid.SetDirection([float(v) for v in axes.ravel()])
    grid.SetMetaData("frame_of_reference", str(slices[0].FrameOfReferenceUID))  # as `image_io.read` does
    return Series(folder, [slices[i] for i in order], grid)
