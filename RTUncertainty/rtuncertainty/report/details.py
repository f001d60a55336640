"""What a report says after its pictures: uncertainty, deformation, comparison with a reference CT, dose, model, run."""

from __future__ import annotations

import math

import numpy as np

from . import pictures
from .data import ReportData, value
from .figures import Series, chart, number

NARROW, WIDE = 1.15, 0.87
"""SD of z-scores above which error bars are called too narrow, and below which too wide."""
SD_COLORS = {
    "predictive": "#d55e00",
    "intrinsic": "#009e73",
    "parameter": "#0072b2",
}  # Okabe and Ito: distinct with any colour vision


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


def right(cell: str) -> dict:
    """A cell of a table at the right."""
    return {"text": cell, "right": True}


def numeric(found: float) -> dict:
    """A number as a cell of a table."""
    return right(number(found))


def dvh_chart(curves: list[dict]) -> dict | None:
    """Dose-volume histograms with their bands.

    Args:
        curves: see `data.dvh_curves`.

    Returns:
        As `figures.chart`; None without a curve.
    """
    series = [
        Series(
            c["name"],
            c.get("color") or (90, 90, 90),
            c["dose"],
            c["volume"],
            lower=c.get("lower"),
            upper=c.get("upper"),
        )
        for c in curves
    ]
    if not series:
        return None
    return chart(
        series,
        "dose (Gy)",
        "volume (%)",
        x_range=(0.0, float(max(max(s.x) for s in series))),
        y_range=(0.0, 100.0),
        height=300,
    )


def _along_slices(data: ReportData, curves: dict[str, tuple[np.ndarray, str]], unit: str) -> dict:
    """Means in the body, slice by slice (number 1 is the lowest), of {name: (map, colour)}; the slices that are shown
    are marked."""
    area, at = data.body.sum((1, 2)), np.arange(1, len(data.body) + 1)
    series = []
    for name, (values, color) in curves.items():
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(area > 0, (values * data.body).sum((1, 2)) / area, np.nan)
        series.append(Series(name, color, at, mean, dashed=name == "absolute error"))
    return chart(
        series,
        "axial slice (1 = lowest; dotted: the slices shown)",
        f"mean in the body ({unit})",
        marks=[index + 1 for index, _ in pictures.chosen_slices(data)],
    )


def uncertainty(data: ReportData, further: list) -> dict | None:
    """How large the uncertainty of the synthetic CT is, its parts, and its course along the slices.

    Args:
        data: the result.
        further: pictures of more maps.

    Returns:
        A section of the template, or None.
    """
    if "predictive_sd" not in data.images or not data.body.any():
        return {"title": "Further maps", "figures": further} if further and data.job != "propagate" else None
    inside = data.in_body("predictive_sd")
    said = (
        f"Predictive SD in the body: mean {number(float(inside.mean()))} HU, half of the voxels below "
        f"{number(float(np.median(inside)))} HU, 5 % above "
        f"{number(float(np.percentile(inside, 95)))} HU. {_made_of(data)}"
    )
    curves = {
        f"{part} SD": (data.images[f"{part}_sd"], SD_COLORS[part]) for part in SD_COLORS if f"{part}_sd" in data.images
    }
    if {"reference", "error"} <= set(data.images):
        curves["absolute error"] = (np.abs(data.images["error"]), "#222222")
    return {
        "title": "Uncertainty of the synthetic CT",
        "text": [said],
        "charts": [_along_slices(data, curves, "HU")],
        "figures": further,
    }


def _made_of(data: ReportData) -> str:
    """The parts of the predictive SD that the result has, in words."""
    intrinsic = "intrinsic part (noise and ambiguity in the image itself; more training data would not remove it)"
    parameter = "parameter part (the model's own uncertainty; large where the image is unlike the training data)"
    has = "intrinsic_sd" in data.images, "parameter_sd" in data.images
    if all(has):
        return f"It is the sum, in variances, of the {intrinsic} and the {parameter}."
    if not any(has):
        return "It is the map that came with the synthetic CT; what it is made of is not known."
    return f"It is the {intrinsic if has[0] else parameter} alone: the model gives no other."


