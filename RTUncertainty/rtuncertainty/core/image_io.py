"""Reading images with their geometry, checking them, and writing files that are never half there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import InputError
from .scans import dicom_scan, headers
from .scans.headers import from_border

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
# scalar products of axes that count as 0; headers are rounded. No field of view is longer than a patient, mm
RIGHT_ANGLE, LARGEST_MM = 1e-3, 3000.0


def read(path, padded: bool = False, tell=None) -> sitk.Image:
    """A 3-D scalar image from a file, or from a folder with one DICOM series.

    Args:
        path: NIfTI, NRRD, MetaImage, or a folder.
        padded: see `check`.
        tell: called with notes, lines of text, on what the file leaves open.

    Returns:
        float32.

    Raises:
        InputError: names the file, what is wrong with it and what to do.
    """
    if not isinstance(path, (str, os.PathLike)) or not str(path).strip():  # "" would be the folder one is in
        raise InputError(f"{path!r} is no image; give its path, a folder with a DICOM series, or a SimpleITK.Image.")
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; give an image file or a folder with a DICOM series.")
    if path.is_dir() or dicom_scan.is_dicom(path):
        image = dicom_scan.read(path, tell)
        checked = check(image, str(path), padded)
        for key in ("modality", "frame_of_reference"):
            if image.HasMetaDataKey(key):
                checked.SetMetaData(key, image.GetMetaData(key))
        return checked
    image = _read_file(
        path, f"{path} cannot be read as an image ({{}}); give NIfTI, NRRD, MHA or a DICOM folder.", padded, tell
    )
    return check(image, str(path), padded)


def _read_file(path: Path, wrong: str, padded: bool = False, tell=None) -> sitk.Image:
    """An image file as it is stored, at its place. `wrong`: the text of the error where it cannot be read, {} in it for
    the reason.
    """
    header = headers.read_nifti(path, padded)
    headers.require_place(path, tell)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(wrong.replace("{}", _reason(error))) from error
    return headers.placed(image, header, path, tell)


def _reason(error: RuntimeError) -> str:
    """The last line of SimpleITK's message, or what it means."""
    reason = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "unknown reason")
    if "Unable to determine ImageIO" in reason:
        return "it is empty or no image file"
    # ITK tells the last error of the system, which is another's
    return (
        "it is damaged or cut short, or the file with its voxels is missing" if reason.startswith("Reason:") else reason
    )


def read_stored(path, wrong: str, tell=None) -> sitk.Image:
    """An image file as it is stored: with its own pixel type, and unlike `read` one that holds a single value, too.

    Args:
        path: of the file.
        wrong: the text of the error where it cannot be read.
        tell: called with sentences that the user should know.

    Returns:
        Any number of dimensions.

    Raises:
        InputError: as of `read`, or with the text `wrong`.
    """
    return _read_file(Path(path), wrong, tell=tell)


def check(image: sitk.Image, name: str, padded: bool = False) -> sitk.Image:
    """An image, checked: 3-D, scalar, finite, varying, at right angles, of a size that a scanner holds.

    Args:
        image: any; a fourth dimension of one entry is dropped.
        name: what messages call it.
        padded: an MR, whose background may be NaN (it then becomes 0; NaN inside is refused).

    Returns:
        float32.

    Raises:
        InputError: it is none of that.
    """
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3:
        raise InputError(f"{name} has {image.GetDimension()} dimensions; a single 3-D volume is needed.")
    if image.GetNumberOfComponentsPerPixel() != 1 or "complex" in image.GetPixelIDTypeAsString():
        raise InputError(
            f"{name} has {max(2, image.GetNumberOfComponentsPerPixel())} values per voxel; a scalar volume is needed."
        )
    if min(image.GetSize()) < 1 or image.GetNumberOfPixels() == 0:
        raise InputError(f"{name} is empty.")
    require_slices(image.GetSize(), name)
    require_geometry(image, name)
    image = sitk.Cast(image, sitk.sitkFloat32)
    array = sitk.GetArrayViewFromImage(image)
    mended = without_border_nan(array) if padded else array
    require_values(mended, name)
    if mended is array:
        return image
    result = sitk.GetImageFromArray(mended)
    result.CopyInformation(image)
    return result


