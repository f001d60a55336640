"""What to look at: every structure of a run in one of three groups, with a reason in a few words, and the rule behind
the groups with its measured record.

A structure counts as probably fine only where the model's card has a record of how often such contours were off, and
the record bears it: with one more miss counted than was seen, as conformal risk control does (Angelopoulos et al.,
"Conformal risk control", 2022, Eq. 4: (n R + 1) / (n + 1) for a loss of 0 or 1), at most `RISK` of them are off.
"""

from __future__ import annotations

from dataclasses import dataclass

from rtuncertainty.uncertainty.flags import RISK

from ..runs.review_data import ReviewData, Structure
from ..widgets.text import _

LOOK, FINE, UNCOVERED = "look", "fine", "uncovered"
GROUPS = (LOOK, UNCOVERED, FINE)
"""In the order in which they are gone through."""
TITLES = {
    LOOK: _("Look at these"),
    FINE: _("Probably fine"),
    UNCOVERED: _("Not covered by the model"),
}
SERIOUS = ("serious", "warning")
LONGEST = 70
"""Characters of a reason; a longer one stands in the tool tip."""
_SHORTER = {
    "The two contours are ": "",
    "the two contours are ": "",
    "The surface is uncertain by": "uncertain by",
    "the surface is uncertain by": "uncertain by",
}
"""What a reason leaves out in a narrow column."""
_BY_FLAG = {
    "surface_entropy": _("the surface is certain (mean entropy up to {limit:.2f} nats)"),
    "expected_dice": _("the expected Dice is at least {limit:.2f}"),
    "interval_width": _("the interval spans at most {limit:.0%} of the volume"),
}
_BY_LIGHT = {
    "dice": _("the two contours agree (Dice of at least {limit:.2f})"),
    "msd_mm": _("the two contours agree (at most {limit:.1f} mm apart on average)"),
    "sd_mm": _("the sampled surfaces agree (SD of at most {limit:.1f} mm)"),
}


@dataclass(frozen=True)
class Record:
    """How a rule did on validation contours: it put `fine` of them under "probably fine", and `off` of these were
    `what`. `rule` says in words when it does so."""

    rule: str
    fine: int
    off: int
    what: str
    patients: int

    @property
    def risk(self) -> float:
        """The share that is off, with one more miss than was seen."""
        return (self.off + 1) / (self.fine + 1)

    @property
    def bears(self) -> bool:
        """Whether a structure may be called probably fine on this record."""
        return self.risk <= RISK


@dataclass(frozen=True)
class Verdict:
    """The group of a structure (one of `GROUPS`) and why, in a few words."""

    group: str
    reason: str


def record_of(card: dict) -> Record | None:
    """The weakest record among the rules of a card; None where it has none."""
    calibration = card.get("calibration") or {}
    found = []
    for name, entry in (calibration.get("flags") or {}).items():
        limit = entry.get("dice_limit")
        what = _("off (Dice below {limit:.2f})").format(limit=limit) if limit else _("bad")
        found.append((_BY_FLAG.get(name), entry, what))
    for name, entry in ((calibration.get("lights") or {}).get("amber") or {}).items():
        limit = entry.get("true_msd_mm")
        what = _("off by more than {limit:.1f} mm on average").format(limit=limit) if limit else _("bad")
        found.append((_BY_LIGHT.get(name), entry, what))
    records = [
        Record(
            rule.format(limit=entry["threshold"]),
            entry["cases"] - entry["caught"] - entry["false_alarms"],
            entry["missed"],
            what,
            entry.get("patients", 0),
        )
        for rule, entry, what in found
        if rule and {"threshold", "cases", "caught", "missed", "false_alarms"} <= set(entry)
    ]
    return max(records, key=lambda r: r.risk, default=None)


