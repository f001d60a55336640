"""Treatment plans recomputed: dose on a CT, on a synthetic CT and on samples of it, with the engines of pydosert.

Beside the backend and not in it, because it needs pydosert, and the backend works without it. The backend finds this
package by its name, and only when `dose` is asked for; this package knows the backend's images, structures, doses and
errors.

Research use only. The plans are simple (fields shaped to the target, protons with fitted spot weights) and the engines
are pencil beams: they say how far a dose moves from one CT to another, not what a clinic would deliver.
"""

from __future__ import annotations

from rtuncertainty.core import lazy

__all__, __getattr__, __dir__ = lazy.exports(
    __name__,
    {
        "Plan": "plan",
        "read_plan": "plan",
        "Table": "density",
        "read_table": "density",
        "SCHNEIDER": "density",
        "DoseGrid": "grid",
        "Patient": "patient",
        "planned": "delivery",
        "Delivery": "delivery",
        "smooth_field": "samples",
        "field_members": "samples",
        "Comparison": "compare",
        "dose_to_folder": "job",
        "SHARES": "job",
        "summary": "job",
    },
)
