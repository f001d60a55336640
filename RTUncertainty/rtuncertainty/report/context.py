"""A result as the plain values that the template of the report prints; every text is escaped there."""

from __future__ import annotations

import math

import numpy as np

from .. import __version__
from . import pictures
from .data import ReportData, value
from .details import (
    deformation,
    dvh_chart,
    model_facts,
    numeric,
    reference,
    right,
    run_facts,
    text,
    uncertainty,
)
from .figures import number
from .structures import Structure, least_certain

LEVEL = 0.9
SEVERITIES = ("serious", "warning", "info")
AGREEMENT = {
    "red": ("serious", "Red", "expect to correct it"),
    "amber": ("warning", "Amber", "look at it"),
    "green": ("good", "Green", "no disagreement found"),
}
"""Agreement of the two contours of a propagation -> (severity, word, what it asks for)."""
LIMITS = {
    "interval_width": "width of the interval / volume",
    "expected_dice": "expected Dice",
    "surface_entropy": "surface entropy (nats)",
    "usual_volume": "volume beyond that of training patients, times",
    "msd_mm": "distance of the contours (mm)",
    "dice": "Dice of the contours",
    "sd_mm": "SD of the surface (mm)",
}
STATUS = {
    "accepted": "accepted",
    "edited": "accepted after editing",
    "rejected": "rejected",
    "open": "not reviewed",
    "": "not reviewed",
}
MOST_PLACES = 12
# percent; a single patient differs from the mean over patients by less
FAR_TOO_LOW = 10
# expected Dice below which the samples speak more against a contour than for it
EVEN = 0.5


def context(data: ReportData, level: float = LEVEL) -> dict:
    """All that the template prints.

    Args:
        data: the result.
        level: of the intervals, where the result has it.

    Returns:
        Plain values by the names of the template.
    """
    flags, table = flagged(data), structure_table(data, level)
    validated = validation_rows(data.card)
    rows, further, shown = pictures.overview(data)
    details = [uncertainty(data, further), deformation(data, further), reference(data)]
    if validated:
        details.append(
            {
                "title": "How the limits behind the flags did on validation patients",
                "tables": [
                    {
                        "heads": ["Limit on", "Limit", "Bad contours", "Caught", "Missed", "False alarms"],
                        "rows": validated,
                    }
                ],
            }
        )
    return {
        "title": heading(data),
        "name": str(data.summary.get("name") or "RTUncertainty report"),
        "about": _about(data),
        "patient": list(data.patient.items()),
        "intended_use": intended_use(data.card),
        "phantom": bool((data.card.get("training") or {}).get("phantom")),
        "verdict": verdict(data, flags),
        "flags": flags,
        "notes": [str(n) for n in data.summary.get("notes") or []],
        "tested": bool(validated) if data.card else None,
        "structures": table,
        "reviews": reviews(data),
        "places": places(data, flags),
        "rows": rows,
        "colors": [(s.name, s.color) for s in data.shown()],
        "explanation": pictures.explanation(data, shown),
        "dvh": dvh_chart(data.dvh),
        "details": [d for d in details if d],
        "model": model_facts(data.card),
        "run": run_facts(data.summary),
        "version": (data.summary.get("versions") or {}).get("rtuncertainty") or __version__,
    }


# -- what it is


def heading(data: ReportData) -> str:
    """The title of the report."""
    # of another tool there may be none
    known = data.uncertainty() or any(s.inside is not None for s in data.structures) or not data.summary.get("source")
    end = " with uncertainty" if known else ""
    if data.job == "propagate":
        return f"Propagated contours{end}"
    outputs = data.card.get("outputs") or {
        "structures": data.summary.get("structures"),
        **({} if data.job == "own" else {"synct": True}),
    }
    made = ["Synthetic CT"] * ("synct" in outputs) + ["structures"] * bool(outputs.get("structures"))
    title = " and ".join(made) or "result"
    return f"{title[0].upper()}{title[1:]}{end}"


