"""The tables of a run and the names of its overlays, as the panel shows them."""

from __future__ import annotations

import math

from rtuncertainty.results import Result
from rtuncertainty.results.tables import COLUMNS

from ..widgets.table_rows import NONE
from ..widgets.text import _
from .review_data import read_summary, table_rows_of

# key of `scene.OVERLAYS` -> how the panel calls it, in the order of its list
OVERLAY_TITLES = {
    "predictive": _("Predictive uncertainty (SD)"),
    "intrinsic": _("Intrinsic uncertainty (SD)"),
    "parameter": _("Parameter uncertainty (SD)"),
    "entropy": _("Entropy of the structures"),
    "mutual_information": _("Mutual information of the structures"),
    "error": _("Error against the reference CT"),
    "zscore": _("z-score against the reference CT"),
}


def result_of_run(run) -> Result:
    """What a run in the scene, also one that a scene file brought, says: its summary and its tables as texts,
    without images.
    """
    content = {}
    for key, node in run.tables.items():
        if key in COLUMNS and node is not None and node.GetScene() is not None:
            content[key] = [
                {k: "" if isinstance(v, float) and math.isnan(v) else str(v) for k, v in row.items()}
                for row in table_rows_of(node)
            ]
    return Result(read_summary(run) | {"name": run.name}, content)


def volume_row(row: dict) -> list[str]:
    """Structure, volume, interval and calibration of a row of volumes.csv, as texts."""
    volume, lower, upper = (float(row[key] or "nan") for key in ("volume_ml", "lower_ml", "upper_ml"))
    digits = 0 if volume >= 1000 or upper >= 1000 else 1  # a narrow panel shows the whole row then
    interval = _("not calibrated")
    if math.isfinite(lower) and math.isfinite(upper):
        interval = _("{lower} to {upper} ({level:.0%})").format(
            lower=f"{lower:.{digits}f}", upper=f"{upper:.{digits}f}", level=float(row["level"])
        )
    return [
        row["structure"],
        f"{volume:.{digits}f}" if math.isfinite(volume) else NONE,
        interval,
        _("yes") if row["calibrated"].strip().lower() == "yes" else _("no"),
    ]
