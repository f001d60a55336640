"""A result as the plain values that the template of the report prints; every text is escaped there."""

from __future__ import annotations

import math

import numpy as np

from .. import __version__
from . import pictures
from .data import ReportData, value
from .figures import Series, chart, number
from .structures import Structure, least_certain

LEVEL = 0.9
SEVERITIES = ("serious", "warning", "info")
AGREEMENT = {"red": ("serious", "Red", "expect to correct it"), "amber": ("warning", "Amber", "look at it"),
             "green": ("good", "Green", "the paths agree")}
"""Agreement of the two contours of a propagation -> (severity, word, what it asks for)."""
LIMITS = {"interval_width": "width of the interval / volume", "expected_dice": "expected Dice", "surface_entropy": "surface entropy (nats)",
          "usual_volume": "volume beyond that of training patients, times", "msd_mm": "distance of the contours (mm)",
          "dice": "Dice of the contours", "sd_mm": "SD of the surface (mm)"}
STATUS = {"accepted": "accepted", "edited": "accepted after editing", "rejected": "rejected", "open": "not reviewed", "": "not reviewed"}
MOST_PLACES = 12
NARROW, WIDE = 1.15, 0.87
"""SD of z-scores above which error bars are called too narrow, and below which too wide."""
SD_COLORS = {"predictive": "#d55e00", "intrinsic": "#009e73", "parameter": "#0072b2"}  # Okabe and Ito: told apart with any colour vision


def context(data: ReportData, level: float = LEVEL) -> dict:
    """All that the template prints.

    Args:
        data: the result.
        level: of the intervals, where the result has it.
    """
    flags, table = flagged(data), structure_table(data, level)
    validated = validation_rows(data.card)
    rows, further, shown = pictures.overview(data)
    details = [_uncertainty(data, further), _deformation(data, further), _reference(data)]
    if validated:
        details.append({"title": "How the limits behind the flags did on validation patients", "tables": [{
            "heads": ["Limit on", "Limit", "Bad contours", "Caught", "Missed", "False alarms"], "rows": validated}]})
    return {
        "title": heading(data), "name": str(data.summary.get("name") or "RTUncertainty report"), "about": _about(data),
        "patient": list(data.patient.items()), "intended_use": intended_use(data.card),
        "phantom": bool((data.card.get("training") or {}).get("phantom")), "verdict": verdict(data, flags), "flags": flags,
        "notes": [str(n) for n in data.summary.get("notes") or []], "tested": bool(validated) if data.card else None,
        "structures": table, "reviews": reviews(data), "places": places(data, flags), "rows": rows,
        "colors": [(s.name, s.color) for s in data.shown()], "explanation": pictures.explanation(data, shown), "dvh": dvh_chart(data.dvh),
        "details": [d for d in details if d], "model": model_facts(data.card), "run": run_facts(data.summary),
        "version": (data.summary.get("versions") or {}).get("rtuncertainty") or __version__}


# -- what it is


def text(found) -> str:
    """Any value as text; lists are joined by commas, nothing becomes a dash."""
    if found is None or found == "":
        return "–"
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, (list, tuple)):
        return ", ".join(text(v) for v in found)
    if isinstance(found, dict):
        return "; ".join(f"{k} {text(v)}" for k, v in found.items())
    return f"{found:g}" if isinstance(found, float) else str(found)


def heading(data: ReportData) -> str:
    """The title of the report."""
    if data.job == "propagate":
        return "Propagated contours with uncertainty"
    outputs = data.card.get("outputs") or {"structures": data.summary.get("structures"), **({} if data.job == "own" else {"synct": True})}
    made = ["Synthetic CT"] * ("synct" in outputs) + ["structures"] * bool(outputs.get("structures"))
    title = " and ".join(made) or "result"
    return f"{title[0].upper()}{title[1:]} with uncertainty"


def intended_use(card: dict) -> str:
    """What the card says that the model is for, and always that it is no medical device and not for clinical decisions."""
    use = str(card.get("intended_use") or "")
    for said in ("Research use only, not for clinical decisions.", "Research use only."):
        use = use.replace(said, "")
    return f"Not a medical device. Research use only, not for clinical decisions. {use.strip()}".strip()


