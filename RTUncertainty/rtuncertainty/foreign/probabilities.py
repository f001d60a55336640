"""Probabilities in an `.npz`, as nnU-Net v2 and `TotalSegmentator --save_probabilities` write them: "probabilities",
[class, z, y, x] in SimpleITK's order of axes, cropping reverted; a softmax begins with the background. One class is in
memory at a time.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..core import geometry
from ..core.errors import InputError
from . import place, properties
from .naming import Names

KEY = "probabilities"
# what float16 makes of sums over a hundred classes
SUM = 0.02


@dataclass
class Probabilities:
    """The probabilities of one member.

    Attributes:
        file: `.npz`.
        names: of its classes.
        own: its grid, from what lies beside it.
        grid: the input image's, on which they are given.
        note: what to know of them; empty where they lie on the input's voxels.
    """

    file: Path
    names: Names
    own: sitk.Image
    grid: sitk.Image
    note: str = ""

    def __iter__(self) -> Iterator[np.ndarray]:
        """float32 [z, y, x], 0 to 1, on the grid of the input: the background (unless regions), then each structure.

        Raises:
            InputError: values that are no probabilities.
        """
        total = np.zeros(())
        for number, channel in enumerate(_channels(self.file)):
            low, high = float(channel.min()), float(channel.max())
            if not (np.isfinite(channel).all() and low >= -SUM and high <= 1 + SUM):
                raise InputError(
                    f"{self.file}: holds {low:.3g} to {high:.3g} where probabilities are 0 to 1; write them after the "
                    "softmax, not the network's raw output."
                )
            total = total + channel
            outside = float(number == 0 and not self.names.regions)
            yield self._on_input(channel, outside).clip(0, 1)
        if not self.names.regions and np.abs(total - 1).max() > SUM:
            raise InputError(
                f"{self.file}: the probabilities of a voxel add up to {total.min():.3g} to {total.max():.3g}, not 1; "
                "write the softmax of all classes, the background included."
            )

    def _on_input(self, channel: np.ndarray, outside: float) -> np.ndarray:
        image = geometry.like(channel, self.own)
        if self.note:
            image = sitk.Resample(image, self.grid, sitk.Transform(), sitk.sitkLinear, outside, sitk.sitkFloat32)
            return sitk.GetArrayFromImage(image)
        return sitk.GetArrayFromImage(place.on(image, self.grid, self.file))


def read(file: Path, names: Names | None, grid: sitk.Image, beside: sitk.Image | None, drawn: bool) -> Probabilities:
    """The probabilities of one member; voxels are read when they are iterated over.

    Args:
        file: `.npz`.
        names: of its classes.
        grid: the input image.
        beside: the segmentation of the same stem, whose voxels they share where there is no `.pkl`.
        drawn: whether the member has a segmentation on the input's voxels to compare with: only then may they lie on
            other voxels, as those of TotalSegmentator do.

    Returns:
        The probabilities.

    Raises:
        InputError: another key, number of classes, order of axes or grid.
    """
    shape = _header(file)[0]
    if names is None:
        raise InputError(
            f"{file}: nothing says what its {shape[0]} classes are called; copy nnU-Net's dataset.json beside it, or "
            'name the labels in "structures" of a source.json.'
        )
    expected = len(names.values) + (not names.regions)
    if shape[0] != expected:
        raise InputError(
            f"{file}: holds {shape[0]} classes, but {names.by} names {expected}"
            f"{'' if names.regions else ' with the background'}; give the file of that model (TotalSegmentator's task "
            "'total' keeps the probabilities of its last part only: leave them out)."
        )
    if not names.regions and list(names.values.values()) != [(k,) for k in range(1, expected)]:
        raise InputError(
            f"{file}: its classes are numbered from 0, but {names.by} has labels with gaps; number them from 1."
        )
    pickled = file.with_suffix(".pkl")
    if pickled.is_file():
        own = properties.grid_of(pickled)
        own = _sized(own, shape)
    elif beside is not None:
        own = beside
    else:
        raise InputError(
            f"{file}: has no {pickled.name} beside it, and no segmentation of its name, that says where its voxels "
            "lie; copy that, too."
        )
    for other, what in ((beside, "the segmentation beside it"), (own, "its geometry"), (grid, "the input image")):
        if other is None or shape[1:] == other.GetSize()[::-1]:
            continue
        if shape[1:] == other.GetSize():
            raise InputError(
                f"{file}: holds [class, x, y, z], as {what} has {place.described(other)}; nnU-Net writes [class, z, "
                "y, x]: transpose it."
            )
        if other is beside:
            size = " × ".join(map(str, shape[:0:-1]))
            raise InputError(f"{file}: holds {size} voxels, {what} {place.described(other)}; give files of one run.")
    try:
        place.on(own, grid, file)
    except InputError:
        if not drawn:
            raise
        geometry.require_overlap(own, grid, str(file), "the input image")
        spacing = " × ".join(f"{s:.3g}" for s in own.GetSpacing())
        return Probabilities(
            file,
            names,
            own,
            grid,
            f"{file.name}: its probabilities lie on voxels of {spacing} mm and were interpolated onto the input's.",
        )
    return Probabilities(file, names, own, grid)


def _sized(place_of: sitk.Image, shape) -> sitk.Image:
    grid = sitk.Image([int(n) for n in shape[:0:-1]], sitk.sitkUInt8)
    grid.SetSpacing(place_of.GetSpacing())
    grid.SetOrigin(place_of.GetOrigin())
    grid.SetDirection(place_of.GetDirection())
    return grid


def _header(file: Path) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether the first axis runs fastest, type) of the array."""
    with _opened(file) as stream:
        return _described(stream, file)