def deformation(data: ReportData, further: list) -> dict | None:
    """How alike the scans are before and after, whether the deformation folds, and how much tissue changes its volume.

    Args:
        data: the result.
        further: pictures of more maps.

    Returns:
        A section of the template, or None.
    """
    if data.job != "propagate":
        return None
    summary, facts, charts = data.summary, [], []
    alike = [(summary.get("similarity") or {}).get(k) for k in ("before", "rigid", "after")]
    stages = [
        f"{number(float(v))} {words}"
        for v, words in zip(alike, ("as they lay", "after rigid alignment", "after deformation"))
        if isinstance(v, (int, float))
    ]
    if stages:
        facts.append(("Likeness of the scans", f"correlation {'; '.join(stages)} (1: the same)"))
    moved = summary.get("rigid") or {}
    if moved.get("translation_mm") and moved.get("angles_degrees"):
        shift, angles = (", ".join(number(float(v)) for v in moved[k]) for k in ("translation_mm", "angles_degrees"))
        facts.append(
            (
                "Rigid alignment",
                f"from the daily to the planning CT, shift {shift} mm to the left, back and head; rotation "
                f"{angles}° about these axes",
            )
        )
    folding, known = summary.get("folding"), summary.get("jacobian") or {}
    if isinstance(folding, (int, float)):
        facts.append(
            (
                "Folding",
                f"{100 * folding:.2g} % of the body: there the deformation is not possible"
                if folding > 0
                else "none: no tissue is turned inside out",
            )
        )
    if all(isinstance(known.get(k), (int, float)) for k in ("mean", "sd", "min", "max")):
        facts.append(
            (
                "Jacobian in the body",
                f"mean {number(known['mean'])}, SD {number(known['sd'])}, from {number(known['min'])} to "
                f"{number(known['max'])} "
                "(1: no change of volume; 0.5: half of it is left)",
            )
        )
    if "displacement_sd" in data.images and data.body.any():
        inside = data.in_body("displacement_sd")
        facts.append(
            (
                "SD of the displacement",
                f"in the body: mean {number(float(inside.mean()))} mm, 5 % above "
                f"{number(float(np.percentile(inside, 95)))} mm",
            )
        )
        charts.append(
            _along_slices(data, {"SD of the displacement": (data.images["displacement_sd"], "#d55e00")}, "mm")
        )
    return {"title": "The two scans and the deformation", "facts": facts, "charts": charts, "figures": further}


def reference(data: ReportData) -> dict | None:
    """z-scores, errors beside their stated size, and metrics.

    Args:
        data: the result.

    Returns:
        A section of the template; None without a reference CT.
    """
    if "reference" not in data.images:
        return None
    said = [
        "The CT is taken as it lies: where it is not aligned with the MR, because the patient lay otherwise, the "
        "shift counts as error."
    ]
    charts = []
    if "zscore" in data.images:
        z = data.images["zscore"]
        compared = np.isfinite(z) & (z != 0)  # voxels that were not compared are exactly 0
        if compared.any():
            sd = float(z[compared].std())
            said.append(
                f"z-scores in the body of the CT: mean {number(float(z[compared].mean()))}, SD {number(sd)} "
                f"({number(int(compared.sum()))} voxels). "
                + (
                    "Errors are larger than the error bars say: the bars are too narrow here, or the CT is not aligned."
                    if sd > NARROW
                    else "Errors are smaller than the error bars say: the bars are too wide here."
                    if sd < WIDE
                    else "The error bars are about as wide as the errors."
                )
            )
            charts.append(_z_histogram(z[compared]))
            if {"error", "predictive_sd"} <= set(data.images):
                charts.append(_error_against_sd(data.images["error"][compared], data.images["predictive_sd"][compared]))
    rows = data.rows("metrics")
    overlap = [r for r in rows if "Dice" in r.get("metric", "")]
    tables = [
        _metrics(*t) for t in (("Synthetic CT", [r for r in rows if r not in overlap]), ("Structures", overlap)) if t[1]
    ]
    if len(rows) > len(overlap):
        tables[0]["notes"] = [
            "Regions by the reference CT inside the body: bone above 200 HU, soft tissue −250 to 250 HU, air below "
            "−400 HU. ME is "
            "synCT − CT. The fit of the z-scores to N(0, 1) is tested on voxels thinned to the step given, so that "
            "they are nearly "
            "independent; with a small n even a poor fit may pass."
        ]
    return {"title": "Against the reference CT", "text": said, "charts": charts, "tables": tables}