def _about(data: ReportData) -> list[str]:
    """Images, model and time, in one line."""
    summary, card = data.summary, data.card
    given = summary.get("daily" if data.job == "propagate" else "input") or {}
    planning = f"Planning CT {text((summary.get('planning') or {}).get('name'))} to daily CT " if data.job == "propagate" else "Input "
    size, spacing = (" × ".join(f(v) for v in given.get(k) or []) for k, f in (("size", text), ("spacing_mm", lambda v: number(float(v)))))
    out = [planning + text(given.get("name")) + (f", {size} voxels of {spacing} mm" if size and spacing else "")] if given else []
    out += [f"model {text(card.get('title') or card.get('name'))} {card.get('version') or ''}".strip()] if card else []
    created = str(summary.get("created") or "").replace("T", " ")[:16]
    return out + [created] * bool(created) or [text(summary.get("name"))]


# -- what to look at


def names(data: ReportData) -> list[str]:
    """The structures in the order of the summary, then those that only a table knows."""
    known = [s.name for s in data.structures]
    return known + [r["structure"] for r in data.rows("volumes") if r.get("structure") and r["structure"] not in known]


def flagged(data: ReportData) -> list[dict]:
    """What was flagged, worst first: {"subject", "color" (None when it is no structure), "severity", "flags": [(flag, reason)]}.

    In a propagation, a red or amber agreement that no flag speaks of counts as one.
    """
    rows = list(data.rows("flags"))
    known = {r.get("subject") for r in rows}
    for r in data.rows("structure_table"):
        if r.get("light") in ("red", "amber") and r.get("structure") not in known:
            rows.append({"subject": r["structure"], "severity": AGREEMENT[r["light"]][0], "flag": r.get("flag") or r["light"],
                         "reason": r.get("reason") or ""})
    colors, found = {s.name: s.color for s in data.structures}, {}
    for r in sorted(rows, key=lambda r: _rank(r.get("severity"))):
        subject, severity = text(r.get("subject")), r.get("severity") if r.get("severity") in SEVERITIES else "info"
        entry = found.setdefault(subject, {"subject": subject, "color": colors.get(subject), "severity": severity, "flags": []})
        entry["flags"].append((text(r.get("flag")), str(r.get("reason") or "")))
    return list(found.values())


def _rank(severity) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def verdict(data: ReportData, flags: list[dict]) -> tuple[str, str]:
    """(severity or "good", the result in one sentence); what was reviewed need not be checked again, and how far that has come is said."""
    known = names(data)
    decisions = {r.get("structure"): r["decision"] for r in data.reviews if r.get("decision") not in (None, "", "open")}
    warned = [f for f in flags if f["severity"] != "info"]
    own, others = [f for f in warned if f["subject"] in known], [f for f in warned if f["subject"] not in known]
    left = [f for f in own if f["subject"] not in decisions]
    if left:
        groups = [(s, [f["subject"] for f in left if f["severity"] == s]) for s in SEVERITIES]
        out = f"Check {len(left)} of {len(known)} structures before you use them: {'; '.join(f'{listed(g)} ({s})' for s, g in groups if g)}"
    elif own:
        out = "Every flagged structure was reviewed"
    elif known:
        out = f"None of the {len(known)} structures was flagged as a warning" if len(known) > 1 else f"{known[0]} was not flagged as a warning"
    else:
        out = "Check the result before you use it" if others else "No warning was raised"
    if others:
        out += "; also flagged: " + listed([f"{f['subject']} ({f['flags'][0][0]})" for f in others])
    out += "." if own or others else "; that is no proof that the result is right."
    if data.reviews:
        counts = [(word, [n for n, d in decisions.items() if STATUS.get(d, d) == word]) for word in dict.fromkeys(STATUS.values())]
        done = ", ".join(f"{len(g)} {word}" + (f" ({listed(g)})" if word == "rejected" else "") for word, g in counts if g)
        out += f" {len(decisions)} of {len(known)} structures were reviewed{': ' + done if done else ''}."
    worst = [f["severity"] for f in left + others] + ["serious"] * ("rejected" in decisions.values())
    return min(worst, key=_rank, default="good"), out