def verdict(structure: Structure, data: ReviewData) -> Verdict:
    """Where a structure of a run belongs."""
    serious = [f for f in structure.flags if f.severity in SERIOUS or f.flag == "not found"]
    if serious:
        return Verdict(LOOK, _short(serious[0]))
    missing = _not_covered(structure, data)
    if missing:
        return Verdict(UNCOVERED, missing)
    record = record_of(data.card)
    if record is None:
        return Verdict(LOOK, _("no record of such contours"))
    if not record.bears:
        return Verdict(LOOK, _("of {fine} contours like it, {off} were off").format(fine=record.fine, off=record.off))
    note = [_short(f) for f in structure.flags]
    return Verdict(FINE, "; ".join([_("nothing was flagged") if not note else note[0]]))


def groups(data: ReviewData) -> dict[str, list[Structure]]:
    """Group -> its structures, worst first; all of `GROUPS` are there."""
    found: dict[str, list[Structure]] = {group: [] for group in GROUPS}
    for structure in sorted(data.structures, key=lambda s: s.worst_first()):
        found[verdict(structure, data).group].append(structure)
    return found


def sentence(data: ReviewData) -> str:
    """The review in one sentence."""
    found = groups(data)
    look, fine, uncovered = (len(found[g]) for g in (LOOK, FINE, UNCOVERED))
    if not data.structures:
        return ""
    first = (
        _("Look at {look} of {all} structures").format(look=look, all=len(data.structures))
        if look
        else _("None of {all} structures stands out").format(all=len(data.structures))
    )
    return _("{first}; {fine} probably fine, {uncovered} not covered by the model.").format(
        first=first, fine=fine, uncovered=uncovered
    )


def rule_text(data: ReviewData) -> str:
    """The rule behind the groups, with its record."""
    if data.job == "own":
        return _("No model stands behind this segmentation: nothing can be called probably fine.")
    record = record_of(data.card)
    if record is None:
        return _(
            "Nothing is called probably fine here: the model's card has no record of how often contours without a "
            "flag were off."
        )
    patients = _(" of {count} patients").format(count=record.patients) if record.patients else ""
    return _(
        "Probably fine: {rule}, and nothing was flagged. Of {fine} validation contours{patients} that this rule put "
        "there, {off} were {what}; with one more miss counted that is {risk:.0%}, and {verdict} ({limit:.0%} at most)."
    ).format(
        rule=record.rule,
        fine=record.fine,
        patients=patients,
        off=record.off,
        what=record.what,
        risk=record.risk,
        verdict=_("enough") if record.bears else _("too much, so that it is not used"),
        limit=RISK,
    )


def _not_covered(structure: Structure, data: ReviewData) -> str:
    """Why the model's measurements say nothing about a structure; empty when they do."""
    if data.job == "own":
        return _("your own contour: no model was checked on it")
    calibrated = any(i.calibrated for i in structure.intervals.values())
    calibrated |= structure.quality is not None and structure.quality.calibrated
    if data.job == "propagate":
        paths = {s.get("name"): s.get("paths") or [] for s in data.summary.get("structures") or []}
        if "segmented" in paths.get(structure.name, []):
            return ""
        return "" if calibrated and not _two_paths(data.card) else _("moved only: the model does not draw it itself")
    known = {s.get("name") for s in (data.card.get("outputs") or {}).get("structures") or []}
    return "" if calibrated or structure.name in known else _("the model's card does not speak of it")


def _two_paths(card: dict) -> bool:
    """Whether the record is about how far two paths agree, which a structure with one path cannot show."""
    amber = ((card.get("calibration") or {}).get("lights") or {}).get("amber") or {}
    return bool({"dice", "msd_mm"} & set(amber))


def _short(flag) -> str:
    """A flag in a few words: its reason where that is short, else its name."""
    reason = flag.reason.rstrip(".").split("; ")[0]
    for words, shorter in _SHORTER.items():
        reason = reason.replace(words, shorter)
    return reason[:1].lower() + reason[1:] if reason and len(reason) <= LONGEST else flag.flag
