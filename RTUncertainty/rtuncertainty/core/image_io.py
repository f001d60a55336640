"""Reading images with their geometry, checking them, and writing files that are never half there."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import os
import struct
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from . import slice_stack
from .errors import InputError

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
# scalar products of axes that count as 0; headers are rounded. No field of view is longer than a patient, mm
RIGHT_ANGLE, LARGEST_MM = 1e-3, 3000.0


def read(path, padded: bool = False) -> sitk.Image:
    """A 3-D scalar image from a NIfTI, NRRD or MetaImage file, or from a folder with one DICOM series. `padded`: see
    `check`.

    Raises `InputError` that names the file, what is wrong with it and what to do.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; give an image file or a folder with a DICOM series.")
    if path.is_dir():
        return _read_dicom(path)
    check_nifti(path, padded)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(
            f"{path} cannot be read as an image ({_reason(error)}); give NIfTI, NRRD, MHA or a DICOM folder."
        ) from error
    return check(image, str(path), padded)


def _reason(error: RuntimeError) -> str:
    """The last line of SimpleITK's message, or what it means."""
    reason = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "unknown reason")
    if "Unable to determine ImageIO" in reason:
        return "it is empty or no image file"
    # ITK tells the last error of the system, which is another's
    return (
        "it is damaged or cut short, or the file with its voxels is missing" if reason.startswith("Reason:") else reason
    )


def read_stored(path, wrong: str) -> sitk.Image:
    """An image file as it is stored: with its own pixel type, and unlike `read` one that holds a single value, too.

    Raises `InputError` as `check_nifti`, or with the text `wrong` where it cannot be read.
    """
    check_nifti(path)
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(wrong) from error


