"""Results of other tools (TotalSegmentator, nnU-Net, a folder of synthetic CTs, a vendor's) as a `Result`, so that
report, RT Review, dose and DICOM export take them like our own.

Nothing is guessed in silence: what lies on other voxels, has labels without names, or is no CT in HU is refused with
one line. Nothing is calibrated either: what these models err by is not known here. See `job.collect`.
"""

from __future__ import annotations

from ..core import lazy

__all__, __getattr__, __dir__ = lazy.exports(__name__, {"collect": "job", "Source": "source"})