def intended_use(card: dict) -> str:
    """What the card says that the model is for, and always that it is no medical device and not for clinical
    decisions."""
    use = str(card.get("intended_use") or "")
    for said in ("Research use only, not for clinical decisions.", "Research use only."):
        use = use.replace(said, "")
    return f"Not a medical device. Research use only, not for clinical decisions. {use.strip()}".strip()


def _about(data: ReportData) -> list[str]:
    """Images, model and time, in one line."""
    summary, card = data.summary, data.card
    given = summary.get("daily" if data.job == "propagate" else "input") or {}
    planning = (
        f"Planning CT {text((summary.get('planning') or {}).get('name'))} to daily CT "
        if data.job == "propagate"
        else "Input "
    )
    size, spacing = (
        " × ".join(f(v) for v in given.get(k) or [])
        for k, f in (("size", text), ("spacing_mm", lambda v: number(float(v))))
    )
    out = (
        [planning + text(given.get("name")) + (f", {size} voxels of {spacing} mm" if size and spacing else "")]
        if given
        else []
    )
    out += [f"model {text(card.get('title') or card.get('name'))} {card.get('version') or ''}".strip()] if card else []
    created = str(summary.get("created") or "").replace("T", " ")[:16]
    return out + [created] * bool(created) or [text(summary.get("name"))]


# -- what to look at


def names(data: ReportData) -> list[str]:
    """The structures in the order of the summary, then those that only a table knows."""
    known = [s.name for s in data.structures]
    return known + [r["structure"] for r in data.rows("volumes") if r.get("structure") and r["structure"] not in known]


def flagged(data: ReportData) -> list[dict]:
    """What was flagged, worst first. In a propagation, a red or amber agreement that no flag speaks of counts as one.

    Args:
        data: the result.

    Returns:
        {"subject", "color" (None when it is no structure), "severity", "flags": [(flag, reason)]} each.
    """
    rows = list(data.rows("flags"))
    known = {r.get("subject") for r in rows}
    for r in data.rows("structure_table"):
        if r.get("light") in ("red", "amber") and r.get("structure") not in known:
            rows.append(
                {
                    "subject": r["structure"],
                    "severity": AGREEMENT[r["light"]][0],
                    "flag": r.get("flag") or r["light"],
                    "reason": r.get("reason") or "",
                }
            )
    colors: dict[str, tuple] = {s.name: s.color for s in data.structures}
    found: dict[str, dict] = {}
    for r in sorted(rows, key=lambda r: _rank(r.get("severity"))):
        subject, severity = text(r.get("subject")), r.get("severity") if r.get("severity") in SEVERITIES else "info"
        entry = found.setdefault(
            subject, {"subject": subject, "color": colors.get(subject), "severity": severity, "flags": []}
        )
        entry["flags"].append((text(r.get("flag")), str(r.get("reason") or "")))
    return list(found.values())


