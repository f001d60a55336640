"""What a run in the scene says about its structures: volumes with intervals, quality, flags, decisions, model and
notes.

Everything comes from the run's nodes, so that a scene that was saved and opened again tells the same as the result
folder did.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

from ..mrml.attributes import SUMMARY_ATTRIBUTE

LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95)
"""Nominal levels of the intervals."""
SEVERITIES = ("serious", "warning", "info")
"""Of flags, worst first."""
_LIGHTS = {"red": "serious", "amber": "warning"}


@dataclass(frozen=True)
class Interval:
    """A volume's interval in ml at a nominal level; `cases` validation cases stand behind a calibrated one; `note`
    says what limits it, or why there is none: the bounds are None then.
    """

    level: float
    lower_ml: float | None
    upper_ml: float | None
    calibrated: bool
    cases: int = 0
    note: str = ""


@dataclass(frozen=True)
class Percentile:
    """A point of a volume's distribution; `calibrated_ml` is None where nothing was calibrated."""

    percentile: float
    volume_ml: float
    calibrated_ml: float | None


@dataclass(frozen=True)
class Quality:
    """Expected Dice with its interval (bounds None where there is none) and the mean entropy (nats) of the contour's
    surface voxels.
    """

    expected_dice: float | None
    dice_lower: float | None
    dice_upper: float | None
    calibrated: bool
    surface_entropy: float | None


@dataclass(frozen=True)
class Flag:
    """What was flagged: `subject` is a structure or what else it is about, `severity` one of `SEVERITIES`."""

    subject: str
    severity: str
    flag: str
    reason: str


@dataclass(frozen=True)
class Decision:
    """What the reviewer decided of a structure: 'open', 'accepted', 'edited' or 'rejected'. `time` is ISO 8601,
    empty for what is open.
    """

    state: str = "open"
    comment: str = ""
    reviewer: str = ""
    time: str = ""


@dataclass(frozen=True)
class Structure:
    """One structure. `color` is red, green, blue in 0..1; `volume_ml` None when it is not known; `intervals` maps a
    level to its interval, `distribution` has ascending percentiles; both are empty in results of older versions but for
    the level of volumes.csv. `worst_slice` is the index along the third axis of the main image that a propagation
    names."""

    name: str
    color: tuple[float, float, float]
    volume_ml: float | None
    intervals: dict[float, Interval] = field(default_factory=dict)
    distribution: tuple[Percentile, ...] = ()
    quality: Quality | None = None
    flags: tuple[Flag, ...] = ()
    decision: Decision = Decision()
    planning_ml: float | None = None
    worst_slice: int | None = None

    @property
    def severity(self) -> str:
        """The worst severity of its flags; empty without any."""
        return min((f.severity for f in self.flags), key=_rank, default="")

    def interval(self, level: float) -> Interval | None:
        """The interval at a level, None when the result has none."""
        return next((i for at, i in self.intervals.items() if abs(at - level) < 1e-6), None)

    def worst_first(self) -> tuple:
        """Sorting key: flagged before unflagged, then low expected Dice, then a wide interval; one that was not
        calibrated counts as the widest.
        """
        dice = self.quality.expected_dice if self.quality is not None else None
        widths = [i.upper_ml - i.lower_ml for i in self.intervals.values() if i.lower_ml is not None]
        widest = max(widths, default=math.inf if self.intervals else 0.0)
        return (
            _rank(self.severity),
            2.0 if dice is None else dice,
            -widest / self.volume_ml if self.volume_ml else 0.0,
            self.name.lower(),
        )


@dataclass(frozen=True)
class ReviewData:
    """What a run says. `job` is 'predict', 'propagate' or 'own' (a user's own segmentation); `flags` are all flags,
    those of no structure included; `card` is the model's card (empty when unknown); `summary` the whole
    `summary.json` without paths."""

    name: str
    job: str
    level: float
    structures: tuple[Structure, ...]
    flags: tuple[Flag, ...]
    notes: tuple[str, ...]
    card: dict
    summary: dict

    @classmethod
    def of_run(cls, run) -> ReviewData:
        """Read the nodes of a run (`scene.run_nodes`, `scene.load_result`, …); tables that it lacks count as empty."""
        tables = {
            key: table_rows_of(node)
            for key, node in run.tables.items()
            if node is not None and node.GetScene() is not None
        }
        summary = read_summary(run)
        flags = tuple(Flag(r["subject"], r["severity"], r["flag"], r["reason"]) for r in tables.get("flags", []))
        level = _number(summary.get("level")) or 0.9
        return cls(
            name=run.name,
            job=run.job,
            level=level,
            structures=tuple(_structures(run, tables, flags)),
            flags=flags,
            notes=tuple(str(note) for note in summary.get("notes") or []),
            card=summary.get("model") if isinstance(summary.get("model"), dict) else {},
            summary=summary,
        )

    def structure(self, name: str) -> Structure | None:
        """The structure of that name, None when there is none."""
        return next((s for s in self.structures if s.name == name), None)

    @property
    def general_flags(self) -> tuple[Flag, ...]:
        """Flags that are about no structure in particular."""
        names = {s.name for s in self.structures}
        return tuple(f for f in self.flags if f.subject not in names)

    def counts(self) -> dict[str, int]:
        """How many structures are in each state of the review."""
        states = [s.decision.state for s in self.structures]
        return {state: states.count(state) for state in ("accepted", "edited", "rejected", "open")}

    def levels(self) -> tuple[float, ...]:
        """The levels at which any structure has an interval, ascending."""
        return tuple(sorted({level for s in self.structures for level in s.intervals}))


