"""The report's words and tables; everything that comes from a file is escaped."""

from __future__ import annotations

import math
from html import escape

from .charts import number

STYLE = """
:root { --ink:#1c2430; --soft:#5a6675; --line:#d5dbe1; --pale:#f4f6f8; }
* { box-sizing:border-box; -webkit-print-color-adjust:exact; print-color-adjust:exact; }
body { margin:0 auto; padding:24px 28px 48px; max-width:1040px; color:var(--ink); background:#fff;
  font:14px/1.45 "Segoe UI","Helvetica Neue",Arial,"Liberation Sans",sans-serif; }
h1 { font-size:23px; margin:0 0 2px; }
h2 { font-size:17px; margin:26px 0 8px; padding-bottom:3px; border-bottom:2px solid var(--line); }
h3 { font-size:14.5px; margin:14px 0 6px; } p { margin:6px 0; } .soft { color:var(--soft); }

.research { margin:12px 0; padding:8px 12px; border:2px solid #b3261e; color:#8c1d18; font-weight:600; border-radius:4px; }
.research.phantom { border-color:#8a5a00; color:#6d4700; }
table { border-collapse:collapse; width:100%; margin:6px 0; font-variant-numeric:tabular-nums; }
th,td { text-align:left; padding:4px 8px; border-bottom:1px solid var(--line); vertical-align:top; }
th { background:var(--pale); font-weight:600; } td.n, th.n { text-align:right; white-space:nowrap; }
.facts th { width:180px; background:none; color:var(--soft); font-weight:500; }
.flag { display:flex; gap:10px; padding:6px 10px; margin:4px 0; border-left:5px solid; background:var(--pale); }
.flag b.level { min-width:66px; } .serious { border-color:#b3261e; } .serious .level { color:#b3261e; }
.warning { border-color:#c77700; } .warning .level { color:#8a5200; } .info { border-color:#4a78a8; }
.info .level { color:#2f5c8a; }
.none { border-color:#3b7d4f; }

.swatch { display:inline-block; width:12px; height:12px; margin-right:6px; border:1px solid #666; vertical-align:-1px; }
.pictures { display:grid; grid-template-columns:repeat(3,1fr); gap:10px 12px; }
figure { margin:0; break-inside:avoid; } figcaption { font-size:12.5px; font-weight:600; margin-bottom:2px; }
.picture { position:relative; background:#000; line-height:0; text-align:center; }
.picture img { width:100%; height:auto; display:block; }

.picture span { position:absolute; color:#ffe9a8; font-size:11px; line-height:1; text-shadow:0 0 2px #000,0 0 3px #000,0 0 4px #000,1px 1px 1px #000; }
.picture .l { left:4px; top:50%; } .picture .r { right:4px; top:50%; } .picture .t { top:4px; left:50%; }
.picture .b { bottom:4px; left:50%; }
.places .l,.places .r { top:12%; } .places .t,.places .b { left:84%; } .picture .bar i { white-space:nowrap; }
.picture .bar { left:8px; bottom:8px; height:0; border-top:2px solid #ffe9a8; }
.picture .bar i { position:absolute; left:0; bottom:4px; font-style:normal; }
svg.legend { width:100%; height:auto; } svg text { font-size:11px; fill:#38424e; font-family:inherit; }
svg.legend text { font-size:10.5px; }
svg.chart { width:100%; max-width:760px; height:auto; }
.key span { margin-right:16px; font-size:12.5px; white-space:nowrap; }
.columns { display:grid; grid-template-columns:1fr 1fr; gap:0 28px; } code { font-size:12px; overflow-wrap:anywhere; }
.together { break-inside:avoid; }
.charts { display:grid; grid-template-columns:repeat(3,1fr); gap:6px 12px; } .charts svg.chart { max-width:none; }
td .level { font-weight:600; } .explained { color:var(--soft); font-size:13px; } td.none .level { color:#2c6a3e; }
td.serious,td.warning,td.none { border-color:var(--line); } .name { white-space:nowrap; } section.slice { break-inside:avoid; }
@page { size:A4; margin:12mm 12mm 16mm;
  @bottom-left { content:"Research use only — not for clinical use"; font:8.5pt Arial,sans-serif; color:#8c1d18; }
  @bottom-right { content:counter(page) " / " counter(pages); font:8.5pt Arial,sans-serif; color:#5a6675; } }
@media print {
  svg.chart { max-width:150mm; } .places { max-width:150mm; }
  td,th { padding:2px 6px; }
  h2 { margin-top:16px; }
  body { padding:0; max-width:none; font-size:9.5pt; line-height:1.35; }
  h2,h3 { break-after:avoid; }
  tr { break-inside:avoid; }
}
@media (max-width:700px) { .pictures,.columns { grid-template-columns:1fr; } }
"""
SEVERITIES = ("serious", "warning", "info")