def listed(words: list[str]) -> str:
    """Words with commas, and an "and" before the last."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def places(data: ReportData, flags: list[dict]) -> dict | None:
    """Where each flagged structure is least certain (at most `MOST_PLACES`), or where none is flagged that of the widest interval."""
    by_name = {s.name: s for s in data.structures}
    found = [(by_name[f["subject"]], f["flags"]) for f in flags if f["subject"] in by_name and f["severity"] != "info"]
    title, rest = "Where to look: the flagged structures, where they are least certain", [s.name for s, _ in found[MOST_PLACES:]]
    if not found:
        found, title = [(s, []) for s in _widest(data)], "Where to look: the least certain structure"
    if not found:
        return None
    key, entries = data.uncertainty(), []
    for structure, own in found[:MOST_PLACES]:
        entry = {"name": structure.name, "color": structure.color, "flags": [f for f, _ in own], "text": "It has no voxel to show.", "figures": []}
        place = least_certain(structure, data.spacing, data.images.get(key))
        if place is not None:
            entry["text"] = f"Shown where {place[1]}." + (
                f" {pictures.NAMES[key]} there: {number(float(data.images[key][place[0]]))} {pictures.map_panel(data, key).scale.unit}." if key else "")
            entry["figures"] = pictures.at_place(data, structure, place[0])
        entries.append(entry)
    paths = {p for s, _ in found for p in s.contours}
    explained = ["The ticks at the edges point at the place."] + [f"{w[:1].upper()}{w[1:]}." for p, w in pictures.CONTOURS.items() if p in paths]
    if any(s.inside is not None for s, _ in found):
        explained.append("Pale lines are nested: outside of the outer one lies the structure with less than 5 %, inside of the inner one with more "
                         "than 95 % probability.")
    return {"title": title, "explanation": explained, "entries": entries, "rest": rest}


def _widest(data: ReportData) -> list[Structure]:
    """The structure whose interval is widest relative to its volume; none without intervals."""
    widths = {}
    for s in data.shown():
        known = interval(data, s.name)
        width = (known["upper_ml"] - known["lower_ml"]) / known["volume_ml"] if known["volume_ml"] > 0 else math.nan
        widths |= {s.name: (width, s)} if math.isfinite(width) else {}
    return [max(widths.values(), key=lambda w: w[0])[1]] if widths else []


# -- structures


def row_of(rows: list[dict], name: str, level: float | None = None) -> dict | None:
    """The first row of a structure, of a level where one is given."""
    return next((r for r in rows if r.get("structure") == name and (level is None or abs(value(r, "level") - level) < 1e-6)), None)


def interval(data: ReportData, name: str, level: float = LEVEL) -> dict:
    """volume_ml, lower_ml, upper_ml, level, cases (NaN where unknown), calibrated and note of a structure: at `level` where the
    result has that level, else at the level that it has."""
    stated = row_of(data.rows("volumes"), name)
    found = row_of(data.rows("volume_intervals"), name, level) or stated
    return {"volume_ml": value(stated, "volume_ml"), **{k: value(found, k) for k in ("lower_ml", "upper_ml", "level", "cases")},
            "calibrated": (found or {}).get("calibrated") == "yes", "note": (found or {}).get("note") or ""}


def structure_table(data: ReportData, level: float) -> dict | None:
    """Every structure in a row: {"heads", "rows", "notes"}; None without a structure.

    Of a propagation, the least agreement first. A cell is a text, or a dict that says how to print it.
    """
    order = names(data)
    if not order:
        return None
    both = {r.get("structure"): r for r in data.rows("structure_table")}
    order.sort(key=lambda n: list(AGREEMENT).index(light) if (light := both.get(n, {}).get("light")) in AGREEMENT else len(AGREEMENT))
    known = {name: interval(data, name, level) for name in order}
    quality, decided = {r.get("structure"): r for r in data.rows("quality")}, {r.get("structure"): r for r in data.reviews}
    relative = {n: tuple(100 * (i[k] / i["volume_ml"] - 1) for k in ("lower_ml", "upper_ml")) for n, i in known.items()
                if i["volume_ml"] > 0 and math.isfinite(i["lower_ml"]) and i["upper_ml"] > i["lower_ml"]}
    reach = min(max([5.0, *(1.05 * abs(v) for ends in relative.values() for v in ends)]), 100.0)
    heads = ["Structure"] + ["Agreement"] * bool(both) + ["Volume (ml)", f"{level:.0%} interval (ml)"]
    heads += [f"Relative (±{number(round(reach))} %)"] * bool(relative)
    heads += ["Planning (ml)", "Dice", "Distance (mm)", "SD (mm)"] if both else []
    heads += ["Expected Dice"] * bool(quality) + ["Entropy (nats)"] * (bool(quality) and not both)
    heads += ["Path"] if both else ["Flags"]
    heads += ["Review"] * bool(decided)
    colors, rows = {s.name: s.color for s in data.structures}, []
    for name in order:
        found, row = known[name], both.get(name, {})
        cells = [{"name": name, "color": colors.get(name)}]
        cells += [_agreement(row)] if both else []
        cells += [_number(found["volume_ml"]), _right(_between(found, level))]
        if relative:
            cells.append({"bar": (*relative[name], reach), "calibrated": found["calibrated"]} if name in relative else "")
        if both:
            cells.append(_right(_planned(value(row, "planning_ml"), found["volume_ml"])))
            cells += [_number(value(row, k)) for k in ("dice", "msd_mm", f"{row.get('default') or 'propagated'}_sd_mm")]
        if quality:
            cells.append(_right(_expected_dice(quality.get(name))))
            cells += [] if both else [_number(value(quality.get(name), "surface_entropy"))]
        cells.append({"text": text(row.get("default") or "propagated"), "severity": ""} if both else _flags(data, name))
        cells += [status(decided.get(name))] if decided else []
        rows.append(cells)
    return {"heads": heads, "rows": rows, "notes": _table_notes(data, known, level)}


def _right(cell: str) -> dict:
    return {"text": cell, "right": True}


def _number(found: float) -> dict:
    return _right(number(found))


def _agreement(row: dict) -> dict:
    severity, word, _ = AGREEMENT.get(row.get("light") or "", ("info", text(row.get("light")), ""))
    return {"text": word, "severity": severity}


def _planned(planning: float, daily: float) -> str:
    """The planning volume in ml, and how far the daily one differs from it."""
    change = round(100 * (daily / planning - 1)) if planning > 0 and math.isfinite(daily) else None
    return number(planning) + ("" if change is None else f" ({change:+d} %)".replace("-", "−").replace("+0", "0"))


def _between(found: dict, level: float) -> str:
    if not math.isfinite(found["lower_ml"]):
        return "–"
    other = f" ({found['level']:.0%})" if math.isfinite(found["level"]) and abs(found["level"] - level) > 1e-6 else ""
    return f"{number(found['lower_ml'])} to {number(found['upper_ml'])}{other}{'' if found['calibrated'] else ' *'}"


def _expected_dice(row: dict | None) -> str:
    dice, low, high = (value(row, k) for k in ("expected_dice", "dice_lower", "dice_upper"))
    if not math.isfinite(dice):
        return "–"
    return f"{dice:.2f}" + ("" if row.get("calibrated") == "yes" else " *") + (f" ({low:.2f} to {high:.2f})" if math.isfinite(low) and math.isfinite(high) else "")


def _flags(data: ReportData, name: str) -> dict:
    rows = sorted((r for r in data.rows("flags") if r.get("subject") == name), key=lambda r: _rank(r.get("severity")))
    return {"text": ", ".join(text(r.get("flag")) for r in rows) or "none", "severity": rows[0].get("severity") if rows else ""}


def _table_notes(data: ReportData, known: dict[str, dict], level: float) -> list[str]:
    """What the table's numbers are worth, and what is marked by a star."""
    out, quality = [], data.rows("quality")
    if any(f["calibrated"] for f in known.values()):
        cases = [f["cases"] for f in known.values() if f["cases"] > 0]
        on = f" ({number(min(cases))} cases)" if cases else ""
        out.append(f"Calibrated on validation patients{on}: the interval should hold the true volume as often as its level says.")
    if any(not f["calibrated"] and math.isfinite(f["lower_ml"]) for f in known.values()) or any(r.get("calibrated") != "yes" for r in quality):
        out.append("* Not calibrated: it shows the model's own uncertainty only, and may miss the truth more often than it says.")
    for note in dict.fromkeys(f["note"] for f in known.values() if f["note"]):
        out.append(f"{', '.join(n for n, f in known.items() if f['note'] == note)}: {note}.")
    if any(math.isfinite(f["level"]) and abs(f["level"] - level) > 1e-6 for f in known.values()):
        out.append(f"The result has no intervals at {level:.0%} where another level is given.")
    if data.rows("structure_table"):
        out.append("Dice and distance (mean, of the surfaces) compare the propagated contour with the one that the model draws by itself; a dash: "
                   "it does not draw it. In brackets: change from planning to daily volume. SD: of the surface's position. " + ", ".join(f"{word}: {ask}" for _, word, ask in AGREEMENT.values()) + ".")
    elif quality:
        out.append("Entropy: mean over the contour's surface, 0 where it is certain.")
    calibrated = (data.card.get("calibration") or {}).get("quality") or {}
    if quality and math.isfinite(value(calibrated, "level")) and math.isfinite(value(calibrated, "patients")):
        images = f" ({text(calibrated['images'])})" if calibrated.get("images") else ""
        out.append(f"Expected Dice: from the uncertainty alone, calibrated on {number(value(calibrated, 'patients'))} validation patients{images}; "
                   f"its interval is that of {value(calibrated, 'level'):.0%}.")
    described = "; ".join(f"{s.name}: {s.description}" for s in data.structures if s.description)
    return out + ([f"{described}."] if described else [])