def check_nifti(path, padded: bool = False) -> None:
    """Raise `InputError` for a NIfTI-1 file that is cut short, holds NaN or infinite values, or whose header makes no
    image.

    With `padded`, NaN that reaches in from the border is background and no fault.
    ITK reads a truncated file without a word, turns NaN into 0 and a voxel size of 0 into 1 mm, so the file itself is
    looked at. Files of other kinds are not.
    """
    path = Path(path)
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opened(path, "rb") as f:
            header = f.read(352)
            order = next((o for o in "<>" if len(header) >= 348 and struct.unpack(o + "i", header[:4])[0] == 348), None)
            if order is None:
                return  # NIfTI-2, Analyze or no NIfTI at all: ITK will say
            dimensions, *shape = struct.unpack(order + "8h", header[40:56])
            kind, bits = struct.unpack(order + "2h", header[70:74])
            size, offset = struct.unpack(order + "3f", header[80:92]), struct.unpack(order + "f", header[108:112])[0]
            if not 1 <= dimensions <= 7 or shape[0] < 1 or bits < 1 or not np.isfinite(offset):
                raise InputError(f"{path} cannot be read as an image (its header is damaged); copy it again.")
            if not np.isfinite(size[:dimensions]).all() or 0 in size[:dimensions]:
                raise InputError(
                    f"{path} states a voxel size of {' × '.join(f'{s:g}' for s in size)} mm; every one must be "
                    "positive: repair the header."
                )
            expected = int(np.prod([max(1, n) for n in shape[:dimensions]], dtype=np.int64)) * bits // 8
            f.seek(max(352, int(offset)))
            found, unlike, wide = 0, [], 4 if kind == 16 else 8
            while block := f.read(1 << 24):
                found += len(block)
                if kind in (16, 64):
                    values = np.frombuffer(block[: len(block) // wide * wide], f"{order}f{wide}")
                    unlike.append(np.where(np.isnan(values), 1, np.where(np.isfinite(values), 0, 2)).astype(np.uint8))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path} cannot be read as an image (it is damaged or cut short: {error}); copy it again."
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    if found < expected:
        raise InputError(
            f"{path} cannot be read as an image (it is cut short: {found} of {expected} bytes of voxels); copy it "
            "again."
        )
    bad = sum(int(np.count_nonzero(u)) for u in unlike)
    if bad:
        shape = [max(1, n) for n in shape[:dimensions]][::-1]
        whole = np.concatenate(unlike)[: int(np.prod(shape))].reshape(shape)
        if not (padded and (whole < 2).all() and np.array_equal(from_border(whole == 1), whole == 1)):
            raise InputError(f"{path} holds {bad} values that are NaN or infinite; repair or mask them first.")


def from_border(mask: np.ndarray) -> np.ndarray:
    """The connected parts of a mask that reach the border of the image."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask)
    faces = [np.unique(np.take(labels, (0, -1), axis)) for axis in range(mask.ndim)]
    return mask & np.isin(labels, np.unique(np.concatenate(faces)))


def _read_dicom(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    names = reader.GetGDCMSeriesIDs(str(folder))
    if not names:
        raise InputError(f"{folder} holds no DICOM series; give the folder in which the slices lie.")
    if len(names) > 1:
        found = [len(reader.GetGDCMSeriesFileNames(str(folder), n)) for n in names]
        raise InputError(
            f"{folder} holds {len(names)} DICOM series (of {', '.join(map(str, found))} files); give a folder with one."
        )
    files = reader.GetGDCMSeriesFileNames(str(folder), names[0])
    header = slice_stack.require(folder, files)
    reader.SetFileNames(files)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(f"{folder}: the DICOM series cannot be read ({_reason(error)}); copy it again.") from error
    image = check(image, str(folder))
    for key, tag in (("modality", "0008|0060"), ("frame_of_reference", "0020|0052")):
        if tag in header:
            image.SetMetaData(key, header[tag])
    return image


def check(image: sitk.Image, name: str, padded: bool = False) -> sitk.Image:
    """The image as float32 when it is a 3-D scalar image with finite, varying values and positive spacing.

    `padded`: an MR, whose background may be NaN (it then becomes 0; NaN inside is refused). A fourth dimension of one
    entry is dropped. Raises `InputError` otherwise.
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
    """The voxels with 0 in place of NaN that reaches in from the border; the very array where there is none, or NaN
    inside too.
    """
    if array.dtype.kind != "f" or not np.isnan(array).any():
        return array
    unknown = np.isnan(array)
    return np.where(unknown, array.dtype.type(0), array) if np.array_equal(from_border(unknown), unknown) else array


def require_values(array: np.ndarray, name: str) -> None:
    """Raise `InputError` unless all voxels are finite and they differ."""
    bad = int(array.size - np.count_nonzero(np.isfinite(array))) if array.dtype.kind == "f" else 0
    if bad:
        raise InputError(f"{name} holds {bad} values that are NaN or infinite; repair or mask them first.")
    if array.min() == array.max():
        raise InputError(f"{name} has the same value ({array.min():g}) in every voxel; there is nothing to see in it.")


def require_slices(size, name: str) -> None:
    """Raise `InputError` for a single slice; `size` in voxels."""
    if min(size) == 1 and sorted(size)[1] > 1:
        raise InputError(f"{name} is a single slice ({'×'.join(map(str, size))}); a volume is needed.")


def require_extent(spacing, size, name: str) -> None:
    """Raise `InputError` for an image that is longer than what a scanner holds; `spacing` in mm, `size` in voxels."""
    extent = np.multiply(spacing, size)
    if extent.max() > LARGEST_MM:
        raise InputError(
            f"{name} is {extent.max() / 1000:.1f} m long, with voxels of {' × '.join(f'{s:g}' for s in spacing)} mm; "
            "correct its voxel spacing."
        )


def require_geometry(image: sitk.Image, name: str) -> None:
    """Raise `InputError` unless a 3-D image has positive spacings, axes at right angles, and the size of something
    that a scanner holds.
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
    """The same of voxels and the DICOM modality that they are tagged with, empty when it is not known."""
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

    Used as a context. Raises `InputError` for a place that cannot be written to or is full.
    """

    def __init__(self, output):
        self.output = Path(output)
        self.folder = self.output.with_name(f".{self.output.name}.part")  # until it is made

    def __enter__(self) -> Staging:
        with self.writing():
            if self.output.exists() and not self.output.is_dir():
                raise InputError(f"{self.output} is a file; give a folder for the results.")
            self.output.parent.mkdir(parents=True, exist_ok=True)
            if self.output.is_dir():
                # what would lose hours of computing at their end is found out before they begin
                tempfile.TemporaryFile(dir=self.output).close()
            # a name of its own: in containers every process has the same number
            self.folder = Path(tempfile.mkdtemp(".part", f".{self.output.name}.", self.output.parent))
        return self

    def writing(self):
        """A context in which failures to write become one clear `InputError`."""
        return _Writing(self.output)

    def image(self, image: sitk.Image, name: str) -> None:
        """Write one image, compressed, into the staging folder."""
        with self.writing():
            sitk.WriteImage(image, str(self.folder / name), True, 1)

    def text(self, text: str, name: str) -> None:
        """Write one text file, UTF-8, into the staging folder."""
        with self.writing():
            (self.folder / name).write_text(text, encoding="utf-8", newline="")

    def commit(self) -> None:
        """Move everything to its place. All that an earlier result there had written goes, other files stay. One result
        at a time: another that comes to the same place waits.
        """
        with self.writing(), _Alone(self.output.with_name(f".{self.output.name}.lock")):
            self.output.mkdir(exist_ok=True)
            earlier = _files_of_result(self.output)
            new = sorted(p.name for p in self.folder.iterdir())
            in_the_way = [name for name in new if (self.output / name).is_dir() and not (self.folder / name).is_dir()]
            if in_the_way:
                for number in range(1, 1000):
                    other = self.output.with_name(f"{self.output.name}-{number}")
                    if not other.exists():
                        break
                os.replace(self.folder, other)
                raise InputError(
                    f"{self.output / in_the_way[0]} is a folder where a file of the result would go; nothing was "
                    f"changed there, and the result is in {other}."
                )
            for name in new:
                os.replace(self.folder / name, self.output / name)
            for name in earlier.difference(new):
                (self.output / name).unlink(missing_ok=True)
            self.folder.rmdir()

    def __exit__(self, *_):
        import shutil

        if self.folder.exists():
            shutil.rmtree(self.folder, ignore_errors=True)


def _files_of_result(folder: Path) -> set[str]:
    """Names of the files in `folder` that its summary.json says a job wrote; none where it holds no result."""
    try:
        named = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["files"].values()
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return set()
    found: set = {"summary.json", "scene.mrb", "report.html"}
    for value in named:
        found.update(v for v in (value.values() if isinstance(value, dict) else [value]) if isinstance(v, str))
    return {name for name in found if isinstance(name, str) and name == Path(name).name and (folder / name).is_file()}


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
            # SimpleITK tells no errno; a full disk is by far the usual cause
            raise InputError(f"{self.place}: an image could not be written; is the disk full?") from error
        return False
