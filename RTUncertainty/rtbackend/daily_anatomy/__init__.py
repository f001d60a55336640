"""Another day of the patient of a planning scan, with a deformation that is known: for training and for checking.

`daily_scan` makes it. Names are loaded when they are used, so that importing this package does not import torch.
"""

from __future__ import annotations

import importlib

_WHERE = {"CHANGES": "amounts", "DailyOptions": "daily", "DailyScan": "daily", "daily_scan": "daily", "masks_of": "daily", "roles_of": "anatomy"}
__all__ = sorted(_WHERE)


def __getattr__(name: str):
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)


def __dir__():
    return __all__
