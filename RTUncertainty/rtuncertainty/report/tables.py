"""The report's table of structures, what was reviewed, how far flags could be trusted, and the dose-volume bands."""

from __future__ import annotations

import math

import numpy as np

from . import charts
from . import data
from . import text as words
from .charts import number
from .text import text, value

LEVEL = 0.9
LIMITS = {"interval_width": "width of the interval / volume", "expected_dice": "expected Dice", "surface_entropy": "surface entropy (nats)",
          "usual_volume": "volume beyond that of training patients, times", "msd_mm": "distance of the contours (mm)",
          "dice": "Dice of the contours", "sd_mm": "spread of the surface (mm)"}
STATUS = {"accepted": "accepted", "rejected": "rejected", "edited": "accepted after editing", "open": "not reviewed", "": "not reviewed"}


def row_of(rows: list[dict], name: str, **where) -> dict | None:
    """The first row of a structure whose columns have the values `where` (numbers are compared as numbers)."""
    for row in rows:
        if row.get("structure") == name and all(abs(value(row, k) - v) < 1e-6 for k, v in where.items()):
            return row
    return None


def names(result: data.Result) -> list[str]:
    """The structures in the order of the summary, then those that only a table knows."""
    known = [s.name for s in result.structures]
    return known + [r["structure"] for r in result.tables.get("volumes", []) if r.get("structure") and r["structure"] not in known]


def interval(result: data.Result, name: str, level: float = LEVEL) -> dict:
    """volume_ml, lower_ml, upper_ml, level (numbers, NaN where unknown), calibrated (bool), cases and note of a structure: at
    `level` where the result has that level, else at the level that it has."""
    stated = row_of(result.tables.get("volumes", []), name)
    found = row_of(result.tables.get("volume_intervals", []), name, level=level) or stated
    return {"volume_ml": value(stated, "volume_ml"), **{k: value(found, k) for k in ("lower_ml", "upper_ml", "level")},
            "calibrated": (found or {}).get("calibrated") == "yes", "cases": value(found, "cases"), "note": (found or {}).get("note") or ""}


def structures(result: data.Result, level: float = LEVEL) -> list[str]:
    """Every structure in a row: volume with its interval, expected Dice, surface entropy, flags, review."""
    rows, quality = names(result), result.tables.get("quality", [])
    if not rows:
        return []
    reviews = {r.get("structure"): r for r in result.reviews}
    colours = {s.name: s.color for s in result.structures}
    heads = [("Structure", ""), ("Volume (ml)", "n"), (f"{level:.0%} interval (ml)", "n")]
    heads += [("Expected Dice", "n"), ("Entropy (nats)", "n")] if quality else []
    heads += [("Flags", "")] + ([("Review", "")] if reviews else [])
    out = ["<table class='structures'><tr>" + "".join(f"<th class='{c}'>{h}</th>" for h, c in heads) + "</tr>"]
    for name in rows:
        found, known = interval(result, name, level), row_of(quality, name)
        swatch = f"<span class='swatch' style='background:{words.colour({'color': colours.get(name)})}'></span>" if name in colours else ""
        low, high = found["lower_ml"], found["upper_ml"]
        between = "–"
        if math.isfinite(low):
            other = f" ({found['level']:.0%})" if math.isfinite(found["level"]) and abs(found["level"] - level) > 1e-6 else ""
            between = f"{number(low)} to {number(high)}{other}{'' if found['calibrated'] else ' *'}"
        cells = [f"<td><span class='name'>{swatch}<b>{text(name)}</b></span></td>",
                 _number(found["volume_ml"]), f"<td class='n'>{between}</td>"]
        if quality:
            cells += [_expected_dice(known), _number(value(known, "surface_entropy"))]
        cells.append(f"<td>{_flags(result, name)}</td>")
        if reviews:
            cells.append(f"<td>{status(reviews.get(name))}</td>")
        out.append(f"<tr>{''.join(cells)}</tr>")
    described = "; ".join(f"{text(s.name)}: {text(s.description)}" for s in result.structures if s.description)
    return ["<h2>Structures and volumes</h2>", "".join(out) + "</table>", f"<p class='soft'>{described}.</p>" if described else "",
            _worth(result, rows, level, bool(quality)), *_volume_charts(result, rows, level)]


