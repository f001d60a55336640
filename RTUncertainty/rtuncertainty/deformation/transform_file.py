"""Deformations as ITK transform files (.h5), which SimpleITK and 3D Slicer read.

What Slicer makes of such a file (tried on its own libraries, 5.13): ITK transforms map points of the fixed to the
moving image, and Slicer reads them as the transform *from* parent. A planning CT, a segmentation or points put under
the transform node therefore move onto the daily scan as they should, without anything to invert or tick; "to parent",
the way points and surfaces go, is Slicer's own numerical inverse of the field. Between voxels Slicer interpolates the
field by cubic splines (its voxels are met exactly), and beyond the grid it goes on with the outermost displacements.
The file must hold one field: a composite of rigid and field arrives as a general transform and no longer as a grid. So
a rigid pre-alignment is worked into the field here.

SimpleITK writes 64-bit numbers and does not compress them: 24 bytes a voxel.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import SimpleITK as sitk

from ..core.errors import InputError
from .field import after_rigid, require_field


def write_transform(field: sitk.Image, path, rigid: sitk.Transform | None = None) -> Path:
    """Writes a displacement field transform; beside its place, then renamed.

    Args:
        field: mm.
        path: of an .h5 file; folders are made.
        rigid: a pre-alignment that is worked in, see `after_rigid`.

    Returns:
        The path.

    Raises:
        InputError: a name that does not end in .h5, or a place that cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() != ".h5":
        raise InputError(f"{path}: a deformation is written as an .h5 file; choose such a name.")
    field = require_field(field)
    if rigid is not None:
        field = after_rigid(field, rigid)
    # ITK knows the format by the suffix, so that of the part must stay
    part = path.with_name(f".{path.stem}.{os.getpid()}.part.h5")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # a copy, because the transform takes the image's memory
        sitk.WriteTransform(sitk.DisplacementFieldTransform(sitk.Image(field)), str(part))
        os.replace(part, path)
    except (RuntimeError, OSError) as error:
        reason = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "unknown reason")
        raise InputError(f"{path} cannot be written ({reason}); choose another folder or make room.") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return path


def read_transform(path, grid: sitk.Image | None = None) -> sitk.Image:
    """The displacement field of a transform file.

    Args:
        path: any transform that SimpleITK reads (rigid, B-spline, composite) will do where a grid is given.
        grid: the image whose voxels are wanted; None: the field's own.

    Returns:
        mm.

    Raises:
        InputError: a file that is missing or damaged, or that holds no field where no grid is given.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a transform file.")
    try:
        transform = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        reason = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "unknown reason")
        raise InputError(f"{path} cannot be read as a transform ({reason}).") from error
    if isinstance(transform, sitk.DisplacementFieldTransform):
        field = require_field(sitk.Image(transform.GetDisplacementField()), str(path))
        if grid is None:
            return field
        from .compose import resample_field

        return resample_field(field, grid)
    if grid is not None:
        return require_field(
            sitk.TransformToDisplacementField(
                transform,
                sitk.sitkVectorFloat64,
                grid.GetSize(),
                grid.GetOrigin(),
                grid.GetSpacing(),
                grid.GetDirection(),
            ),
            str(path),
        )
    raise InputError(
        f"{path} holds a transform of type {transform.GetName()}, not one displacement field; give the image on whose "
        "grid "
        "it is wanted."
    )