def status(row: dict | None) -> str:
    """What was decided of a structure, in words."""
    decided = (row or {}).get("decision") or ""
    return STATUS.get(decided, text(decided))


def reviews(data: ReportData) -> dict | None:
    """Decisions with comment, reviewer and time, and the volume of the contour that was decided on; None where nothing was reviewed."""
    if not data.reviews:
        return None
    by_name, ml, rows = {s.name: s for s in data.structures}, float(np.prod(data.spacing)) / 1000, []
    for r in data.reviews:
        structure = by_name.get(r.get("structure"))
        part = (structure.contours.get("accepted") or structure.mask) if structure and r.get("decision") in ("accepted", "edited") else None
        rows.append([{"name": text(r.get("structure")), "color": structure.color if structure else None}, status(r),
                     _number(ml * np.count_nonzero(part.voxels) if part is not None else math.nan), text(r.get("comment")), text(r.get("reviewer")),
                     text(str(r.get("time") or "").replace("T", " ")[:16])])
    return {"heads": ["Structure", "Decision", "Accepted contour (ml)", "Comment", "Reviewer", "Time"], "rows": rows}


def validation_rows(card: dict) -> list[list]:
    """How each limit behind flags and agreement did on validation patients; none where that was never tested."""
    calibration = card.get("calibration") or {}
    limits = [(LIMITS.get(name, name), row) for name, row in (calibration.get("flags") or {}).items()]
    limits += [(f"{light}: {LIMITS.get(name, name)}", row) for light, own in (calibration.get("lights") or {}).items() for name, row in own.items()]
    out = []
    for name, row in limits:
        caught, missed, false, cases = (value(row, k) if isinstance(row, dict) else math.nan for k in ("caught", "missed", "false_alarms", "cases"))
        if math.isfinite(caught) and math.isfinite(missed):
            of = f" of {number(cases)} contours" if math.isfinite(cases) else ""
            out.append([name, _number(value(row, "threshold")), _right(f"{number(caught + missed)}{of}"), _number(caught), _number(missed), _number(false)])
    return out