def _rank(severity) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def verdict(data: ReportData, flags: list[dict]) -> tuple[str, str]:
    """The result in one sentence; what was reviewed need not be checked again, and how far that has come is said.

    Args:
        data: the result.
        flags: of `flagged`.

    Returns:
        (severity or "good", the sentence).
    """
    known = names(data)
    decisions = {
        str(r.get("structure")): r["decision"] for r in data.reviews if r.get("decision") not in (None, "", "open")
    }
    warned = [f for f in flags if f["severity"] != "info"]
    own, others = [f for f in warned if f["subject"] in known], [f for f in warned if f["subject"] not in known]
    left = [f for f in own if f["subject"] not in decisions]
    if left:
        groups = {s: [f["subject"] for f in left if f["severity"] == s] for s in SEVERITIES}
        which = "; ".join(f"{listed(group)} ({severity})" for severity, group in groups.items() if group)
        out = f"Check {len(left)} of {len(known)} structures before you use them: {which}"
    elif own:
        out = "Every flagged structure was reviewed"
    elif data.summary.get("source"):
        out = "Look at all of it: of another tool's model no limits are known that could flag what is wrong"
        if known and set(known) <= set(decisions):
            out = "Every structure was reviewed"
    elif known:
        out = (
            f"None of the {len(known)} structures was flagged as a warning"
            if len(known) > 1
            else f"{known[0]} was not flagged as a warning"
        )
    else:
        out = "Check the result before you use it" if others else "No warning was raised"
    if others:
        out += "; also flagged: " + listed([f"{f['subject']} ({f['flags'][0][0]})" for f in others])
    out += "." if own or others or data.summary.get("source") else "; that is no proof that the result is right."
    missed = uncovered(data)
    if missed:
        out += f" The SD images are too small here: {missed}."
    unlikely = distrusted(data, decisions)
    if unlikely:
        out += f" The model itself expects a Dice of only {unlikely}."
    if data.reviews:
        counts = [
            (word, [n for n, d in decisions.items() if STATUS.get(d, d) == word])
            for word in dict.fromkeys(STATUS.values())
        ]
        done = ", ".join(
            f"{len(g)} {word}" + (f" ({listed(g)})" if word == "rejected" else "") for word, g in counts if g
        )
        out += f" {len(decisions)} of {len(known)} structures were reviewed{': ' + done if done else ''}."
    worst = [f["severity"] for f in left + others] + ["serious"] * ("rejected" in decisions.values())
    worst += ["warning"] * bool(missed or unlikely) + ["info"] * bool(data.summary.get("source"))
    return min(worst, key=_rank, default="good"), out


def distrusted(data: ReportData, reviewed) -> str:
    """Structures whose contour agrees less than half with what the model's own samples hold for the truth, in words;
    no limit that a flag could have, but nothing to be silent about. Empty without any that is not `reviewed`.
    """
    expected = {s.name: value(row_of(data.rows("quality"), s.name), "expected_dice") for s in data.shown()}
    low = [f"{dice:.2f} for {name}" for name, dice in expected.items() if dice < EVEN and name not in reviewed]
    return listed(low)


def uncovered(data: ReportData) -> str:
    """Where intervals of the synthetic CT hold far less of the reference CT than they should, in words; empty where
    they do not, or no reference was given.
    """
    level, low = round(100 * LEVEL), []
    for r in data.rows("metrics"):
        if r.get("metric") == f"coverage of {level} % intervals":
            share = float(r["value"])
            if share < level - FAR_TOO_LOW:
                low.append(f"{share:.0f} % in {r.get('region')}")
    return f"of the reference CT, the {level} % intervals cover {listed(low)}" if low else ""


