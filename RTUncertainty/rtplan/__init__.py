"""Treatment plans recomputed: dose on a CT, on a synthetic CT and on samples of it, with the engines of pydosert.

Beside the backend and not in it, because it needs pydosert, and the backend works without it. The backend finds this package by its
name, and only when `dose` is asked for; this package knows the backend's images, structures, doses and errors.

Research use only. The plans are simple (fields shaped to the target, protons with fitted spot weights) and the engines are pencil beams:
they tell how far a dose moves from one CT to another, not what a clinic would deliver.
"""

from __future__ import annotations

import importlib

_WHERE = {
    "Plan": "plan", "read_plan": "plan", "Table": "density", "read_table": "density", "SCHNEIDER": "density",
    "DoseGrid": "grid", "Patient": "patient", "planned": "delivery", "Delivery": "delivery",
    "smooth_field": "samples", "field_members": "samples", "Comparison": "compare", "dose_to_folder": "job", "SHARES": "job", "summary": "job",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str):
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)


def __dir__():
    return __all__