def without_border_nan(array: np.ndarray) -> np.ndarray:
    """The voxels with 0 in place of NaN that reaches in from the border.

    Args:
        array: any.

    Returns:
        A copy; the very array where there is no NaN, or NaN inside too.
    """
    if array.dtype.kind != "f" or not np.isnan(array).any():
        return array
    unknown = np.isnan(array)
    return np.where(unknown, array.dtype.type(0), array) if np.array_equal(from_border(unknown), unknown) else array


def require_values(array: np.ndarray, name: str) -> None:
    """Raises unless all voxels are finite and they differ.

    Args:
        array: voxels.
        name: what messages call the image.

    Raises:
        InputError: NaN, infinite or constant values.
    """
    bad = int(array.size - np.count_nonzero(np.isfinite(array))) if array.dtype.kind == "f" else 0
    if bad:
        raise InputError(f"{name} holds {bad} values that are NaN or infinite; repair or mask them first.")
    if array.min() == array.max():
        raise InputError(f"{name} has the same value ({array.min():g}) in every voxel; there is nothing to see in it.")


def require_slices(size, name: str) -> None:
    """Raises for a single slice.

    Args:
        size: voxels.
        name: what messages call the image.

    Raises:
        InputError: it is one slice.
    """
    if min(size) == 1 and sorted(size)[1] > 1:
        raise InputError(f"{name} is a single slice ({'×'.join(map(str, size))}); a volume is needed.")


def require_extent(spacing, size, name: str) -> None:
    """Raises for an image that is longer than what a scanner holds.

    Args:
        spacing: mm.
        size: voxels, in the same order.
        name: what messages call the image.

    Raises:
        InputError: it is longer.
    """
    extent = np.multiply(spacing, size)
    if extent.max() > LARGEST_MM:
        raise InputError(
            f"{name} is {extent.max() / 1000:.1f} m long, with voxels of {' × '.join(f'{s:g}' for s in spacing)} mm; "
            "correct its voxel spacing."
        )


def require_geometry(image: sitk.Image, name: str) -> None:
    """Raises unless a 3-D image has positive spacings, axes at right angles, and the size of something that a scanner
    holds.

    Args:
        image: 3-D.
        name: what messages call it.

    Raises:
        InputError: it has not.
    """
    spacing, axes = np.array(image.GetSpacing()), np.array(image.GetDirection()).reshape(3, 3)
    if not np.all(np.isfinite(spacing) & (spacing > 0)):
        raise InputError(f"{name} has a voxel spacing of {image.GetSpacing()}; every spacing must be positive.")
    if not np.isfinite(image.GetOrigin()).all() or not np.allclose(axes.T @ axes, np.eye(3), atol=RIGHT_ANGLE):
        raise InputError(
            f"{name} has axes that are not at right angles (it is sheared), or no place in space; resample it to a "
            "straight grid."
        )
    require_extent(spacing, image.GetSize(), name)


def modality(image: sitk.Image) -> str:
    """The DICOM modality that an image is tagged with; empty when it is not."""
    return image.GetMetaData("modality") if image.HasMetaDataKey("modality") else ""


def looks_like_ct(image: sitk.Image) -> bool:
    """Whether an image is more likely a CT in HU than an MR: tagged so, or with much air near −1000 HU."""
    return is_ct(sitk.GetArrayViewFromImage(image), modality(image))


def is_ct(array: np.ndarray, tag: str = "") -> bool:
    """Whether voxels are more likely a CT in HU than an MR.

    Args:
        array: voxels.
        tag: the DICOM modality that they are tagged with; empty when it is not known.

    Returns:
        True or False.
    """
    if tag:
        return tag == "CT"
    return bool(array.min() < -500 and np.count_nonzero((array > -1200) & (array < -800)) > 0.02 * array.size)


