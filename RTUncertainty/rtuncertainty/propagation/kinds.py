"""What kind of scan is it, and do two belong together? A registration compares like with like: CT with CT, or MR with
MR of one kind."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..core import geometry, image_io
from ..core.ct import AIR_HU, TISSUE_HU
from ..core.errors import InputError

# of an MR: the share of the tissue's bright end that counts as tissue at all, and what the bright end becomes in HU
TISSUE, BRIGHT = 0.12, 700.0


def kind_of_pair(planning: sitk.Image, daily: sitk.Image, names: tuple[str, str]) -> str:
    """ "CT" or "MR". Raises `InputError` for one of each."""
    kinds = [
        "CT" if image_io.is_ct(sitk.GetArrayViewFromImage(i), image_io.modality(i)) else "MR" for i in (planning, daily)
    ]
    if kinds[0] == kinds[1]:
        return kinds[0]
    ct, other = names if kinds[0] == "CT" else names[::-1]
    raise InputError(
        f"{ct} is a CT and {other} is none (no air near -1000 HU): a registration compares two scans of one kind, and "
        "what it makes of two kinds was never checked; give two CTs (a cone-beam CT in HU too) or two MRs."
    )


def like_ct(mr: sitk.Image, name: str) -> sitk.Image:
    """An MR with its background at -1000, the faintest tissue at -300 and its bright end at 700 (float32), so that what
    finds bodies and compares CTs does it here too. Raises `InputError` for an image without any contrast."""
    array = sitk.GetArrayFromImage(mr).astype(np.float32)
    positive = array[array > 0]
    bright = float(np.percentile(positive, 99)) if positive.size else 0.0
    if bright <= float(array.min()):
        raise InputError(f"{name} shows nothing (all its voxels are alike); give the patient's scan.")
    hu = np.interp(array, [0.0, TISSUE * bright, bright], [AIR_HU, TISSUE_HU, BRIGHT])
    return geometry.like(hu, mr)