def text(value) -> str:
    """Any value as escaped text; lists are joined by commas, nothing becomes a dash."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(text(v) for v in value)
    if isinstance(value, dict):
        return "; ".join(f"{escape(str(k))} {text(v)}" for k, v in value.items())
    return escape(f"{value:g}" if isinstance(value, float) else str(value), quote=True)


def facts(rows) -> str:
    """A two-column table of (name, escaped HTML)."""
    return "<table class='facts'>" + "".join(f"<tr><th>{escape(n)}</th><td>{v}</td></tr>" for n, v in rows) + "</table>"


def head(summary: dict, patient: dict | None = None) -> str:
    """Title, the inputs in one line, what the page may not be used for, and of the patient what was given."""
    model, job = summary.get("model", {}), summary.get("job") or "predict"
    given = summary.get("daily" if job == "propagate" else "input", {})
    size = " × ".join(text(n) for n in given.get("size", []))
    spacing = " × ".join(number(float(s)) for s in given.get("spacing_mm", []))
    created = str(summary.get("created", "")).replace("T", " ")[:16]
    phantom = ("<div class='research phantom'>This model was trained on digital phantoms and has not seen a patient.</div>"
               if model.get("training", {}).get("phantom") else "")
    grid = f" · {size} voxels of {spacing} mm" if size and spacing else ""
    images = f"Input <b>{text(given.get('name'))}</b>"
    if job == "propagate":
        images = f"Planning CT <b>{text((summary.get('planning') or {}).get('name'))}</b> to daily CT <b>{text(given.get('name'))}</b>"
    about = facts([(str(k), text(v)) for k, v in patient.items()]) if patient else ""
    made_by = [f"model <b>{text(model.get('title') or model.get('name'))}</b> {text(model.get('version')) if model.get('version') else ''}"] if model else []
    line = " · ".join([*([images + grid] if given else []), *made_by, *([text(created)] if created else [])])
    return (f"<h1>{heading(summary)}</h1><p>{line or text(summary.get('name'))}</p>{about}<div class='research'>{intended_use(model)}</div>{phantom}")


def heading(summary: dict) -> str:
    """The title of the report."""
    if summary.get("job") == "propagate":
        return "Propagated contours with uncertainty"
    outputs = summary.get("model", {}).get("outputs") or {"structures": summary.get("structures"), **({} if summary.get("job") == "own" else {"synct": {}})}
    made = [name for key, name in (("synct", "Synthetic CT"), ("structures", "Structures")) if key in outputs and (key == "synct" or outputs[key])]
    return f"{' and '.join([made[0], *(m.lower() for m in made[1:])]) if made else 'Result'} with uncertainty"


def intended_use(model: dict) -> str:
    """What the card says that the model is for, and always that it is not for clinical decisions; escaped."""
    use = text(model.get("intended_use") or "Research use only.")
    if "not for clinical decisions" not in use.lower():
        use = "Research use only — not for clinical decisions. " + use.replace("Research use only.", "").strip()
    return use.strip()


def flags(rows: list[dict], notes: list[str], earned: str = "") -> str:
    """What to look at first, the most severe at the top, how far flags could be trusted (`earned`, HTML), and the run's notes."""
    rank = {s: i for i, s in enumerate(SEVERITIES)}
    out = ["<h2>Look here first</h2>"]
    for row in sorted(rows, key=lambda r: rank.get(r.get("severity", ""), len(rank))):
        severity = row.get("severity") if row.get("severity") in rank else "info"
        out.append(f"<div class='flag {severity}'><b class='level'>{severity.capitalize()}</b><div>"
                   f"<b>{text(row.get('subject'))}: {text(row.get('flag'))}.</b> {text(row.get('reason'))}</div></div>")
    if not rows:
        out.append("<div class='flag none'><div>No flag was raised. "
                   "That is no proof that the result is right.</div></div>")
    out.append(earned)
    if notes:
        out.append("<ul>" + "".join(f"<li>{text(n)}</li>" for n in notes) + "</ul>")
    return "".join(out)