def _opened(file: Path):
    try:
        archive = zipfile.ZipFile(file)
        names = archive.namelist()
        if f"{KEY}.npy" not in names:
            held = ", ".join(n.removesuffix(".npy") for n in names[:5])
            v1 = "; nnU-Net v1 wrote 'softmax': predict with nnU-Net v2" if "softmax.npy" in names else ""
            raise InputError(f"{file}: has no array '{KEY}', it holds {held or 'nothing'}{v1 or '; rename it'}.")
        return archive.open(f"{KEY}.npy")
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{file}: cannot be read as .npz ({error}); copy it again.") from error


def _described(stream, file: Path):
    try:
        major = np.lib.format.read_magic(stream)[0]
        head = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, kind = head(stream)
    except ValueError as error:
        raise InputError(f"{file}: cannot be read as .npz ({str(error).splitlines()[0]}); copy it again.") from error
    if len(shape) != 4 or min(shape) < 1 or kind.kind != "f":
        raise InputError(
            f"{file}: '{KEY}' has the shape {shape} of {kind}; it must be [class, z, y, x] of floating-point numbers."
        )
    return tuple(map(int, shape)), fortran, kind


def _channels(file: Path) -> Iterator[np.ndarray]:
    """float32 [z, y, x], one class after the other."""
    with _opened(file) as stream:
        shape, fortran, kind = _described(stream, file)
        if fortran:  # of one transposed as a whole: no class stands by itself
            with np.load(file, allow_pickle=False) as whole:
                yield from np.ascontiguousarray(whole[KEY], np.float32)
            return
        count = int(np.prod(shape[1:]))
        for _ in range(shape[0]):
            try:
                data = stream.read(count * kind.itemsize)
            except (OSError, zipfile.BadZipFile, EOFError, zlib.error) as error:
                raise InputError(f"{file}: is damaged or cut short ({error}); copy it again.") from error
            if len(data) < count * kind.itemsize:
                raise InputError(f"{file}: is cut short; copy it again.")
            yield np.frombuffer(data, kind).reshape(shape[1:]).astype(np.float32)