def listed(words: list[str]) -> str:
    """Words with commas, and an "and" before the last."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def places(data: ReportData, flags: list[dict]) -> dict | None:
    """Where each flagged structure is least certain, or where none is flagged that of the widest interval.

    Args:
        data: the result.
        flags: of `flagged`.

    Returns:
        {"title", "explanation", "entries" (at most `MOST_PLACES`), "rest"}; None where there is no place to show.
    """
    by_name = {s.name: s for s in data.structures}
    found = [(by_name[f["subject"]], f["flags"]) for f in flags if f["subject"] in by_name and f["severity"] != "info"]
    title, rest = (
        "Where to look: the flagged structures, where they are least certain",
        [s.name for s, _ in found[MOST_PLACES:]],
    )
    if not found:
        found, title = [(s, []) for s in _widest(data)], "Where to look: the least certain structure"
    if not found:
        return None
    key, entries = data.uncertainty(), []
    for structure, own in found[:MOST_PLACES]:
        entry = {
            "name": structure.name,
            "color": structure.color,
            "flags": [f for f, _ in own],
            "text": "It has no voxel to show.",
            "figures": [],
        }
        place = least_certain(structure, data.spacing, data.images.get(key))
        if place is not None:
            entry["text"] = f"Shown where {place[1]}." + (
                f" {pictures.NAMES[key]} there: {number(float(data.images[key][place[0]]))} "
                f"{pictures.map_panel(data, key).scale.unit}."
                if key
                else ""
            )
            entry["figures"] = pictures.at_place(data, structure, place[0])
        entries.append(entry)
    paths = {p for s, _ in found for p in s.contours}
    explained = ["The ticks at the edges point at the place."] + [
        f"{w[:1].upper()}{w[1:]}." for p, w in pictures.CONTOURS.items() if p in paths
    ]
    if any(s.inside is not None for s, _ in found):
        explained.append(
            "Pale lines are nested: outside of the outer one lies the structure with less than 5 %, inside of the "
            "inner one with more "
            "than 95 % probability"
            + (
                "; uncalibrated."
                if any(s.inside is not None and not interval(data, s.name)["calibrated"] for s, _ in found)
                else "."
            )
        )
    return {"title": title, "explanation": explained, "entries": entries, "rest": rest}


def _widest(data: ReportData) -> list[Structure]:
    """The structure whose interval is widest relative to its volume; one that is not calibrated counts as wider, of
    several that with the lowest expected Dice. None without intervals."""
    widths: list[tuple] = []
    for s in data.shown():
        known = interval(data, s.name)
        width = (known["upper_ml"] - known["lower_ml"]) / known["volume_ml"] if known["volume_ml"] > 0 else math.nan
        dice = value(row_of(data.rows("quality"), s.name), "expected_dice")
        if math.isfinite(width):
            widths.append((width, 0.0, s))
        elif known["note"]:
            widths.append((math.inf, -dice if math.isfinite(dice) else 0.0, s))
    return [max(widths, key=lambda w: w[:2])[2]] if widths else []


# -- structures


def row_of(rows: list[dict], name: str, level: float | None = None) -> dict | None:
    """The first row of a structure.

    Args:
        rows: of a table.
        name: of the structure.
        level: of the row, where one is wanted.

    Returns:
        The row, or None.
    """
    return next(
        (r for r in rows if r.get("structure") == name and (level is None or abs(value(r, "level") - level) < 1e-6)),
        None,
    )


def interval(data: ReportData, name: str, level: float = LEVEL) -> dict:
    """The volume and its interval of a structure.

    Args:
        data: the result.
        name: of the structure.
        level: wanted, where the result has it; else the level that it has.

    Returns:
        volume_ml, lower_ml, upper_ml, level, cases (NaN where unknown), calibrated and note.
    """
    stated = row_of(data.rows("volumes"), name)
    found = row_of(data.rows("volume_intervals"), name, level) or stated
    return {
        "volume_ml": value(stated, "volume_ml"),
        **{k: value(found, k) for k in ("lower_ml", "upper_ml", "level", "cases")},
        "calibrated": (found or {}).get("calibrated") == "yes",
        "note": (found or {}).get("note") or "",
    }


def structure_table(data: ReportData, level: float) -> dict | None:
    """Every structure in a row; of a propagation, the least agreement first.

    Args:
        data: the result.
        level: of the intervals, 0 to 1.

    Returns:
        {"heads", "rows", "notes"}; a cell is a text, or a dict that says how to print it. None without a structure.
    """
    order = names(data)
    if not order:
        return None
    both = {r.get("structure"): r for r in data.rows("structure_table")}
    order.sort(
        key=lambda n: (
            list(AGREEMENT).index(light) if (light := both.get(n, {}).get("light")) in AGREEMENT else len(AGREEMENT)
        )
    )
    known = {name: interval(data, name, level) for name in order}
    quality, decided = (
        {r.get("structure"): r for r in data.rows("quality")},
        {r.get("structure"): r for r in data.reviews},
    )
    relative = {
        n: tuple(100 * (i[k] / i["volume_ml"] - 1) for k in ("lower_ml", "upper_ml"))
        for n, i in known.items()
        if i["volume_ml"] > 0 and math.isfinite(i["lower_ml"]) and i["upper_ml"] > i["lower_ml"]
    }
    reach = min(max([5.0, *(1.05 * abs(v) for ends in relative.values() for v in ends)]), 100.0)
    heads = ["Structure"] + ["Agreement"] * bool(both) + ["Volume (ml)", f"{level:.0%} interval (ml)"]
    heads += [f"Relative (±{number(round(reach))}\u00a0%)"] * bool(relative)
    heads += ["Planning (ml)", "Dice", "Distance (mm)", "SD (mm)"] if both else []
    heads += ["Expected Dice"] * bool(quality) + ["Entropy (nats)"] * (bool(quality) and not both)
    heads += ["Path"] if both else ["Flags"]
    heads += ["Review"] * bool(decided)
    colors, rows = {s.name: s.color for s in data.structures}, []
    for name in order:
        found, row = known[name], both.get(name, {})
        cells: list = [{"name": name, "color": colors.get(name)}]
        cells += [_agreement(row)] if both else []
        cells += [numeric(found["volume_ml"]), right(_between(found, level))]
        if relative:
            cells.append(
                {"bar": (*relative[name], reach), "calibrated": found["calibrated"]} if name in relative else ""
            )
        if both:
            cells.append(right(_planned(value(row, "planning_ml"), found["volume_ml"])))
            cells += [numeric(value(row, k)) for k in ("dice", "msd_mm", f"{row.get('default') or 'propagated'}_sd_mm")]
        if quality:
            cells.append(right(_expected_dice(quality.get(name))))
            cells += [] if both else [numeric(value(quality.get(name), "surface_entropy"))]
        cells.append({"text": text(row.get("default") or "propagated"), "severity": ""} if both else _flags(data, name))
        cells += [status(decided.get(name))] if decided else []
        rows.append(cells)
    return {"heads": heads, "rows": rows, "notes": _table_notes(data, known, level)}


def _agreement(row: dict) -> dict:
    severity, word, _ = AGREEMENT.get(row.get("light") or "", ("info", text(row.get("light")), ""))
    return {"text": word, "severity": severity}


def _planned(planning: float, daily: float) -> str:
    """The planning volume in ml, and how far the daily one differs from it."""
    change = round(100 * (daily / planning - 1)) if planning > 0 and math.isfinite(daily) else None
    return number(planning) + ("" if change is None else f" ({change:+d} %)".replace("-", "−").replace("+0", "0"))


def _between(found: dict, level: float) -> str:
    if not math.isfinite(found["lower_ml"]):
        return "not calibrated" if found["note"] else "–"
    other = f" ({found['level']:.0%})" if math.isfinite(found["level"]) and abs(found["level"] - level) > 1e-6 else ""
    return f"{number(found['lower_ml'])} to {number(found['upper_ml'])}{other}{'' if found['calibrated'] else ' *'}"


def _expected_dice(row: dict | None) -> str:
    dice, low, high = (value(row, k) for k in ("expected_dice", "dice_lower", "dice_upper"))
    if not math.isfinite(dice):
        return "–"
    return (
        f"{dice:.2f}"
        + ("" if (row or {}).get("calibrated") == "yes" else " *")
        + (f" ({low:.2f} to {high:.2f})" if math.isfinite(low) and math.isfinite(high) else "")
    )


def _flags(data: ReportData, name: str) -> dict:
    rows = sorted((r for r in data.rows("flags") if r.get("subject") == name), key=lambda r: _rank(r.get("severity")))
    return {
        "text": ", ".join(text(r.get("flag")) for r in rows) or "none",
        "severity": rows[0].get("severity") if rows else "",
    }


def _table_notes(data: ReportData, known: dict[str, dict], level: float) -> list[str]:
    """What the table's numbers are worth, and what is marked by a star."""
    out, quality = [], data.rows("quality")
    if any(f["calibrated"] for f in known.values()):
        cases = [f["cases"] for f in known.values() if f["cases"] > 0]
        on = f" ({number(min(cases))} cases)" if cases else ""
        out.append(
            f"Calibrated on validation patients{on}: the interval should hold the true volume as often as its level "
            "says."
        )
    if any(not f["calibrated"] and math.isfinite(f["lower_ml"]) for f in known.values()) or any(
        r.get("calibrated") != "yes" for r in quality
    ):
        out.append(
            "* Not calibrated: it shows the model's own uncertainty only, and may miss the truth more often than it "
            "says."
        )
    for note, shown in dict.fromkeys((f["note"], math.isfinite(f["lower_ml"])) for f in known.values() if f["note"]):
        which = [n for n, f in known.items() if (f["note"], math.isfinite(f["lower_ml"])) == (note, shown)]
        out.append(f"{', '.join(which)}: {'' if shown else 'no interval: '}{note}.")
    if any(math.isfinite(f["level"]) and abs(f["level"] - level) > 1e-6 for f in known.values()):
        out.append(f"The result has no intervals at {level:.0%} where another level is given.")
    if data.rows("structure_table"):
        out.append(
            "Dice and distance (mean, of the surfaces) compare the propagated contour with the one that the model "
            "draws by itself; a dash: "
            "it does not draw it. In brackets: change from planning to daily volume. SD: of the surface's position. "
            + ", ".join(f"{word}: {ask}" for _, word, ask in AGREEMENT.values())
            + "."
        )
    elif quality:
        out.append("Entropy: mean over the contour's surface, 0 where it is certain.")
    calibrated = (data.card.get("calibration") or {}).get("quality") or {}
    if quality and math.isfinite(value(calibrated, "level")) and math.isfinite(value(calibrated, "patients")):
        images = f" ({text(calibrated['images'])})" if calibrated.get("images") else ""
        out.append(
            f"Expected Dice: from the uncertainty alone, calibrated on {number(value(calibrated, 'patients'))} "
            f"validation patients{images}; "
            f"its interval is that of {value(calibrated, 'level'):.0%}."
        )
    described = "; ".join(f"{s.name}: {s.description}" for s in data.structures if s.description)
    return out + ([f"{described}."] if described else [])