def value(row: dict | None, key: str) -> float:
    """A number of a row (text or number); NaN where there is none."""
    try:
        found = (row or {}).get(key)
        return math.nan if found is None or found == "" else float(found)
    except (TypeError, ValueError):
        return math.nan


def colour(structure: dict) -> str:
    """A structure's colour for a style attribute; numbers only."""
    r, g, b = (max(0, min(255, int(c))) for c in (list(structure.get("color") or (200, 200, 200)) + [0, 0, 0])[:3])
    return f"rgb({r},{g},{b})"


def metrics(rows: list[dict]) -> str:
    """The metrics, one line each, the regions side by side; structures (Dice) in a table of their own."""
    overlap = [r for r in rows if "Dice" in r.get("metric", "")]
    rest = [r for r in rows if r not in overlap]
    out = []
    for caption, part in (("Synthetic CT against the reference CT", rest), ("Structures against the reference", overlap)):
        if not part:
            continue
        columns = list(dict.fromkeys(r["region"] for r in part))
        names = list(dict.fromkeys((r["metric"], r.get("unit", "")) for r in part))
        cells = {(r["region"], r["metric"]): value(r, "value") for r in part}
        heads = "".join(f"<th class='n'>{text(c)}</th>" for c in columns)
        out.append(f"<h3>{caption}</h3><table><tr><th>Metric</th>{heads}</tr>")
        for metric, unit in names:
            label = text(metric) + (f" ({text(unit)})" if unit else "")
            values = (number(cells[c, metric]) if (c, metric) in cells else "–" for c in columns)
            out.append(f"<tr><td>{label}</td>" + "".join(f"<td class='n'>{v}</td>" for v in values) + "</tr>")
        out.append("</table>")
    if rest:
        out.append("<p class='soft'>Regions by the reference CT inside the body: bone above 200 HU, soft tissue −250 to 250 HU, "
                   "air below −400 HU. ME is synCT − CT. The fit of the z-scores to N(0, 1) is tested on voxels thinned to the step "
                   "given, so that they are nearly independent; with a small n even a poor fit may pass.</p>")
    return "".join(out)


