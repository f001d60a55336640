"""Several daily scans of one patient, each propagated: what becomes of every structure over the days, as a table and a
page with a chart for each.
"""

from __future__ import annotations

import html
import math
from pathlib import Path

from ..core import image_io
from ..results import tables
from ..results.result import Result
from . import build
from .figures import Series, chart

COLUMNS = (
    "structure",
    "day",
    "daily",
    "path",
    "planning_ml",
    "volume_ml",
    "lower_ml",
    "upper_ml",
    "level",
    "calibrated",
    "agreement",
    "sd_mm",
    "flags",
    "folder",
)
TABLE, PAGE = "course.csv", "course.html"
_LIGHTS = {"green": "#2c6a3e", "amber": "#8a5200", "red": "#b3261e"}
_BLUE, _GREY = (0, 114, 178), (120, 120, 120)


def rows(days: dict[int, Path]) -> list[dict]:
    """The rows of course.csv, structure by structure.

    Args:
        days: {number of the daily scan: the folder of its result}.

    Returns:
        Dicts by `COLUMNS`; ml and mm.
    """
    found = []
    for day, folder in sorted(days.items()):
        result = Result.read(folder, "propagate")
        volumes = {row["structure"]: row for row in result.table("volumes")}
        raised: dict[str, list[str]] = {}
        for row in result.table("flags"):
            raised.setdefault(row["subject"], []).append(row["flag"])
        for row in result.table("structure_table"):
            volume = volumes[row["structure"]]
            found.append(
                {
                    "structure": row["structure"],
                    "day": str(day),
                    "daily": result.summary["daily"]["name"],
                    "path": row["default"],
                    "planning_ml": row["planning_ml"],
                    **{k: volume[k] for k in ("volume_ml", "lower_ml", "upper_ml", "level", "calibrated")},
                    "agreement": row["light"],
                    "sd_mm": row[f"{row['default']}_sd_mm"],
                    # what concerns all of the scan concerns each of its structures
                    "flags": ", ".join(raised.get(row["structure"], []) + raised.get("deformation", [])),
                    "folder": folder.name,
                }
            )
    order = {name: k for k, name in enumerate(dict.fromkeys(row["structure"] for row in found))}
    return sorted(found, key=lambda row: (order[row["structure"]], int(row["day"])))


def write(days: dict[int, Path], output: Path) -> None:
    """Writes course.csv and course.html.

    Args:
        days: as of `rows`.
        output: the folder for both.

    Raises:
        InputError: the folder cannot be written to, or jinja2 is missing; the table is written then.
    """
    found = rows(days)
    for name, text in ((TABLE, tables.text(COLUMNS, found)), (PAGE, page(found))):
        image_io.write_file(output / name, lambda p, t=text: p.write_text(t, encoding="utf-8", newline=""))


def page(found: list[dict]) -> str:
    """A chart and a table for each structure.

    Args:
        found: as `rows` gives them.

    Returns:
        HTML that needs no other file.
    """
    names = list(dict.fromkeys(row["structure"] for row in found))
    days = len({row["day"] for row in found})
    parts = [
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>Course</title><style>"
        "body { max-width:60em; margin:2em auto; padding:0 1em; font:14px/1.45 Arial,sans-serif; color:#1c2430 }"
        "table { border-collapse:collapse; width:100% } th,td { text-align:left; padding:3px 8px; border-bottom:1px "
        "solid #d5dbe1 } th { background:#f4f6f8 } section { break-inside:avoid } .key { font-size:12px }"
        "</style></head><body><h1>Structures over the days</h1>"
        f"<p>{days} daily scan{'s' * (days != 1)}; day 0 is the planning scan. Shaded: the interval of each volume, "
        "where it is calibrated. Research use only: look at every scan that is amber or red.</p>"
    ]
    for name in names:
        parts.append(_section(name, [row for row in found if row["structure"] == name]))
    return "".join([*parts, "</body></html>\n"])


def _number(text: str) -> float:
    return float(text) if text else math.nan


def _section(name: str, found: list[dict]) -> str:
    days = [0, *(int(row["day"]) for row in found)]
    planned = _number(found[0]["planning_ml"])
    volumes = [planned, *(_number(row["volume_ml"]) for row in found)]
    # of the planning scan nothing is uncertain here: as it was drawn
    low, high = ([planned, *(_number(row[k]) for row in found)] for k in ("lower_ml", "upper_ml"))
    known = all(map(math.isfinite, [*low, *high]))
    lines = [
        Series("volume", _BLUE, days, volumes, lower=low if known else None, upper=high if known else None),
        Series("as planned", _GREY, [0, days[-1]], [planned, planned], dashed=True),
    ]
    top = max(v for v in (*volumes, *high) if math.isfinite(v))
    drawn = chart(lines, "daily scan", "volume (ml)", y_range=(0.0, 1.1 * max(top, 1e-6)))
    heads = ("day", "scan", "volume (ml)", "interval (ml)", "agreement", "SD (mm)", "flags")
    body = []
    for row in found:
        interval = f"{row['lower_ml']} to {row['upper_ml']}" if row["lower_ml"] else "not calibrated"
        cells = [row["day"], row["daily"], row["volume_ml"], interval, row["agreement"], row["sd_mm"], row["flags"]]
        shown = [html.escape(c) for c in cells]
        shown[4] = f"<b style='color:{_LIGHTS.get(row['agreement'], '#1c2430')}'>{shown[4]}</b>"
        body.append("<tr>" + "".join(f"<td>{c}</td>" for c in shown) + "</tr>")
    return (
        f"<section><h2>{html.escape(name)}</h2>{build.drawing(drawn)}<table><tr>"
        + "".join(f"<th>{h}</th>" for h in heads)
        + f"</tr>{''.join(body)}</table></section>"
    )