def write_summary(run, summary: dict) -> None:
    """Keep a result's summary on the run's main node, without the places of files."""
    kept = {key: value for key, value in summary.items() if key != "files"}
    run.main.SetAttribute(SUMMARY_ATTRIBUTE, json.dumps(kept, ensure_ascii=True))


def read_summary(run) -> dict:
    """The summary that `write_summary` kept; empty for a run of an older version."""
    text = run.main.GetAttribute(SUMMARY_ATTRIBUTE) if run.main is not None else None
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _structures(run, tables: dict[str, list[dict]], flags: tuple[Flag, ...]) -> list[Structure]:
    """In the order of the volumes' table, or else of the segmentation."""
    colors = _colors(run)
    volumes = {r["structure"]: r for r in tables.get("volumes", [])}
    propagated = {r["structure"]: r for r in tables.get("structure_table", [])}
    quality = {r["structure"]: r for r in tables.get("quality", [])}
    decisions = decisions_of(tables.get("review", []))
    found = []
    for name in dict.fromkeys([*volumes, *propagated, *colors]):
        row = propagated.get(name, {})
        worst = _number(row.get("worst_slice"))
        found.append(
            Structure(
                name=name,
                color=colors.get(name, (0.5, 0.5, 0.5)),
                volume_ml=_number(volumes.get(name, {}).get("volume_ml")),
                intervals=_intervals(name, volumes.get(name), tables.get("volume_intervals", [])),
                distribution=_distribution(name, tables.get("volume_distribution", [])),
                quality=_quality(quality.get(name)),
                flags=_flags(name, flags, row),
                decision=decisions.get(name, Decision()),
                planning_ml=_number(row.get("planning_ml")),
                worst_slice=None if worst is None else int(worst),
            )
        )
    return found


def _colors(run) -> dict[str, tuple]:
    """Structure -> colour, of the segmentation that stands for the run."""
    node = run.main_segmentation
    if node is None or node.GetScene() is None:
        return {}
    segments = [node.GetSegmentation().GetNthSegment(i) for i in range(node.GetSegmentation().GetNumberOfSegments())]
    return {segment.GetName(): tuple(segment.GetColor()) for segment in segments}


def _intervals(name: str, volume: dict | None, rows: list[dict]) -> dict[float, Interval]:
    found = {}
    for row in [*([volume] if volume else []), *(r for r in rows if r["structure"] == name)]:
        level, lower, upper = (_number(row.get(key)) for key in ("level", "lower_ml", "upper_ml"))
        note = row.get("note") or ""
        if level is not None and (None not in (lower, upper) or note):
            level = round(level, 6)
            # the row of the intervals' table comes later and says more than that of the volumes
            found[level] = Interval(level, lower, upper, _yes(row), int(_number(row.get("cases")) or 0), note)
    return dict(sorted(found.items()))


def _distribution(name: str, rows: list[dict]) -> tuple[Percentile, ...]:
    found = [
        Percentile(_number(r["percentile"]), _number(r["volume_ml"]), _number(r["calibrated_ml"]))
        for r in rows
        if r["structure"] == name
    ]
    return tuple(
        sorted((p for p in found if p.percentile is not None and p.volume_ml is not None), key=lambda p: p.percentile)
    )


def _quality(row: dict | None) -> Quality | None:
    if row is None:
        return None
    dice, lower, upper, entropy = (
        _number(row.get(key)) for key in ("expected_dice", "dice_lower", "dice_upper", "surface_entropy")
    )
    return Quality(dice, lower, upper, _yes(row), entropy)


def _flags(name: str, flags: tuple[Flag, ...], row: dict) -> tuple[Flag, ...]:
    """Flags of a structure, worst first; a light that no flag speaks of becomes one."""
    found = [f for f in flags if f.subject == name]
    severity = _LIGHTS.get(row.get("light", ""))
    if severity and not found:
        found.append(Flag(name, severity, row.get("flag") or row["light"], row.get("reason") or ""))
    return tuple(sorted(found, key=lambda f: _rank(f.severity)))


def decisions_of(rows: list[dict]) -> dict[str, Decision]:
    """Structure -> decision, from the rows of the review's table: a log, in which the last row of a structure
    counts.
    """
    return {row["structure"]: Decision(row["decision"], row["comment"], row["reviewer"], row["time"]) for row in rows}


def table_rows_of(node) -> list[dict[str, str | float]]:
    """The rows of a table node as texts and numbers; NaN stays NaN."""
    table = node.GetTable()
    columns = [table.GetColumn(i) for i in range(table.GetNumberOfColumns())]
    from ..mrml.tables import original

    values = [{c.GetName(): c.GetValue(r) for c in columns} for r in range(table.GetNumberOfRows())]
    return [{k: original(v) if isinstance(v, str) else v for k, v in row.items()} for row in values]


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def _number(value) -> float | None:
    """A finite number or None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _yes(row: dict) -> bool:
    return str(row.get("calibrated", "")).strip().lower() == "yes"