def _number(v: float) -> str:
    return f"<td class='n'>{number(v)}</td>"


def _expected_dice(row: dict | None) -> str:
    dice, low, high = (value(row, k) for k in ("expected_dice", "dice_lower", "dice_upper"))
    if not math.isfinite(dice):
        return "<td class='n'>–</td>"
    mark = "" if (row or {}).get("calibrated") == "yes" else " *"
    between = f" ({low:.2f} to {high:.2f})" if math.isfinite(low) and math.isfinite(high) else ""
    return f"<td class='n'>{dice:.2f}{mark}{between}</td>"


def _flags(result: data.Result, name: str) -> str:
    rank = {s: i for i, s in enumerate(words.SEVERITIES)}
    rows = sorted((r for r in result.flags if r.get("subject") == name), key=lambda r: rank.get(r.get("severity"), 9))
    return "; ".join(f"<span class='{r['severity'] if r.get('severity') in rank else 'info'}'><b class='level'>{text(r.get('flag'))}</b></span>"
                     for r in rows) or "<span class='soft'>none</span>"


def _worth(result: data.Result, rows: list[str], level: float, quality: bool) -> str:
    """What the intervals are worth, and what is marked by a star."""
    found = {name: interval(result, name, level) for name in rows}
    calibrated = [n for n, f in found.items() if f["calibrated"]]
    open_ = [n for n, f in found.items() if not f["calibrated"] and math.isfinite(f["lower_ml"])]
    told = []
    if calibrated:
        cases = [f["cases"] for f in found.values() if math.isfinite(f["cases"]) and f["cases"] > 0]
        on = f" ({number(min(cases))} cases)" if cases else ""
        told.append(f"Calibrated on validation patients{on}: the interval should hold the true volume as often as its level says.")
    if open_ or (quality and any(r.get("calibrated") != "yes" for r in result.tables["quality"])):
        told.append("* <b>Not calibrated.</b> It shows the model's own doubt only, and may miss the truth more often than it says.")
    for note in dict.fromkeys(f["note"] for f in found.values() if f["note"]):
        told.append(f"{text([n for n, f in found.items() if f['note'] == note])}: {text(note)}.")
    if quality:
        told.append("Entropy: mean over the contour's surface; 0 where it is certain.")
        known = ((result.summary.get("model") or {}).get("calibration") or {}).get("quality") or {}
        of_dice, patients = value(known, "level"), value(known, "patients")
        if math.isfinite(of_dice) and math.isfinite(patients):
            images = f" ({text(known['images'])})" if known.get("images") else ""
            told.append(f"Expected Dice: told from the uncertainty alone, calibrated on {number(patients)} validation patients{images}; its interval is "
                        f"that of {of_dice:.0%}.")
    other = {f["level"] for f in found.values() if math.isfinite(f["level"]) and abs(f["level"] - level) > 1e-6}
    if other:
        told.append(f"The result has no intervals at {level:.0%} where another level is given.")
    return f"<p>{' '.join(told)}</p>" if told else ""


def _volume_charts(result: data.Result, rows: list[str], level: float) -> list[str]:
    """Intervals side by side, relative to the volume, and the distributions."""
    bars = []
    for name in rows:
        found = interval(result, name, level)
        if found["volume_ml"] > 0 and math.isfinite(found["lower_ml"]) and found["upper_ml"] > found["lower_ml"]:
            bars.append((name, *(100 * (found[k] / found["volume_ml"] - 1) for k in ("lower_ml", "upper_ml")), found["calibrated"]))
    out = []
    if bars:
        colours = {s.name: s.color for s in result.structures}
        out += [f"<h3>How well each volume is known, relative to itself ({level:.0%} intervals)</h3>", charts.intervals(bars, colours)]
    curves = distributions(result)
    if curves:
        out += ["<h3>Distributions of the volumes</h3>", charts.distributions(curves, {n: interval(result, n, level) for n in curves},
                                                                              {s.name: s.color for s in result.structures})]
    return out