def _metrics(first: str, rows: list[dict]) -> dict:
    """Metrics, one in a line, the regions side by side."""
    columns = list(dict.fromkeys(r["region"] for r in rows))
    cells = {(r["region"], r["metric"]): value(r, "value") for r in rows}
    labels = {r["metric"]: f"{r['metric']} ({r['unit']})" if r.get("unit") else r["metric"] for r in rows}
    return {
        "heads": [first, *columns],
        "rows": [[label, *(numeric(cells.get((c, m), math.nan)) for c in columns)] for m, label in labels.items()],
    }


def _z_histogram(z: np.ndarray) -> dict:
    """The density of z-scores from −5 to 5 (the ends hold what lies beyond), with N(0, 1) over it."""
    edges, at = np.linspace(-5, 5, 51), np.linspace(-5, 5, 101)
    density = np.histogram(np.clip(z, -4.999, 4.999), edges)[0] / z.size / 0.2
    return chart(
        [
            Series("this image", "#0072b2", (edges[1:] + edges[:-1]) / 2, density, lower=np.zeros(50), upper=density),
            Series(
                "what perfect error bars would give, N(0, 1)",
                "#d55e00",
                at,
                np.exp(-0.5 * at**2) / math.sqrt(2 * math.pi),
            ),
        ],
        "z-score: (synCT − CT) / predictive SD",
        "density",
        x_range=(-5.0, 5.0),
    )


def _error_against_sd(error: np.ndarray, sd: np.ndarray, bins: int = 12) -> dict:
    """RMS error against the mean predictive SD (HU) in bins of equal numbers of voxels, and the line of error bars
    that are right."""
    parts = np.array_split(np.argsort(sd, kind="stable"), min(bins, len(sd)))
    stated, rms = (
        [float(f(p)) for p in parts]
        for f in (lambda p: sd[p].mean(), lambda p: np.sqrt(np.mean(error[p].astype(float) ** 2)))
    )
    top = 1.05 * max(stated)
    return chart(
        [
            Series("errors in bins of equal size", "#0072b2", stated, rms),
            Series("as large as stated", "#888888", (0, top), (0, top), dashed=True),
        ],
        "predictive SD (HU)",
        "RMS error (HU)",
        x_range=(0.0, top),
    )


def model_facts(card: dict) -> list[tuple[str, str]]:
    """The model's card in plain words; none without a card."""
    if not card:
        return []
    given, training, accuracy = card.get("input") or {}, card.get("training") or {}, card.get("accuracy") or {}
    spacing = " to ".join(" × ".join(text(float(v)) for v in p) for p in given.get("spacing_range_mm") or [])
    table, cases, count = accuracy.get("table") or {}, text(accuracy.get("cases") or "cases"), text(accuracy.get("n"))
    measured = "; ".join(
        f"{k} {number(float(v)) if isinstance(v, (int, float)) else text(v)}" for k, v in table.items()
    )
    on = cases if cases.startswith(f"{count} ") else f"{count} {cases}"
    if not card.get("weights") and not training:  # another tool's: nothing of this is known
        facts = [("What it does", text(card.get("task"))), ("Measured accuracy", "Not measured.")]
        return facts + [("Error bars in HU", calibration({}))] * ("synct" in (card.get("outputs") or {}))
    architecture, dropout = card.get("architecture") or {}, card.get("dropout") or {}
    facts = [
        ("What it does", text(card.get("task"))),
        (
            "Made for",
            f"{text([given.get('modality'), given.get('sequence'), given.get('region')])}; voxels "
            f"{spacing + ' mm' if spacing else '–'}",
        ),
        (
            "Learnt from",
            f"{text(training.get('cases'))} cases: {text(training.get('data'))} (licence "
            f"{text(training.get('licence'))})",
        ),
        ("Cite", text(training.get("citation"))),
        ("Measured accuracy", f"On {on}: {measured}." if measured else "Not measured."),
    ]
    if "synct" in (card.get("outputs") or {"synct": {}}):
        facts.append(("Error bars in HU", calibration(card.get("calibration") or {})))
    return facts + [
        (
            "Network",
            f"{text(architecture.get('name'))}; dropout {text(dropout.get('p'))} at {text(dropout.get('where'))}",
        ),
        ("Licence of the weights", text(card.get("licence"))),
        ("Weights, SHA-256", text((card.get("weights") or {}).get("sha256"))),
    ]


