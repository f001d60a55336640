"""`monitor`: routine results against the commissioning: control charts over time, and what has drifted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from .. import __version__
from ..bundles import bundle as bundles
from ..bundles import site as sites
from ..core import image_io
from ..core.errors import InputError
from ..core.events import Progress
from ..core.scans import acquisition
from ..report import build
from ..report.details import right
from ..report.figures import Series, chart, number
from ..results import tables
from ..results.result import Result
from . import constancy, statistics
from .statistics import Estimate

SHARES = {"read": 0.8, "test": 0.15, "write": 0.05}
BLUE, ORANGE, GREY, RED = "#0072b2", "#d55e00", "#8a94a0", "#b3261e"
REVIEW = "review.csv"


@dataclass
class Point:
    """A routine result.

    Attributes:
        name: of its folder.
        created: ISO 8601.
        measures: `constancy.measured`.
        acquisition: how the image was taken.
        decisions: structure → what a reviewer decided last.
        site: whether its intervals are the site's.
    """

    name: str
    created: str
    measures: dict[str, float]
    acquisition: dict
    decisions: dict[str, str]
    site: bool


@dataclass
class Monitored:
    """What routine results show.

    Attributes:
        site: the site file.
        points: in the order of time.
        alarms: (severity, sentence) each, worst first; none where nothing has drifted.
        corrected: share of reviewed contours that were edited or rejected.
        output: the folder, or None.
    """

    site: dict
    points: list[Point]
    alarms: list[tuple[str, str]] = field(default_factory=list)
    corrected: Estimate | None = None
    output: Path | None = None


def monitor(
    site, results, output=None, *, test_case: bool = False, model=None, progress: Progress | None = None
) -> Monitored:
    """Compares routine results with a site's commissioning.

    Args:
        site: path of the site's `site.json`.
        results: result folders of `predict` or `propagate`, or folders that hold such; a `review.csv` of RT Review in a
            result folder, or in a folder in it, is read too.
        output: a folder for `monitor.html` and `monitor.csv`; None: nothing is written.
        test_case: whether the test case is run.
        model: name or folder of the bundle, for the test case; None: by the site's name of it.
        progress: takes the stages; its token cancels.

    Returns:
        All points, and what is out of control.

    Raises:
        InputError: no site file of a commissioning, or no result of its model.
    """
    progress = progress or Progress(shares=SHARES)
    known = sites.read(site)
    if "constancy" not in known:
        raise InputError(f"{site}: holds no control limits; commission again with this version.")
    progress.stage("read", 0.0, "Reading the results")
    folders = _folders(results)
    points, foreign = [], []
    for number_, folder in enumerate(folders):
        progress.stage("read", number_ / max(1, len(folders)), f"Reading {folder.name}")
        result = Result.read(folder)
        if not _same(result, known):
            foreign.append(folder)
            continue
        points.append(_point(result, folder))
    if not points and not test_case:
        what = f"{len(foreign)} results are of other models" if foreign else "there is no result"
        raise InputError(
            f"{', '.join(map(str, results))}: {what}; give results of {known['model']['name']} "
            f"{known['model']['version']}."
        )
    points.sort(key=lambda p: p.created)
    found = Monitored(known, points)
    if foreign:
        found.alarms.append(
            (
                "warning",
                f"{len(foreign)} results are of another model or version than {known['model']['name']} "
                f"{known['model']['version']} and were left out: {', '.join(f.name for f in foreign[:5])}.",
            )
        )
    found.alarms += _drifted(points, known["constancy"]) + _protocol(points, known["constancy"])
    found.corrected = _corrected(points)
    found.alarms += _reviewed(found.corrected, known["constancy"])
    without = sum(not p.site for p in points)
    if without:
        found.alarms.append(("warning", f"{without} of {len(points)} results were made without the site calibration."))
    if test_case:
        progress.stage("test", 0.0, "Running the test case")
        found.alarms.append(_tested(known, model, progress))
    order = ("serious", "warning", "info", "good")
    found.alarms.sort(key=lambda a: order.index(a[0]))
    if output is not None:
        progress.stage("write", 0.0, "Writing the charts")
        with image_io.Staging(output) as staging:
            staging.text(page(found), "monitor.html")
            staging.text(_table(points), "monitor.csv")
            staging.commit()
        found.output = Path(output).absolute()
    progress.stage("write", 1.0, "Done")
    return found


def _folders(results) -> list[Path]:
    """Every result folder in what was given."""
    out: list[Path] = []
    for place in [results] if isinstance(results, (str, Path)) else results:
        place = Path(place)
        if not place.is_dir():
            raise InputError(f"{place}: there is no such folder; give result folders, or a folder that holds some.")
        out += [place] if (place / "summary.json").is_file() else sorted(p.parent for p in place.rglob("summary.json"))
    return list(dict.fromkeys(out))


def _same(result: Result, known: dict) -> bool:
    card = result.card
    return bool(card) and all(sites.identity(card)[k] == v for k, v in known["model"].items())


def _point(result: Result, folder: Path) -> Point:
    decisions: dict[str, str] = {}
    file = next((f for f in [folder / REVIEW, *sorted(folder.glob(f"*/{REVIEW}"))] if f.is_file()), None)
    for row in tables.read(file, ("structure", "decision")) if file is not None else []:
        decisions[row["structure"]] = row["decision"]
    return Point(
        folder.name,
        str(result.summary.get("created") or ""),
        constancy.measured(result),
        result.summary.get("acquisition") or {},
        decisions,
        bool(result.summary.get("site")),
    )


def _drifted(points: list[Point], known: dict) -> list[tuple[str, str]]:
    """Measures beyond their control limits, and means that drift."""
    out = []
    for name, stored in known["measures"].items():
        own = [p for p in points if name in p.measures]
        if not own:
            continue
        title, (low, high) = constancy.MEASURES.get(name, name), constancy.limits(stored)
        head = title[:1].upper() + title[1:]
        beyond = [p for p in own if not low <= p.measures[name] <= high]
        means, allowed = constancy.ewma([p.measures[name] for p in own], stored)
        off = next((k for k, (m, a) in enumerate(zip(means, allowed)) if abs(m - stored["mean"]) > a), None)
        if off is not None:
            up = "above" if means[off] > stored["mean"] else "below"
            out.append(
                (
                    "serious",
                    f"Drift of {title}: since result {off + 1} ({own[off].name}) the running mean lies {up} what the "
                    f"commissioning showed ({number(means[-1])} now, {number(stored['mean'])} then).",
                )
            )
        if beyond:
            names = ", ".join(p.name for p in beyond[:3]) + (" and more" if len(beyond) > 3 else "")
            out.append(
                (
                    "warning",
                    f"{head}: {len(beyond)} of {len(own)} results lie beyond {number(low)} to {number(high)}: {names}.",
                )
            )
    return out


def _protocol(points: list[Point], known: dict) -> list[tuple[str, str]]:
    """Scanners and protocols that the commissioning has not seen."""
    said: dict[str, list[str]] = {}
    for p in points:
        for line in acquisition.differences(p.acquisition, known.get("acquisitions") or []):
            said.setdefault(line, []).append(p.name)
    return [
        ("serious", f"Another scanner or protocol: {line}, in {len(names)} of {len(points)} results, first {names[0]}.")
        for line, names in said.items()
    ]


def _corrected(points: list[Point]) -> Estimate | None:
    decided = [d for p in points for d in p.decisions.values() if d in ("accepted", "edited", "rejected")]
    return statistics.share(sum(d != "accepted" for d in decided), len(decided)) if decided else None


def _reviewed(corrected: Estimate | None, known: dict) -> list[tuple[str, str]]:
    """Whether more contours are edited or rejected than were bad at the commissioning."""
    stored = known.get("bad_contours") or {}
    if corrected is None or not stored.get("contours"):
        return []
    then = statistics.share(int(stored["bad"]), int(stored["contours"]))
    if corrected.low <= then.high:
        return []
    return [
        (
            "serious",
            f"Reviewers edited or rejected {100 * corrected.mean:.0f} % of {corrected.n} contours, more than the "
            f"{100 * then.mean:.0f} % that were bad at the commissioning ({100 * then.low:.0f} % to "
            f"{100 * then.high:.0f} %).",
        )
    ]


def _tested(known: dict, model, progress: Progress) -> tuple[str, str]:
    stored = known["constancy"].get("test_case")
    if not stored:
        return "warning", "The site file has no test case; commission again with this version."
    card = sites.applied(bundles.read_card(bundles.find(model or known["model"]["name"])), known)
    return constancy.compare_test(constancy.test_case(card, progress), stored)


def _table(points: list[Point]) -> str:
    names = [n for n in constancy.MEASURES if any(n in p.measures for p in points)]
    return tables.text(
        ("result", "created", *names, "scanner", "reviewed", "edited_or_rejected"),
        [
            [p.name, p.created, *(p.measures.get(n, math.nan) for n in names), acquisition.scanner(p.acquisition)]
            + [len(p.decisions), sum(d in ("edited", "rejected") for d in p.decisions.values())]
            for p in points
        ],
    )


def page(found: Monitored) -> str:
    """The control charts as HTML.

    Args:
        found: what routine results show.

    Returns:
        The page.
    """
    site, alarms = found.site, found.alarms
    worst = next((s for s, _ in alarms if s in ("serious", "warning")), "good")
    counted = sum(s in ("serious", "warning") for s, _ in alarms)
    verdict = "Nothing has drifted since the commissioning." if not counted else f"{counted} things to look at."
    corrected = found.corrected
    values = {
        "title": f"Constancy of {site['model']['name']} {site['model']['version']} at {site['site']}",
        "about": [
            f"{len(found.points)} results",
            *([f"{found.points[0].created[:10]} to {found.points[-1].created[:10]}"] if found.points else []),
            f"commissioned {str(site['created'])[:10]} on {site['patients']} patients by {site['person']}",
        ],
        "verdict": (worst, verdict),
        "alarms": alarms,
        "charts": [_chart(name, found) for name in site["constancy"]["measures"] if _has(name, found)],
        "review": ""
        if corrected is None
        else f"{100 * corrected.mean:.0f} % of {corrected.n} reviewed contours were edited or rejected (95 % "
        f"confidence {100 * corrected.low:.0f} % to {100 * corrected.high:.0f} %).",
        "scanners": _scanners(found.points),
        "version": __version__,
    }
    return build.render(values, template="monitor.html.j2")


def _has(name: str, found: Monitored) -> bool:
    return any(name in p.measures for p in found.points)


def _chart(name: str, found: Monitored) -> dict:
    stored = found.site["constancy"]["measures"][name]
    values = [p.measures[name] for p in found.points if name in p.measures]
    (low, high), (means, _) = constancy.limits(stored), constancy.ewma(values, stored)
    x = list(range(1, len(values) + 1))
    ends = [x[0], max(x[-1], 2)]
    lowest, highest = min([low, *values]), max([high, *values])
    margin = 0.08 * (highest - lowest)
    drawn = chart(
        [
            Series("control limits", RED, ends, [low, low], dashed=True),
            Series("", RED, ends, [high, high], dashed=True),
            Series("mean of the commissioning", GREY, ends, [stored["mean"]] * 2),
            Series("results", BLUE, x, values),
            Series("running mean (EWMA)", ORANGE, x, means, dashed=True),
        ],
        "result, in the order of time",
        "",
        y_range=(lowest - margin, highest + margin),
        height=190,
    )
    title = constancy.MEASURES.get(name, name)
    return {"title": f"{title[:1].upper()}{title[1:]}", "chart": drawn | {"key": [k for k in drawn["key"] if k[0]]}}


def _scanners(points: list[Point]) -> dict:
    counts: dict[str, int] = {}
    for p in points:
        name = acquisition.scanner(p.acquisition) or "not stated by the image"
        counts[name] = counts.get(name, 0) + 1
    return {"heads": ["Scanner", "Results"], "rows": [[name, right(str(n))] for name, n in counts.items()]}