# -- charts and details


def dvh_chart(curves: list[dict]) -> dict | None:
    """Dose-volume histograms with their bands; None without a curve. `curves`: see `data.dvh_curves`."""
    series = [Series(c["name"], c.get("color") or (90, 90, 90), c["dose"], c["volume"], lower=c.get("lower"), upper=c.get("upper")) for c in curves]
    if not series:
        return None
    return chart(series, "dose (Gy)", "volume (%)", x_range=(0.0, float(max(max(s.x) for s in series))), y_range=(0.0, 100.0), height=300)


def _along_slices(data: ReportData, curves: dict[str, tuple[np.ndarray, str]], unit: str) -> dict:
    """Means in the body, slice by slice (number 1 is the lowest), of {name: (map, colour)}; the slices that are shown are marked."""
    area, at = data.body.sum((1, 2)), np.arange(1, len(data.body) + 1)
    series = []
    for name, (values, color) in curves.items():
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(area > 0, (values * data.body).sum((1, 2)) / area, np.nan)
        series.append(Series(name, color, at, mean, dashed=name == "absolute error"))
    return chart(series, "axial slice (1 = lowest; dotted: the slices shown)", f"mean in the body ({unit})",
                 marks=[index + 1 for index, _ in pictures.chosen_slices(data)])


