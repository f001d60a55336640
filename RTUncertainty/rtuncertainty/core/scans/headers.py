"""What headers of image files say, where ITK reads over it: NIfTI-1 whose geometry or scale is contradictory, files
without a voxel size, and pictures.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError

# kinds of files whose voxels have a size and a place
WITH_PLACE = ("NiftiImageIO", "NrrdImageIO", "MetaImageIO", "GDCMImageIO", "MINCImageIO")
# part of a voxel by which two statements of one place may differ
SAME = 0.02
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass
class Nifti:
    """What a NIfTI-1 header says: `sform` and `qform` (4 × 4, RAS, mm; None where it states none)."""

    sform: np.ndarray | None
    qform: np.ndarray | None


def is_nifti(path) -> bool:
    """Whether a file is NIfTI by its name."""
    return Path(path).name.lower().endswith((".nii", ".nii.gz"))


def require_place(path, tell=None) -> None:
    """Raise `InputError` for a file whose kind or header gives its voxels no size: a picture, Analyze, or a NRRD or
    MetaImage that states none. ITK takes 1 mm. `tell`: called with a note where only the directions are missing.
    """
    kind = sitk.ImageFileReader.GetImageIOFromFileName(str(path))
    if kind and kind not in WITH_PLACE:
        raise InputError(
            f"{path} is a file of the kind {kind.removesuffix('ImageIO')}, in which voxels have no size and no place; "
            "give NIfTI, NRRD, MHA or a DICOM folder."
        )
    if kind == "NiftiImageIO" and not is_nifti(path):
        raise InputError(
            f"{path} is Analyze, or NIfTI in two files, which is not read; save it as .nii.gz, NRRD or MHA."
        )
    if kind not in ("NrrdImageIO", "MetaImageIO"):
        return
    with open(path, "rb") as file:
        start = file.read(1 << 16)
    head = (start.split(b"\n\n")[0].replace(b"\r\n", b"\n") if kind == "NrrdImageIO" else start).lower()
    sizes = (b"spacings:", b"space directions:") if kind == "NrrdImageIO" else (b"elementspacing", b"elementsize")
    # a header without an end is damaged, which ITK tells
    whole = kind != "NrrdImageIO" or b"\n\n" in start.replace(b"\r\n", b"\n")
    if whole and not any(s in head for s in sizes):
        raise InputError(
            f"{path} states no voxel size ({' or '.join(s.decode().rstrip(':') for s in sizes)}); repair its header."
        )
    axes = (
        (b"space:", b"space dimension:") if kind == "NrrdImageIO" else (b"transformmatrix", b"orientation", b"rotation")
    )
    if whole and tell is not None and not any(a in head for a in axes):
        tell(f"{path}: states no orientation; left, front and head may be mistaken.")


def read_nifti(path, padded: bool = False) -> Nifti | None:
    """The header of a NIfTI-1 file, whose voxels have been looked at; None for files of other kinds.

    With `padded`, NaN that reaches in from the border is background and no fault.
    ITK reads a truncated file without a word, turns NaN into 0 and a voxel size of 0 into 1 mm, and mirrors an image
    whose voxel size is negative, so the file itself is looked at. Raises `InputError` for one that is cut short, holds
    NaN or infinite values, or whose header makes no image.
    """
    path = Path(path)
    if not is_nifti(path):
        return None
    try:
        opened = gzip.open if path.name.lower().endswith(".gz") else open
        with opened(path, "rb") as f:
            return _read(f, path, padded)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path} cannot be read as an image (it is damaged or cut short: {error}); copy it again."
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def _read(f, path: Path, padded: bool) -> Nifti | None:
    header = f.read(352)
    if len(header) >= 4 and 540 in (struct.unpack(o + "i", header[:4])[0] for o in "<>"):
        raise InputError(f"{path} is NIfTI-2, which is not read; save it as NIfTI-1, NRRD or MHA.")
    order = next((o for o in "<>" if len(header) >= 348 and struct.unpack(o + "i", header[:4])[0] == 348), None)
    if order is None:
        return None  # no NIfTI at all: ITK will say
    if header[344:347] not in (b"n+1", b"ni1"):
        raise InputError(
            f"{path} is Analyze, whose voxels have no place in space, no NIfTI; save it as NIfTI-1, NRRD or MHA."
        )
    dimensions, *shape = struct.unpack(order + "8h", header[40:56])
    kind, bits = struct.unpack(order + "2h", header[70:74])
    factor, *size = struct.unpack(order + "4f", header[76:92])
    offset, slope, intercept = struct.unpack(order + "3f", header[108:120])
    if not 1 <= dimensions <= 7 or shape[0] < 1 or bits < 1 or not np.isfinite(offset):
        raise InputError(f"{path} cannot be read as an image (its header is damaged); copy it again.")
    stated = size[:dimensions]
    if not (np.isfinite(stated).all() and min(stated) > 0):
        raise InputError(
            f"{path} states a voxel size of {' × '.join(f'{s:g}' for s in size)} mm (pixdim); every one must be "
            "positive: repair the header."
        )
    # by the standard a slope of 0 is no scale at all, whatever the intercept; ITK adds it
    if not math.isfinite(slope) or (slope and not math.isfinite(intercept)) or (slope == 0 and intercept):
        raise InputError(
            f"{path} states scl_slope {slope:g} with scl_inter {intercept:g}, which readers take differently; repair "
            "the header."
        )
    expected = int(np.prod([max(1, n) for n in shape[:dimensions]], dtype=np.int64)) * bits // 8
    f.seek(max(352, int(offset)))
    found, unlike, wide = 0, [], 4 if kind == 16 else 8
    while block := f.read(1 << 24):
        found += len(block)
        if kind in (16, 64):
            values = np.frombuffer(block[: len(block) // wide * wide], f"{order}f{wide}")
            unlike.append(np.where(np.isnan(values), 1, np.where(np.isfinite(values), 0, 2)).astype(np.uint8))
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
    qcode, scode = struct.unpack(order + "2h", header[252:256])
    rows = np.reshape(struct.unpack(order + "12f", header[280:328]), (3, 4))
    if scode > 0:
        _require_straight(rows[:, :3], path)
    return Nifti(
        np.vstack([rows, [0, 0, 0, 1]]) if scode > 0 else None,
        _of_quaternion(struct.unpack(order + "6f", header[256:280]), size, factor) if qcode > 0 else None,
    )


def _require_straight(matrix: np.ndarray, path) -> None:
    lengths = np.linalg.norm(matrix, axis=0)
    if not np.isfinite(matrix).all() or lengths.min() <= 0:
        raise InputError(f"{path} has an sform without three directions; repair its header.")
    axes = matrix / lengths
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
        raise InputError(
            f"{path} has axes that are not at right angles (its sform is sheared); resample it to a straight grid."
        )


def _of_quaternion(numbers, size, factor: float) -> np.ndarray:
    """The qform (nifti1.h, "method 2")."""
    b, c, d, *shift = numbers
    a = math.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * b * c - 2 * a * d, 2 * b * d + 2 * a * c],
            [2 * b * c + 2 * a * d, a * a + c * c - b * b - d * d, 2 * c * d - 2 * a * b],
            [2 * b * d - 2 * a * c, 2 * c * d + 2 * a * b, a * a + d * d - c * c - b * b],
        ]
    )
    made = np.eye(4)
    made[:3, :3] = turn * [size[0], size[1], size[2] * (-1 if factor < 0 else 1)]
    made[:3, 3] = shift
    return made


def placed(image: sitk.Image, header: Nifti | None, path, tell=None) -> sitk.Image:
    """A NIfTI image at the place that its header states: its sform where it has one, as nibabel does, also where ITK
    takes the qform. Two that disagree, and none at all, are told.
    """
    if header is None or image.GetDimension() not in (3, 4):
        return image
    tell = tell or (lambda note: None)
    stated = header.sform if header.sform is not None else header.qform
    if stated is None:
        tell(f"{path}: states no orientation (neither sform nor qform); left, front and head may be mistaken.")
        return image
    size = np.array(image.GetSize()[:3])
    if header.sform is not None and header.qform is not None and _apart(header.sform, header.qform, size):
        tell(f"{path}: its sform and qform disagree on the place of the image; the sform was taken.")
    here = _affine(image)
    scale = float(np.linalg.norm(here[:3, 0])) / max(float(np.linalg.norm(stated[:3, 0])), 1e-12)
    if any(abs(scale / unit - 1) < SAME for unit in (1e3, 1e-3)):  # metres and micrometres, which ITK knows
        return image
    if not _apart(stated, here, size):
        return image
    lengths = np.linalg.norm(stated[:3, :3], axis=0)
    axes = (LPS @ stated)[:3, :3] / lengths
    # straightened: SimpleITK asks for more digits than a header has
    u, _, v = np.linalg.svd(axes)
    axes, origin = u @ v, (LPS @ stated)[:3, 3]
    if image.GetDimension() == 4:
        image.SetSpacing([*map(float, lengths), image.GetSpacing()[3]])
        image.SetOrigin([*map(float, origin), image.GetOrigin()[3]])
        whole = np.eye(4)
        whole[:3, :3] = axes
        image.SetDirection(whole.ravel().tolist())
        return image
    image.SetSpacing(lengths.tolist())
    image.SetOrigin(origin.tolist())
    image.SetDirection(axes.ravel().tolist())
    return image


def _affine(image: sitk.Image) -> np.ndarray:
    """Index to RAS of the first three axes."""
    count = image.GetDimension()
    made = np.eye(4)
    made[:3, :3] = np.reshape(image.GetDirection(), (count, count))[:3, :3] * image.GetSpacing()[:3]
    made[:3, 3] = image.GetOrigin()[:3]
    return LPS @ made


def _apart(first: np.ndarray, second: np.ndarray, size) -> bool:
    """Whether two affines put a corner of the image at different places, to a part of a voxel."""
    corners = np.array([[*(np.array(c) * (size - 1)), 1] for c in np.ndindex(2, 2, 2)], float)
    edge = np.linalg.norm(second[:3, :3], axis=0).min()
    return not np.abs(corners @ (first - second).T).max() <= SAME * edge


def from_border(mask: np.ndarray) -> np.ndarray:
    """The connected parts of a mask that reach the border of the image."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask)
    faces = [np.unique(np.take(labels, (0, -1), axis)) for axis in range(mask.ndim)]
    return mask & np.isin(labels, np.unique(np.concatenate(faces)))
