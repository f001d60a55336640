"""Another day of the patient of a planning scan, with a deformation that is known: for training and for checking.

`daily_scan` makes it. Names are loaded when they are used, so that importing this package does not import torch.
"""

from __future__ import annotations

from ...core import lazy

__all__, __getattr__, __dir__ = lazy.exports(
    __name__,
    {
        "CHANGES": "amounts",
        "DailyOptions": "daily",
        "DailyScan": "daily",
        "daily_scan": "daily",
        "masks_of": "daily",
        "roles_of": "anatomy",
    },
)