def _uncertainty(data: ReportData, further: list) -> dict | None:
    """How large the uncertainty of the synthetic CT is, its parts, and its course along the slices."""
    if "predictive_sd" not in data.images or not data.body.any():
        return {"title": "Further maps", "figures": further} if further and data.job != "propagate" else None
    inside = data.in_body("predictive_sd")
    said = (f"Predictive SD in the body: mean {number(float(inside.mean()))} HU, half of the voxels below {number(float(np.median(inside)))} HU, 5 % above "
            f"{number(float(np.percentile(inside, 95)))} HU. It is the sum, in variances, of the intrinsic part (noise and ambiguity in the image itself; "
            "more training data would not remove it) and the parameter part (the model's own uncertainty; large where the image is unlike the training data).")
    curves = {f"{part} SD": (data.images[f"{part}_sd"], SD_COLORS[part]) for part in SD_COLORS if f"{part}_sd" in data.images}
    if {"reference", "error"} <= set(data.images):
        curves["absolute error"] = (np.abs(data.images["error"]), "#222222")
    return {"title": "Uncertainty of the synthetic CT", "text": [said], "charts": [_along_slices(data, curves, "HU")], "figures": further}


def _deformation(data: ReportData, further: list) -> dict | None:
    """How alike the scans are before and after, whether the deformation folds, and how much tissue changes its volume."""
    if data.job != "propagate":
        return None
    summary, facts, charts = data.summary, [], []
    alike = [(summary.get("similarity") or {}).get(k) for k in ("before", "rigid", "after")]
    stages = [f"{number(float(v))} {words}" for v, words in zip(alike, ("as they lay", "after rigid alignment", "after deformation")) if isinstance(v, (int, float))]
    if stages:
        facts.append(("Likeness of the scans", f"correlation {'; '.join(stages)} (1: the same)"))
    moved = summary.get("rigid") or {}
    if moved.get("translation_mm") and moved.get("angles_degrees"):
        shift, angles = (", ".join(number(float(v)) for v in moved[k]) for k in ("translation_mm", "angles_degrees"))
        facts.append(("Rigid alignment", f"from the daily to the planning CT, shift {shift} mm to the left, back and head; rotation {angles}° about these axes"))
    folding, known = summary.get("folding"), summary.get("jacobian") or {}
    if isinstance(folding, (int, float)):
        facts.append(("Folding", f"{100 * folding:.2g} % of the body: there the deformation is not possible" if folding > 0 else
                      "none: no tissue is turned inside out"))
    if all(isinstance(known.get(k), (int, float)) for k in ("mean", "sd", "min", "max")):
        facts.append(("Jacobian in the body", f"mean {number(known['mean'])}, SD {number(known['sd'])}, from {number(known['min'])} to {number(known['max'])} "
                      "(1: no change of volume; 0.5: half of it is left)"))
    if "displacement_sd" in data.images and data.body.any():
        inside = data.in_body("displacement_sd")
        facts.append(("SD of the displacement", f"in the body: mean {number(float(inside.mean()))} mm, 5 % above {number(float(np.percentile(inside, 95)))} mm"))
        charts.append(_along_slices(data, {"SD of the displacement": (data.images["displacement_sd"], "#d55e00")}, "mm"))
    return {"title": "The two scans and the deformation", "facts": facts, "charts": charts, "figures": further}


