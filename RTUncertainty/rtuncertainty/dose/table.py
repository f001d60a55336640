"""The numbers and curves of DVHs as tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..results import tables
from .dvh import Dvh

if TYPE_CHECKING:
    from .bands import Band

# Gy, percent of the prescription, percent of the volume
DOSES, PRESCRIBED, VOLUMES = (5, 10, 20, 30, 40, 50, 60), (95, 100, 107), (98, 95, 50, 2)
# Gy between the points of a curve, of doses up to 10 Gy and of others
STEPS = (0.01, 0.1)


@dataclass
class Row:
    """One structure.

    Attributes:
        structure: its name.
        dvh: None where `note` says why there is none.
        band: of the DVH, or None.
        note: what to know of it.
        numbers: further columns.
    """

    structure: str
    dvh: Dvh | None = None
    band: Band | None = None
    note: str = ""
    numbers: dict = field(default_factory=dict)


def numbers(dvh: Dvh, prescription: float | None = None) -> dict[str, float]:
    """The numbers of a DVH by column.

    Args:
        dvh: of a structure.
        prescription: Gy, for doses in percent of it, or None.

    Returns:
        Gy, percent of the volume, percent of the prescription.
    """
    doses = {"min": float(dvh.dose[-1]), "mean": float(dvh.mean()), "max": float(dvh.dose[0])}
    doses |= {f"d{v}": float(dvh.dose_at_volume(v)) for v in VOLUMES}
    found = {"volume_ml": dvh.volume_ml} | {f"{name}_gy": dose for name, dose in doses.items()}
    found |= dict(zip((f"v{d}gy_percent" for d in DOSES), dvh.volume_at_dose(DOSES).tolist()))
    if prescription:
        found |= {
            f"{name}_rx_percent": 100 * doses[name] / prescription for name in ("mean", "d98", "d95", "d50", "d2")
        }
        levels = dvh.volume_at_dose([p / 100 * prescription for p in PRESCRIBED])
        found |= dict(zip((f"v{p}rx_percent" for p in PRESCRIBED), levels.tolist()))
    return found


def dose_axis(largest: float) -> np.ndarray:
    """The doses (Gy) of curves, from 0 to beyond `largest`."""
    step = STEPS[0] if largest <= 10 else STEPS[1]
    return step * np.arange(math.floor(largest / step) + 2)


def metrics_table(rows: list[Row], prescription: float | None = None) -> str:
    """`dvh.csv` as text. Cells of structures without a DVH are empty; `note` says why.

    With bands there are <column>_lower and <column>_upper for every number, their `level`, and `calibrated`: "volume"
    where the nested contours are those of calibrated volumes, "no" where they are as the network's samples are. That
    doses hold their intervals was never checked.

    Args:
        rows: of the structures.
        prescription: Gy, or None.

    Returns:
        CSV.
    """
    whole = next(r for r in rows if r.dvh is not None)
    columns, banded = list(numbers(whole.dvh, prescription)), any(r.band is not None for r in rows)
    head = ["structure", "in_dose_grid_percent", *columns]
    if banded:
        head += [f"{c}_{end}" for c in columns for end in ("lower", "upper")] + ["level", "calibrated"]
    lines = [[*head, "note"]]
    for r in rows:
        found = numbers(r.dvh, prescription) if r.dvh is not None else {}
        line = [
            r.structure,
            _number(100 * r.dvh.covered if r.dvh is not None else None),
            *(_number(found.get(c)) for c in columns),
        ]
        if banded and r.band is None:
            line += [""] * (2 * len(columns) + 2)
        elif banded:
            line += [_number(v) for c in columns for v in r.band.intervals[c]] + [
                f"{r.band.level:g}",
                r.band.calibrated,
            ]
        lines.append([*line, r.note])
    return tables.text(lines[0], lines[1:])


def curves_table(rows: list[Row]) -> str:
    """`dvh_curves.csv` as text: structure, dose_gy, volume_percent (of the volume inside the dose grid), with bands
    lower and upper.

    Args:
        rows: of the structures.

    Returns:
        CSV.
    """
    banded = any(r.band is not None for r in rows)
    lines = [["structure", "dose_gy", "volume_percent"] + ["lower_percent", "upper_percent"] * banded]
    drawn = [r for r in rows if r.dvh is not None]
    axis = dose_axis(max(float(r.dvh.dose[0]) for r in drawn))
    for r in drawn:
        curves = [r.dvh.volume_at_dose(axis).tolist()]
        if banded:
            curves += [r.band.lower, r.band.upper] if r.band is not None else [[math.nan] * len(axis)] * 2
        lines += [[r.structure, f"{dose:.2f}", *map(_number, values)] for dose, *values in zip(axis, *curves)]
    return tables.text(lines[0], lines[1:])


def _number(value) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.4f}".rstrip("0").rstrip(".")
