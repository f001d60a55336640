"""The document of a commissioning and its tables: what a physicist puts before a committee."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..bundles import site as sites
from ..core import image_io
from ..core.errors import InputError, RTUncertaintyError
from ..core.scans import acquisition
from ..report import build
from ..report.context import LIMITS, intended_use
from ..report.details import numeric, right
from ..report.details import text as as_text
from ..report.figures import Figure, number
from ..results import tables
from . import advice, constancy, statistics
from .advice import LIKENESS
from .cases import Case
from .evidence import Evidence
from .recalibrate import LEVEL
from .statistics import Estimate

if TYPE_CHECKING:
    from .run import Commissioned

WORST = 3
SEVERITY = {"use with review": "good", "only these": "warning", "not": "serious", "too few patients": "warning"}
MEASURES = {
    "MAE": ("mean absolute error", "HU", 1.0),
    "ME": ("mean error", "HU", 1.0),
    "dice": ("Dice", "", 1.0),
    "msd_mm": ("mean surface distance", "mm", 1.0),
    "hd95_mm": ("95 % Hausdorff distance", "mm", 1.0),
    "volume_error": ("error of the volume", "%", 100.0),
}
CASE_COLUMNS = ("patient", "used", "found", "missing", "odd", "not used")
NO_LIMITS = (
    "No limit could be fitted: that takes at least three bad contours, or contours of a propagation that are off, and "
    "good ones beside them. The limits stay those of the card."
)


def case_table(listed: list[Case]) -> str:
    """The table of cases as CSV."""
    return tables.text(CASE_COLUMNS, [c.row() for c in listed])


def worst(found: list[Evidence]) -> list[tuple[str, str]]:
    """The patients that did worst, and by what.

    Args:
        found: of each patient.

    Returns:
        (patient, why) of up to `WORST`.
    """
    out: dict[str, str] = {}
    by_error = sorted((e for e in found if "body" in e.regions), key=lambda e: -e.regions["body"]["MAE"])
    scored = [(e, _lowest(e)) for e in found]
    by_dice = sorted(((e, low) for e, low in scored if low is not None), key=lambda pair: pair[1][1])
    for k in range(WORST):
        if k < len(by_error):
            e = by_error[k]
            out.setdefault(e.patient, f"mean absolute error {e.regions['body']['MAE']:.0f} HU in the body")
        if k < len(by_dice):
            e, (name, dice) = by_dice[k]
            out.setdefault(e.patient, f"Dice of {name} {dice:.2f}")
    return list(out.items())[:WORST]


def _lowest(e: Evidence) -> tuple[str, float] | None:
    known = [(n, s["dice"]) for n, s in e.structures.items() if s.get("dice") is not None]
    return min(known, key=lambda pair: pair[1]) if known else None


def files(done: Commissioned) -> dict[str, str]:
    """The document and the tables.

    Args:
        done: what was found.

    Returns:
        {name of the file: its content}.
    """
    estimates = advice.accuracy(done.found)
    return {
        "cases.csv": case_table(done.cases),
        "accuracy.csv": tables.text(
            ("region", "measure", "unit", "mean", "low_95", "high_95", "sd", "patients"),
            [
                [region, MEASURES[k][0], MEASURES[k][1], *_csv(e, MEASURES[k][2])]
                for region, measures in estimates.items()
                for k, e in measures.items()
                if k in MEASURES and e.n
            ],
        ),
        "coverage.csv": tables.text(
            ("intervals_of", "state", "level", "coverage", "low_95", "high_95", "patients", "width", "unit"),
            [
                [c.what, state, f"{LEVEL:g}", *_csv(e, 1.0)[:3], e.n, tables.rounded(width), c.unit]
                for c in done.fitted.coverage
                for state, e, width in (("card", c.before, c.width_before), ("site", c.after, c.width_after))
            ],
        ),
        "limits.csv": tables.text(
            ("limit_on", "threshold", "validated", "caught", "missed", "false_alarms", "cases", "patients"),
            [
                [name, f"{v.threshold:.4g}", tables.yes(v.validated), v.caught, v.missed, v.false_alarms, v.cases]
                + [v.patients]
                for name, v in done.fitted.limits.items()
            ],
        ),
        "commissioning.html": page(done),
    }


def _csv(e: Estimate, factor: float) -> list:
    ends = [v * factor if math.isfinite(v) else math.nan for v in (e.mean, e.low, e.high, e.sd)]
    return [*(tables.rounded(v) for v in ends), e.n]


def page(done: Commissioned, print_folder: Path | None = None) -> str:
    """The document as HTML.

    Args:
        done: what was found.
        print_folder: as of `report.build.render`.

    Returns:
        The page.
    """
    return build.render(context(done), print_folder, "commissioning.html.j2")


def context(done: Commissioned) -> dict:
    """All that the template prints."""
    card, site, n = done.card, done.site, len(done.found)
    return {
        "title": f"Commissioning of {card['name']} {card['version']} at {site['site']}",
        "about": [
            str(card.get("title") or card["name"]),
            f"{n} patient{'s' * (n != 1)}",
            str(site["created"])[:10],
            str(site["person"]),
        ],
        "use": intended_use(card).replace(build.EACH_PAGE, "").strip(),
        "phantom": bool((card.get("training") or {}).get("phantom")),
        "verdict": (SEVERITY[done.advice.verdict], done.advice.sentence),
        "purpose": _purpose(done),
        "data": _data(done),
        "refused": {
            "heads": ["Patient", "Why"],
            "rows": [
                [c.name, "; ".join([*(f"no {m}" for m in c.missing), *c.odd])] for c in done.cases if not c.usable
            ],
        },
        "findings": done.advice.findings,
        "accuracy": _accuracy(done),
        "contours": _contours(done),
        "coverage": _coverage(done),
        "patients": n,
        "bearing": statistics.bearing(n) + done.fitted.notes,
        "limits": _limits(done),
        "no_limits": NO_LIMITS,
        "cases": _cases(done),
        "parts": _parts(done),
        "rules": advice.RULES,
        "constancy": _constancy(site["constancy"]),
        "constancy_text": _constancy_text(site["constancy"]),
        "signatures": [("Medical physicist", site["person"]), ("Responsible physician", ""), ("Second check", "")],
        "versions": _versions(done),
        "version": __version__,
    }


def _purpose(done: Commissioned) -> list[str]:
    card = done.card
    stated = (card.get("accuracy") or {}).get("cases") or "cases"
    return [
        f"The model {card['name']} ({card.get('task') or 'of another tool'}) was made and measured elsewhere: "
        f"{stated}. This document says what "
        f"it does on {len(done.found)} patients of {done.site['site']}, whether its error bars hold there, which "
        f"limits "
        "its flags should have, and what may be done with it. Every number on intervals and limits is of a patient on "
        "whom it was not fitted.",
        "The file site.json, which belongs to this document, brings the site's intervals and limits into every result "
        "(predict --site, propagate --site). It is valid for this version of the model alone.",
    ]


def _data(done: Commissioned) -> list[tuple[str, str]]:
    used, known = len(done.found), [e.likeness for e in done.found if e.likeness.get("deviations")]
    scanners: dict[str, int] = {}
    for e in done.found:
        name = acquisition.scanner(e.acquisition) or "not stated by the image"
        scanners[name] = scanners.get(name, 0) + 1
    rows = [
        ("Patients", f"{used} used, {sum(not c.usable for c in done.cases)} left out, of {len(done.cases)}"),
        ("Scanner", "; ".join(f"{name} ({count})" for name, count in scanners.items())),
    ]
    protocol = done.site["constancy"]["acquisitions"]
    rows += [("Protocols", "; ".join(_protocol(p) for p in protocol))] if protocol else []
    if known:
        names = dict.fromkeys(k for one in known for k in one["deviations"])
        limit = known[0]["limit"]
        far = {n: sum(one["deviations"].get(n, 0) > limit for one in known) for n in names}
        rows.append(
            (
                "Like the training data",
                "; ".join(
                    f"{LIKENESS.get(n, n).lower()}: {count} of {len(known)} beyond {limit:.1f} SDs"
                    for n, count in far.items()
                ),
            )
        )
    odd: dict[str, list[str]] = {}
    for e in done.found:
        for note in e.notes:
            odd.setdefault(note, []).append(e.patient)
    rows += [("To look at", f"{note} ({', '.join(names)})") for note, names in odd.items()]
    missing: dict[str, int] = {}
    for e in done.found:
        for name in e.unmatched:
            missing[name] = missing.get(name, 0) + 1
    if missing:
        rows.append(("Without a reference", "; ".join(f"{n} in {c} of {used}" for n, c in missing.items())))
    return rows


def _protocol(facts: dict) -> str:
    return ", ".join(
        f"{k.replace('_', ' ')} {as_text(v)}" for k, v in facts.items() if k not in acquisition.SCANNER
    ) or as_text(acquisition.scanner(facts))


def _ends(e: Estimate, factor: float = 1.0) -> str:
    if e.n < 2 or not math.isfinite(e.low + e.high):
        return "–"
    return f"{number(e.low * factor)} to {number(e.high * factor)}"


def _accuracy(done: Commissioned) -> dict:
    rows = []
    for region, measures in advice.accuracy(done.found).items():
        for key in ("MAE", "ME"):
            e = measures.get(key)
            if e is None or not e.n:
                continue
            stated = advice.of_card(done.card, region) if key == "MAE" else None
            title, unit, _ = MEASURES[key]
            rows.append(
                [region, f"{title} ({unit})", numeric(e.mean), right(_ends(e)), numeric(e.sd), right(str(e.n))]
                + [right("–" if stated is None else number(stated))]
            )
    return {
        "heads": ["Region", "Measure", "Mean", "95\u00a0% confidence", "SD", "Patients", "Card"],
        "rows": rows,
        "notes": ["95 % confidence: Student's interval of the mean over patients. SD: between patients."],
    }


def _contours(done: Commissioned) -> dict:
    rows, keys = [], ("dice", "msd_mm", "hd95_mm", "volume_error")
    for title, measures in advice.accuracy(done.found).items():
        if not title.startswith("structure "):
            continue
        cells = [measures[key] for key in keys]
        rows.append(
            [title.removeprefix("structure ")]
            + [right(_with_ends(e, MEASURES[key][2])) for key, e in zip(keys, cells)]
            + [right(str(cells[0].n))]
        )
    units = [f"{MEASURES[k][0]}{f' ({MEASURES[k][1]})' if MEASURES[k][1] else ''}" for k in keys]
    return {
        "heads": ["Structure", *units, "Patients"],
        "rows": rows,
        "notes": ["Mean over patients, in brackets Student's 95 % interval of it."],
    }


def _with_ends(e: Estimate, factor: float) -> str:
    if not e.n:
        return "–"
    ends = _ends(e, factor)
    return number(e.mean * factor) + (f" ({ends})" if ends != "–" else "")


def _coverage(done: Commissioned) -> dict:
    rows = []
    for c in done.fitted.coverage:
        percent = c.unit.startswith("of the")
        widths = [
            "–" if not math.isfinite(w) else f"{100 * w:.0f} %" if percent else f"{number(w)} {c.unit}"
            for w in (c.width_before, c.width_after)
        ]
        cells = [f"{100 * e.mean:.0f} %" if e.n else "no interval" for e in (c.before, c.after)]
        ends = [_ends(e, 100) if e.n else "–" for e in (c.before, c.after)]
        rows.append(
            [c.what, *(right(v) for v in (cells[0], ends[0], widths[0], cells[1], ends[1], widths[1]))]
            + [right(str(max(c.before.n, c.after.n)))]
        )
    return {
        "heads": [
            f"{100 * LEVEL:.0f}\u00a0%\u00a0intervals of",
            "Card: hold",
            "95\u00a0% confidence",
            "width",
            "Site: hold",
            "95\u00a0% confidence",
            "width",
            "Patients",
        ],
        "rows": rows,
        "notes": [
            "Site: as recalibrated here; each patient by a fit on others. A share of one structure a patient has the "
            "exact interval (Clopper and Pearson), others Student's over patients."
        ],
    }


def _limits(done: Commissioned) -> dict:
    stored, rows = done.site["calibration"], []
    used = set(stored["flags"] or {})
    used |= {f"{level}, {name}" for level, own in (stored["lights"] or {}).items() for name in own}
    for name, v in done.fitted.limits.items():
        level, _, measure = name.rpartition(", ")
        caught, alarms = statistics.share(v.caught, v.caught + v.missed), v.cases - v.caught - v.missed
        rows.append(
            [
                f"{level}: {LIMITS.get(measure, measure)}" if level else LIMITS.get(name, name),
                numeric(v.threshold),
                right(str(v.caught + v.missed)),
                right(f"{v.caught} ({_ends(caught, 100)} %)"),
                right(f"{v.false_alarms} of {alarms}"),
                "used"
                if name in used
                else "not used: another one makes fewer mistakes"
                if v.validated
                else "not used: no better than chance",
            ]
        )
    return {
        "heads": [
            "Limit\u00a0on",
            "Limit",
            "Bad contours",
            "Caught (95\u00a0%\u00a0confidence)",
            "False alarms",
            "In\u00a0the\u00a0site\u00a0file",
        ],
        "rows": rows,
        "notes": [
            f"Bad: a Dice below {done.site['bad_dice']:g}; of amber and red a mean surface distance beyond 1.5 and 3 "
            f"mm. "
            "Limits by conformal risk control (Angelopoulos 2022) for a catch of 90 %, or the most that so few bad "
            "contours can promise; counts by leaving one patient out."
        ],
    }


def _cases(done: Commissioned) -> list[dict]:
    out = []
    for name, why in worst(done.found):
        every = [Figure(caption, key, png) for key, caption, png in done.pictures.get(name, [])]
        # what speaks of the reason
        chosen = [f for f in every if (f.key == "contours") == why.startswith("Dice")] or every
        out.append({"title": f"{name}: {why}", "figures": chosen[:3]})
    return out


def _parts(done: Commissioned) -> dict:
    rows = []
    if done.advice.synct is not None:
        rows.append(["synthetic CT", *_yes(done.advice.synct)])
    rows += [[name, *_yes(said)] for name, said in done.advice.structures.items()]
    few = done.advice.verdict == "too few patients"
    return {
        "heads": ["Part", "By\u00a0the\u00a0rules", "Why"],
        "rows": rows,
        "notes": ["Provisional: too few patients for a recommendation."] if few and rows else [],
    }


def _yes(said: tuple[bool, str]) -> list:
    return [
        {"text": "use with review" if said[0] else "do not use", "severity": "good" if said[0] else "serious"},
        said[1],
    ]


def _constancy(known: dict) -> dict:
    rows = [
        [constancy.MEASURES[name], numeric(m["mean"]), numeric(m["sd"]), right(_range(constancy.limits(m)))]
        for name, m in known["measures"].items()
    ]
    return {"heads": ["Measure of\u00a0a\u00a0routine\u00a0result", "Mean", "SD", "Control limits"], "rows": rows}


def _range(ends: tuple[float, float]) -> str:
    return f"{number(ends[0])} to {number(ends[1])}"


def _constancy_text(known: dict) -> str:
    test = known.get("test_case") or {}
    said = (
        "Routine results are watched with 'rtuncertainty monitor --site site.json --results DIR': a result beyond the "
        "limits, a slow drift, another scanner or protocol is told. The test case (a digital limb, no patient) is run "
        "once a week with --test-case."
    )
    return said + (f" Its checksum is {test['sha256'][:16]}." if test else "")


def _versions(done: Commissioned) -> list[tuple[str, str]]:
    who = sites.identity(done.card)
    return [
        ("Model", f"{who['name']} {who['version']}"),
        ("Weights, SHA-256", as_text(who["weights_sha256"])),
        ("Options", as_text(done.site.get("options"))),
        ("Made", as_text(done.site["created"])),
        ("Software", as_text(done.site["versions"])),
    ]


PDF = "rtuncertainty.pdf"


def _pdf_writer():
    """The entry point of the group `rtuncertainty.pdf`, which prints pages; None where nothing offers it."""
    from importlib.metadata import entry_points

    return next(iter(entry_points(group=PDF)), None)


def require_pdf() -> None:
    """Raises when no PDF can be written.

    Raises:
        InputError: says what is missing.
    """
    import importlib.util

    if _pdf_writer() is None or importlib.util.find_spec("PySide6") is None:
        raise InputError(
            "--pdf needs RTUncertainty as an installed package and PySide6: run 'pip install . PySide6-Essentials', or "
            "print commissioning.html from a browser."
        )


def write_pdf(done: Commissioned) -> Path:
    """Writes `commissioning.pdf` beside the document, by the way in which RT Review prints its report, in a process of
    its own.

    Args:
        done: what was found, with its output.

    Returns:
        The file.

    Raises:
        RTUncertaintyError: it could not be written.
    """
    import subprocess
    import sys
    import tempfile

    require_pdf()
    writer, place = _pdf_writer(), (done.output or Path()) / "commissioning.pdf"
    title = f"Commissioning of {done.card['name']} {done.card['version']} at {done.site['site']}"
    with tempfile.TemporaryDirectory() as folder:
        html = Path(folder) / "page.html"
        pictures = Path(folder) / "pictures"
        pictures.mkdir()
        html.write_text(page(done, pictures), encoding="utf-8")

        def run(file: Path) -> None:
            command = [sys.executable, "-m", writer.module, str(html), str(file), title, build.EACH_PAGE]
            ended = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
            if ended.returncode:
                last = next(iter(reversed(ended.stderr.strip().splitlines())), f"exit code {ended.returncode}")
                raise RTUncertaintyError(f"{place}: the PDF could not be written: {last}")

        image_io.write_file(place, run)
    return place