def _reference(data: ReportData) -> dict | None:
    """z-scores, errors beside their stated size, and metrics, where there is a reference CT."""
    if "reference" not in data.images:
        return None
    said = ["The CT is taken as it lies: where it is not aligned with the MR, because the patient lay otherwise, the shift counts as error."]
    charts = []
    if "zscore" in data.images:
        z = data.images["zscore"]
        compared = data.body & np.isfinite(z) & (z != 0)  # voxels that were not compared are exactly 0
        if compared.any():
            sd = float(z[compared].std())
            said.append(f"z-scores in the body: mean {number(float(z[compared].mean()))}, SD {number(sd)} ({number(int(compared.sum()))} voxels). "
                        + ("Errors are larger than the error bars say: the bars are too narrow here, or the CT is not aligned." if sd > NARROW else
                           "Errors are smaller than the error bars say: the bars are too wide here." if sd < WIDE else
                           "The error bars are about as wide as the errors."))
            charts.append(_z_histogram(z[compared]))
            if {"error", "predictive_sd"} <= set(data.images):
                charts.append(_error_against_sd(data.images["error"][compared], data.images["predictive_sd"][compared]))
    rows = data.rows("metrics")
    overlap = [r for r in rows if "Dice" in r.get("metric", "")]
    tables = [_metrics(*t) for t in (("Synthetic CT", [r for r in rows if r not in overlap]), ("Structures", overlap)) if t[1]]
    if len(rows) > len(overlap):
        tables[0]["notes"] = ["Regions by the reference CT inside the body: bone above 200 HU, soft tissue −250 to 250 HU, air below −400 HU. ME is "
                              "synCT − CT. The fit of the z-scores to N(0, 1) is tested on voxels thinned to the step given, so that they are nearly "
                              "independent; with a small n even a poor fit may pass."]
    return {"title": "Against the reference CT", "text": said, "charts": charts, "tables": tables}


def _metrics(first: str, rows: list[dict]) -> dict:
    """Metrics, one in a line, the regions side by side."""
    columns = list(dict.fromkeys(r["region"] for r in rows))
    cells = {(r["region"], r["metric"]): value(r, "value") for r in rows}
    labels = {r["metric"]: f"{r['metric']} ({r['unit']})" if r.get("unit") else r["metric"] for r in rows}
    return {"heads": [first, *columns], "rows": [[label, *(_number(cells.get((c, m), math.nan)) for c in columns)] for m, label in labels.items()]}


def _z_histogram(z: np.ndarray) -> dict:
    """The density of z-scores from −5 to 5 (the ends hold what lies beyond), with N(0, 1) over it."""
    edges, at = np.linspace(-5, 5, 51), np.linspace(-5, 5, 101)
    density = np.histogram(np.clip(z, -4.999, 4.999), edges)[0] / z.size / 0.2
    return chart([Series("this image", "#0072b2", (edges[1:] + edges[:-1]) / 2, density, lower=np.zeros(50), upper=density),
                  Series("what perfect error bars would give, N(0, 1)", "#d55e00", at, np.exp(-0.5 * at**2) / math.sqrt(2 * math.pi))],
                 "z-score: (synCT − CT) / predictive SD", "density", x_range=(-5.0, 5.0))


def _error_against_sd(error: np.ndarray, sd: np.ndarray, bins: int = 12) -> dict:
    """RMS error against the mean predictive SD (HU) in bins of equal numbers of voxels, and the line of error bars that are right."""
    parts = np.array_split(np.argsort(sd, kind="stable"), min(bins, len(sd)))
    stated, rms = ([float(f(p)) for p in parts] for f in (lambda p: sd[p].mean(), lambda p: np.sqrt(np.mean(error[p].astype(float) ** 2))))
    top = 1.05 * max(stated)
    return chart([Series("errors in bins of equal size", "#0072b2", stated, rms), Series("as large as stated", "#888888", (0, top), (0, top), dashed=True)],
                 "predictive SD (HU)", "RMS error (HU)", x_range=(0.0, top))


# -- model and run