def calibration(known: dict) -> str:
    """What the card says of the predictive SD.

    Args:
        known: its `calibration.synct`; empty where it was never checked.

    Returns:
        A text.
    """
    synct = known.get("synct") or {}
    sd, n = synct.get("z_sd"), synct.get("n")
    if not isinstance(sd, (int, float)) or not sd > 0:
        return "Never checked against truth: take the maps as a hint where to look, not as a measure."
    size = number(float(sd))
    bars = (
        f"too narrow; true errors were about {size} times as large as stated"
        if sd > NARROW
        else f"too wide; true errors were about {size} times the stated size"
        if sd < WIDE
        else "about right"
    )
    how = (
        f"Recalibrated on {text(n)} cases, and checked on each with a fit on the others"
        if synct.get("recalibrated")
        else f"Checked on {text(n)} cases"
    )
    factor = ((synct.get("recalibration") or {}).get("interval_factors") or {}).get("0.9")
    covered = ""
    if factor and isinstance(synct.get("within_90"), (int, float)):
        covered = (
            f" The 90 % interval of a voxel is ± {number(float(factor))} times its predictive SD; on those cases it "
            "covered "
            f"{100 * synct['within_90']:.0f} % of the voxels."
        )
    mean = number(float(synct.get("z_mean") or 0))
    return (
        f"{how}: z-scores had mean {mean} and SD {size} (0 and 1 would be perfect), "
        f"so the error bars were {bars}.{covered}"
    )


def run_facts(summary: dict) -> list[tuple[str, str]]:
    """How the result was made: options, times, versions; none for a review of somebody's own contours."""
    options = summary.get("options") or {}
    if not options:
        return []
    seconds = {k: float(v) for k, v in (summary.get("seconds") or {}).items()}
    whole = sum(seconds.values())
    facts = []
    if summary.get("source"):  # it was made elsewhere
        # names of files may be those of patients
        said = summary["source"]
        count = len(said.get("files") or [])
        facts.append(("Collected", f"{text(said.get('recognised'))}; {count} file{'s' * (count != 1)}"))
    else:
        facts = [
            ("Samples, seed", f"{text(options.get('samples'))}, {text(options.get('seed'))}"),
            ("Device", f"{text(summary.get('device_used'))} (asked for: {text(options.get('device'))})"),
        ]
    if summary.get("job") == "propagate" and not summary.get("source"):
        facts.append(("Rigid alignment, refinement", f"{text(options.get('rigid'))}, {text(options.get('refine'))}"))
    elif "bias_field" in options:
        corrected = "corrected by N4" if summary.get("bias_field_corrected") else "not corrected"
        facts.append(("Bias field", f"{corrected} (asked for: {text(options['bias_field'])})"))
    rest = {k: v for k, v in options.items() if k not in ("samples", "seed", "device", "bias_field", "rigid", "refine")}
    if rest:
        facts.append(("Other options", text(rest)))
    times = "; ".join(f"{k} {v:.1f} s" + (f" ({100 * v / whole:.0f} %)" if whole else "") for k, v in seconds.items())
    return facts + [
        ("Time", f"{whole:.1f} s in all: {times}" if seconds else "–"),
        ("Versions", text(summary.get("versions"))),
    ]