def card(model: dict) -> str:
    """The model's card in plain words."""
    given, training, accuracy = model.get("input", {}), model.get("training", {}), model.get("accuracy", {})
    parts = given.get("spacing_range_mm") or []
    spacing = " to ".join(" × ".join(text(float(v)) for v in p) for p in parts) + " mm" if parts else "–"
    table = accuracy.get("table") or {}
    cases, count = text(accuracy.get("cases") or "cases"), text(accuracy.get("n"))
    measured = (f"On {cases if cases.startswith(f'{count} ') else f'{count} {cases}'}: "
                + "; ".join(f"{text(k)} {number(float(v)) if isinstance(v, (int, float)) else text(v)}"
                            for k, v in table.items()) + "." if table else "Not measured.")
    architecture, dropout = model.get("architecture", {}), model.get("dropout", {})
    rows = [
        ("What it does", text(model.get("task"))),
        ("Made for", f"{text([given.get('modality'), given.get('sequence'), given.get('region')])}; voxels {spacing}"),
        ("Learnt from", f"{text(training.get('cases'))} cases: {text(training.get('data'))} "
                        f"(licence {text(training.get('licence'))})"),
        ("Cite", text(training.get("citation"))),
        ("Measured accuracy", measured),
        *([("Error bars in HU", calibration(model.get("calibration") or {}))] if "synct" in (model.get("outputs") or {"synct": {}}) else []),
        ("Network", f"{text(architecture.get('name'))}; dropout {text(dropout.get('p'))} at {text(dropout.get('where'))}"),
        ("Licence of the weights", text(model.get("licence"))),
        ("Weights, SHA-256", f"<code>{text(model.get('weights', {}).get('sha256'))}</code>"),
    ]
    return "<h2>The model</h2>" + facts(rows)


def calibration(known: dict) -> str:
    """What the card says of the predictive SD, in words."""
    synct = known.get("synct") or {}
    sd, n = synct.get("z_sd"), synct.get("n")
    if not isinstance(sd, (int, float)) or not sd > 0:
        return "Never checked against truth: take the maps as a hint where to look, not as a measure."
    if sd > 1.15:
        verdict = f"too narrow; true errors were about {number(float(sd))} times as large as stated"
    elif sd < 0.87:
        verdict = f"too wide; true errors were about {number(float(sd))} times the stated size"
    else:
        verdict = "about right"
    mean = number(float(synct.get("z_mean") or 0))
    how = f"Recalibrated on {text(n)} cases, and checked on each with a fit on the others" if synct.get("recalibrated") else f"Checked on {text(n)} cases"
    factor = (synct.get("recalibration") or {}).get("interval_factors", {}).get("0.9")
    covered = ""
    if factor and isinstance(synct.get("within_90"), (int, float)):
        covered = (f" The 90 % interval of a voxel is ± {number(float(factor))} times its predictive SD; on those cases it held "
                   f"{100 * synct['within_90']:.0f} % of the voxels.")
    return (f"{how}: z-scores had mean {mean} and SD {number(float(sd))} "
            f"(0 and 1 would be perfect), so the error bars were {verdict}.{covered}")


def run(summary: dict) -> str:
    """How the result was made: times, options, versions."""
    seconds = {k: float(v) for k, v in (summary.get("seconds") or {}).items()}
    whole = sum(seconds.values())
    times = "; ".join(f"{escape(k)} {v:.1f} s" + (f" ({100 * v / whole:.0f} %)" if whole else "")
                      for k, v in seconds.items())
    options = summary.get("options", {})
    rows = [
        ("Samples, seed", f"{text(options.get('samples'))}, {text(options.get('seed'))}"),
        ("Device", f"{text(summary.get('device_used'))} (asked for: {text(options.get('device'))})"),
        *_of_job(summary, options),
        ("Time", f"{whole:.1f} s in all: {times}" if seconds else "–"),
        ("Versions", text(summary.get("versions"))),
    ]
    rest = {k: v for k, v in options.items() if k not in ("samples", "seed", "device", "bias_field", "rigid", "refine")}
    if rest:
        rows.insert(-2, ("Other options", text(rest)))
    return "<h2>The run</h2>" + facts(rows)


def _of_job(summary: dict, options: dict) -> list[tuple[str, str]]:
    """What was done to the images before the network saw them, and after."""
    if summary.get("job") == "propagate":
        return [("Rigid alignment, refinement", f"{text(options.get('rigid'))}, {text(options.get('refine'))}")]
    if "bias_field" not in options:
        return []
    corrected = "corrected by N4" if summary.get("bias_field_corrected") else "not corrected"
    return [("Bias field", f"{corrected} (asked for: {text(options.get('bias_field'))})")]