def model_facts(card: dict) -> list[tuple[str, str]]:
    """The model's card in plain words; none without a card."""
    if not card:
        return []
    given, training, accuracy = card.get("input") or {}, card.get("training") or {}, card.get("accuracy") or {}
    spacing = " to ".join(" × ".join(text(float(v)) for v in p) for p in given.get("spacing_range_mm") or [])
    table, cases, count = accuracy.get("table") or {}, text(accuracy.get("cases") or "cases"), text(accuracy.get("n"))
    measured = "; ".join(f"{k} {number(float(v)) if isinstance(v, (int, float)) else text(v)}" for k, v in table.items())
    on = cases if cases.startswith(f"{count} ") else f"{count} {cases}"
    architecture, dropout = card.get("architecture") or {}, card.get("dropout") or {}
    facts = [
        ("What it does", text(card.get("task"))),
        ("Made for", f"{text([given.get('modality'), given.get('sequence'), given.get('region')])}; voxels {spacing + ' mm' if spacing else '–'}"),
        ("Learnt from", f"{text(training.get('cases'))} cases: {text(training.get('data'))} (licence {text(training.get('licence'))})"),
        ("Cite", text(training.get("citation"))), ("Measured accuracy", f"On {on}: {measured}." if measured else "Not measured.")]
    if "synct" in (card.get("outputs") or {"synct": {}}):
        facts.append(("Error bars in HU", calibration(card.get("calibration") or {})))
    return facts + [("Network", f"{text(architecture.get('name'))}; dropout {text(dropout.get('p'))} at {text(dropout.get('where'))}"),
                    ("Licence of the weights", text(card.get("licence"))), ("Weights, SHA-256", text((card.get("weights") or {}).get("sha256")))]


def calibration(known: dict) -> str:
    """What the card says of the predictive SD, in words."""
    synct = known.get("synct") or {}
    sd, n = synct.get("z_sd"), synct.get("n")
    if not isinstance(sd, (int, float)) or not sd > 0:
        return "Never checked against truth: take the maps as a hint where to look, not as a measure."
    size = number(float(sd))
    bars = (f"too narrow; true errors were about {size} times as large as stated" if sd > NARROW else
            f"too wide; true errors were about {size} times the stated size" if sd < WIDE else "about right")
    how = f"Recalibrated on {text(n)} cases, and checked on each with a fit on the others" if synct.get("recalibrated") else f"Checked on {text(n)} cases"
    factor = ((synct.get("recalibration") or {}).get("interval_factors") or {}).get("0.9")
    covered = ""
    if factor and isinstance(synct.get("within_90"), (int, float)):
        covered = (f" The 90 % interval of a voxel is ± {number(float(factor))} times its predictive SD; on those cases it covered "
                   f"{100 * synct['within_90']:.0f} % of the voxels.")
    return (f"{how}: z-scores had mean {number(float(synct.get('z_mean') or 0))} and SD {size} (0 and 1 would be perfect), so the error bars were {bars}.{covered}")


def run_facts(summary: dict) -> list[tuple[str, str]]:
    """How the result was made: options, times, versions; none for a review of somebody's own contours."""
    options = summary.get("options") or {}
    if not options:
        return []
    seconds = {k: float(v) for k, v in (summary.get("seconds") or {}).items()}
    whole = sum(seconds.values())
    facts = [("Samples, seed", f"{text(options.get('samples'))}, {text(options.get('seed'))}"),
             ("Device", f"{text(summary.get('device_used'))} (asked for: {text(options.get('device'))})")]
    if summary.get("job") == "propagate":
        facts.append(("Rigid alignment, refinement", f"{text(options.get('rigid'))}, {text(options.get('refine'))}"))
    elif "bias_field" in options:
        corrected = "corrected by N4" if summary.get("bias_field_corrected") else "not corrected"
        facts.append(("Bias field", f"{corrected} (asked for: {text(options['bias_field'])})"))
    rest = {k: v for k, v in options.items() if k not in ("samples", "seed", "device", "bias_field", "rigid", "refine")}
    if rest:
        facts.append(("Other options", text(rest)))
    times = "; ".join(f"{k} {v:.1f} s" + (f" ({100 * v / whole:.0f} %)" if whole else "") for k, v in seconds.items())
    return facts + [("Time", f"{whole:.1f} s in all: {times}" if seconds else "–"), ("Versions", text(summary.get("versions")))]