def stem(path) -> str:
    """The name of an image file without folder and suffix; of a DICOM folder, the folder's name."""
    name = Path(path).name
    for suffix in (".seg.nrrd", *SUFFIXES):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


class Staging:
    """A folder of results, written beside its place and moved in by `commit`; gone again if that never comes.

    Used as a context.

    Args:
        output: the place.

    Raises:
        InputError: a place that cannot be written to or is full.
    """

    def __init__(self, output):
        self.output = Path(output)
        self.folder = self.output.with_name(f".{self.output.name}.part")  # until it is made

    def __enter__(self) -> Staging:
        with self.writing():
            if os.path.lexists(self.output) and not self.output.is_dir():
                what = "a file" if self.output.is_file() else "no folder, but a device or a link to nothing"
                raise InputError(f"{self.output} is {what}; give a folder for the results.")
            self.output.parent.mkdir(parents=True, exist_ok=True)
            home = self.output.parent
            if self.output.is_dir():
                # what would lose hours of computing at their end is found out before they begin
                tempfile.TemporaryFile(dir=self.output).close()
                # a mount, a link to another disk, a folder of ours in one of somebody else: only inside is it sure
                # that files can be moved to their place
                home = self.output
            # a name of its own: in containers every process has the same number
            self.folder = Path(tempfile.mkdtemp(".part", f".{self.output.name}.", home))
        return self

    def writing(self):
        """A context in which failures to write become one clear `InputError`."""
        return _Writing(self.output)

    def image(self, image: sitk.Image, name: str) -> None:
        """Writes one image, compressed, into the staging folder.

        Args:
            image: any.
            name: of the file; its suffix says the format.

        Raises:
            InputError: it cannot be written.
        """
        with self.writing():
            sitk.WriteImage(image, str(self.folder / name), True, 1)

    def text(self, text: str, name: str) -> None:
        """Writes one text file, UTF-8, into the staging folder.

        Args:
            text: all of it.
            name: of the file.

        Raises:
            InputError: it cannot be written.
        """
        with self.writing():
            (self.folder / name).write_text(text, encoding="utf-8", newline="")

    def commit(self) -> None:
        """Moves everything to its place. All that an earlier result there had written goes, other files stay.

        One result at a time: another that comes to the same place waits.

        Raises:
            InputError: a folder lies where a file would go, or the place cannot be written to.
        """
        with self.writing():
            self.output.mkdir(exist_ok=True)
        # inside: beside it nothing can be written where it is a mount or lies in somebody else's folder
        with self.writing(), _Alone(self.output / ".lock"):
            earlier = _files_of_result(self.output)
            new = sorted(p.name for p in self.folder.iterdir())
            in_the_way = [name for name in new if not _replaceable(self.output / name, self.folder / name)]
            if in_the_way:
                other = self._aside()
                place = self.output / in_the_way[0]
                what = "a folder" if place.is_dir() else "no regular file"
                raise InputError(
                    f"{place} is {what} where a file of the result would go; nothing was changed there, and the result "
                    f"is in {other}."
                )
            for name in new:
                _move(self.folder / name, self.output / name)
            for name in earlier.difference(new):
                (self.output / name).unlink(missing_ok=True)
            self.folder.rmdir()

    def _aside(self) -> Path:
        """Move the whole staged folder to a new name beside its place, or in it where that cannot be."""
        for home in (self.output.parent, self.output):
            names = (home / f"{self.output.name}-{number}" for number in range(1, 1000))
            other = next(n for n in names if not os.path.lexists(n))
            try:
                os.replace(self.folder, other)
            except OSError:
                continue
            return other
        raise OSError(errno.EACCES, "Permission denied")

    def __exit__(self, *_):
        if self.folder.exists():
            shutil.rmtree(self.folder, ignore_errors=True)


def _replaceable(place: Path, new: Path) -> bool:
    """Whether `new` may go where `place` is: only a regular file is ever replaced, by a file."""
    return not os.path.lexists(place) or (_regular(place) and new.is_file())