def distributions(result: data.Result) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Structure -> (volume in ml, percentile), rising; the calibrated volumes where the table has them."""
    out = {}
    for name in names(result):
        rows = [r for r in result.tables.get("volume_distribution", []) if r.get("structure") == name]
        key = "calibrated_ml" if rows and all(math.isfinite(value(r, "calibrated_ml")) for r in rows) else "volume_ml"
        points = sorted((value(r, "percentile"), value(r, key)) for r in rows)
        points = [p for p in points if all(math.isfinite(v) for v in p)]
        if len(points) > 2 and points[-1][1] > points[0][1]:
            out[name] = (np.maximum.accumulate([v for _, v in points]), np.array([p for p, _ in points]))
    return out


def status(row: dict | None) -> str:
    """What was decided of a structure, in words, escaped."""
    decided = (row or {}).get("decision") or ""
    return text(STATUS.get(decided, decided))


def reviews(result: data.Result) -> list[str]:
    """Who looks at this later sees what was accepted and why; empty where nothing was reviewed."""
    if not result.reviews:
        return []
    out = ["<table><tr><th>Structure</th><th>Decision</th><th>Comment</th><th>Reviewer</th><th>Time</th></tr>"]
    for r in result.reviews:
        out.append(f"<tr><td><b>{text(r.get('structure'))}</b></td><td>{status(r)}</td><td>{text(r.get('comment'))}</td><td>{text(r.get('reviewer'))}</td>"
                   f"<td>{text(str(r.get('time') or '').replace('T', ' ')[:16])}</td></tr>")
    done = len({r.get("structure") for r in result.reviews if status(r) != "not reviewed"})
    return ["<h2>Review</h2>", f"<p>{done} of {len(names(result))} structures were reviewed.</p>", "".join(out) + "</table>"]


def earned(card: dict) -> str:
    """How the limits behind flags and lights did on validation, in words; that they were never checked where the card says nothing."""
    calibration = card.get("calibration") or {}
    rows = [(LIMITS.get(name, name), row) for name, row in (calibration.get("flags") or {}).items() if isinstance(row, dict)]
    for light, limits in (calibration.get("lights") or {}).items():
        rows += [(f"{light} light: {LIMITS.get(name, name)}", row) for name, row in limits.items() if isinstance(row, dict)]
    told = []
    for name, row in rows:
        caught, missed, false = (value(row, k) for k in ("caught", "missed", "false_alarms"))
        if not math.isfinite(caught) or not math.isfinite(missed):
            continue
        cases = f" of {number(value(row, 'cases'))} contours" if math.isfinite(value(row, "cases")) else ""
        told.append(f"<tr><td>{text(name)}</td><td class='n'>{number(value(row, 'threshold'))}</td><td class='n'>{number(caught + missed)}{cases}</td>"
                    f"<td class='n'>{number(caught)}</td><td class='n'>{number(missed)}</td><td class='n'>{number(false)}</td></tr>")
    if not told:
        return "<p class='soft'>The limits behind these flags were not tested on validation patients: a bad contour may carry no flag.</p>"
    return ("<p>How the limits behind these flags did on validation patients:</p><table class='earned'><tr><th>Limit on</th><th class='n'>Limit</th>"
            "<th class='n'>Bad contours</th><th class='n'>Caught</th><th class='n'>Missed</th><th class='n'>False alarms</th></tr>"
            + "".join(told) + "</table>")


def dvh(result: data.Result) -> list[str]:
    """Dose-volume histograms with their bands, where the result has them."""
    if not result.dvh:
        return []
    return ["<h2>Dose</h2>", "<p>Dose-volume histograms; the band says how far they move with the uncertainty.</p>", charts.dvh(result.dvh)]
