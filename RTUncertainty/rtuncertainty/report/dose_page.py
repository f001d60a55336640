"""The page of the command `dose`: DVHs on a CT and on its synthetic CT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dose.table import dose_axis
from . import build

if TYPE_CHECKING:
    from ..dose.plan.compare import Comparison

# Okabe and Ito's, as in the reports
_COLOURS = ((213, 94, 0), (0, 114, 178), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233))


def page(found: Comparison) -> str:
    """The DVHs on the CT and on the synthetic CT, its bands shaded.

    Args:
        found: both doses and what differs.

    Returns:
        HTML.
    """
    largest = max(float(r.dvh.dose[0]) for r in [*found.ct_rows, *found.rows] if r.dvh is not None)
    axis, curves = dose_axis(largest), []
    for number, (ct, other) in enumerate(zip(found.ct_rows, found.rows)):
        if ct.dvh is None or other.dvh is None:
            continue
        colour = _COLOURS[number % len(_COLOURS)]
        curves.append(
            {
                "name": f"{ct.structure}, CT",
                "color": tuple(c // 2 for c in colour),
                "dose": axis,
                "volume": ct.dvh.volume_at_dose(axis).tolist(),
            }
        )
        curves.append(
            {
                "name": f"{ct.structure}, synthetic CT",
                "color": colour,
                "dose": axis,
                "volume": other.dvh.volume_at_dose(axis).tolist(),
                "lower": other.band.lower if other.band else None,
                "upper": other.band.upper if other.band else None,
            }
        )
    return (
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>Dose-volume "
        "histograms</title></head><body style='max-width:60em;margin:2em auto'>"
        f"{build.dvh_drawing(curves)}<p>Shaded: 5 to 95 % of samples of the synthetic CT; not calibrated. Research "
        "use only.</p></body></html>\n"
    )