def status(row: dict | None) -> str:
    """What was decided of a structure, in words."""
    decided = (row or {}).get("decision") or ""
    return STATUS.get(decided, text(decided))


def reviews(data: ReportData) -> dict | None:
    """Decisions with comment, reviewer and time, and the volume of the contour that was decided on.

    Args:
        data: the result.

    Returns:
        {"heads", "rows"}; None where nothing was reviewed.
    """
    if not data.reviews:
        return None
    by_name, ml, rows = {s.name: s for s in data.structures}, float(np.prod(data.spacing)) / 1000, []
    for r in data.reviews:
        structure = by_name.get(str(r.get("structure")))
        part = (
            (structure.contours.get("accepted") or structure.mask)
            if structure and r.get("decision") in ("accepted", "edited")
            else None
        )
        rows.append(
            [
                {"name": text(r.get("structure")), "color": structure.color if structure else None},
                status(r),
                numeric(ml * np.count_nonzero(part.voxels) if part is not None else math.nan),
                text(r.get("comment")),
                text(r.get("reviewer")),
                text(str(r.get("time") or "").replace("T", " ")[:16]),
            ]
        )
    return {"heads": ["Structure", "Decision", "Accepted contour (ml)", "Comment", "Reviewer", "Time"], "rows": rows}


def validation_rows(card: dict) -> list[list]:
    """How each limit behind flags and agreement did on validation patients.

    Args:
        card: of the model.

    Returns:
        Rows of texts; none where that was never tested.
    """
    calibration = card.get("calibration") or {}
    limits = [(LIMITS.get(name, name), row) for name, row in (calibration.get("flags") or {}).items()]
    limits += [
        (f"{light}: {LIMITS.get(name, name)}", row)
        for light, own in (calibration.get("lights") or {}).items()
        for name, row in own.items()
    ]
    out = []
    for name, row in limits:
        caught, missed, false, cases = (
            value(row, k) if isinstance(row, dict) else math.nan for k in ("caught", "missed", "false_alarms", "cases")
        )
        if math.isfinite(caught) and math.isfinite(missed):
            of = f" of {number(cases)} contours" if math.isfinite(cases) else ""
            out.append(
                [
                    name,
                    numeric(value(row, "threshold")),
                    right(f"{number(caught + missed)}{of}"),
                    numeric(caught),
                    numeric(missed),
                    numeric(false),
                ]
            )
    return out