def _move(source: Path, place: Path) -> None:
    try:
        os.replace(source, place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.move(source, place)  # the folder was mounted meanwhile


def require_regular(output) -> None:
    """Raise `InputError` for a file to write that is a device, a pipe or a folder, or would go into a folder of such:
    only regular files and new names are ever written.
    """
    output = Path(output)
    stands = os.path.lexists(output)
    if (stands and not output.is_file()) or output.absolute().parts[1:2] in (("dev",), ("proc",), ("sys",)):
        what = "is a folder" if output.is_dir() else "is no regular file"
        raise InputError(f"{output} {what}; give the name of a file to write.")


def write_file(output, writer) -> None:
    """Call `writer` with a place to write a file to, and move that to `output` when it is whole. Through a symbolic
    link the file behind it is written.

    Raises `InputError` for a place that cannot be written to, is full, or is no regular file (`require_regular`).
    """
    require_regular(output)
    output = Path(output).resolve()
    with _Writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        # a file of ours may stand in a folder of somebody else
        beside = output.parent if os.access(output.parent, os.W_OK) or not output.is_file() else None
        with tempfile.TemporaryDirectory(".part", f".{output.name[:100]}.", beside) as folder:
            place = Path(folder) / output.name
            writer(place)
            try:
                os.replace(place, output)
            except OSError as error:
                # mounted by itself, on another disk, or in a folder that may not be changed: written in place
                if not output.is_file() or error.errno not in (errno.EXDEV, errno.EBUSY, errno.EACCES, errno.EPERM):
                    raise
                shutil.copyfile(place, output)


def _files_of_result(folder: Path) -> set[str]:
    """Names of the files in `folder` that its summary.json says a job wrote; none where it holds no result."""
    try:
        named = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["files"].values()
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return set()
    found: set = {"summary.json", "scene.mrb", "report.html"}
    for value in named:
        found.update(v for v in (value.values() if isinstance(value, dict) else [value]) if isinstance(v, str))
    return {name for name in found if isinstance(name, str) and name == Path(name).name and _regular(folder / name)}


def _regular(place: Path) -> bool:
    return place.is_file() and not place.is_symlink()


class _Alone:
    """A context that one process at a time is in, by a lock on `file`, which is gone afterwards.

    The system gives the lock back when a process dies, on this machine or another one, so none is ever stale.
    """

    def __init__(self, file: Path):
        self.file, self.handle = file, -1

    def __enter__(self) -> _Alone:
        while True:
            self.handle = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                _lock(self.handle)
                # the one before may have removed the file while this one waited for it
                if os.path.samestat(os.fstat(self.handle), os.stat(self.file)):
                    return self
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                    os.close(self.handle)
                    raise
                return self  # a disk that knows no locks: nothing better can be had there
            os.close(self.handle)

    def __exit__(self, *_) -> None:
        if os.name == "nt":  # an open file cannot be removed
            os.close(self.handle)
        with contextlib.suppress(OSError):
            self.file.unlink()
        if os.name != "nt":
            os.close(self.handle)


def _lock(handle: int) -> None:
    """Wait for the lock on an open file and take it."""
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX)
        return
    import msvcrt

    while True:
        try:
            msvcrt.locking(handle, msvcrt.LK_LOCK, 1)
            return
        except OSError as error:  # after ten seconds it gives up
            if error.errno not in (errno.EDEADLK, errno.EACCES):
                raise


class _Writing:
    def __init__(self, place: Path):
        self.place = place

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if isinstance(error, OSError):
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise InputError(
                    f"{self.place}: no space left on the disk; free some or choose another folder."
                ) from error
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise InputError(f"{self.place}: no permission to write there; choose another folder.") from error
            raise InputError(f"{self.place} cannot be written: {error.strerror or error}.") from error
        if isinstance(error, RuntimeError) and "rite" in str(error):
            # SimpleITK gives no errno; a full disk is by far the usual cause
            raise InputError(f"{self.place}: an image could not be written; is the disk full?") from error
        return False
