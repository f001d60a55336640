"""What the numbers of a commissioning mean, in plain words: where the site differs from the card, and what to do.

The rules are fixed and stand in the document beside what they led to (`RULES`): a reader may disagree with a limit, and
sees then what that changes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from scipy import stats

from ..bundles.input_quality import LEAST_SD, MEASURES, evened
from ..uncertainty.volume_calibration import patients_needed
from . import statistics
from .evidence import Evidence
from .recalibrate import LEVEL, Recalibrated
from .statistics import Estimate

# patients of which a recommendation can be made at all
ENOUGH = patients_needed(LEVEL) + 1
# an error beyond so many times the card's is another model than was promised
TIMES_CARD = 1.5
# contours that clinics keep after a look: mean surface distance, mm, or Dice
KEPT_MM, KEPT_DICE = 3.0, 0.8
# a mean error that doses see: share of the HU + 1000 (about 1 % of the density) in soft tissue, and in bone
BIAS_HU = {"body": 10.0, "soft tissue": 10.0, "bone": 40.0}
# an interval wider than this share of a volume says that the volume is hardly known
WIDE = 0.5
# the share of patients unlike the training data from which it is the site and not the patient
UNLIKE = 1 / 3
# or a mean that is off by so many of their SDs, with a p below
SHIFT, SIGNIFICANT = 1.0, 0.01
# by how much a coverage may miss its level
MISS = 0.05

RULES = (
    f"A recommendation takes {ENOUGH} patients; with fewer the document says what was seen and recommends nothing.",
    f"Synthetic CT: use with review if the mean absolute errors in body and bone are at most {TIMES_CARD:g} times "
    f"those "
    f"of the card and the recalibrated {100 * LEVEL:.0f} % intervals hold {100 * (LEVEL - MISS):.0f} % of the voxels "
    f"or more.",
    f"A structure: use with review if its mean surface distance is at most {KEPT_MM:g} mm or its Dice at least "
    f"{KEPT_DICE:g} on average. Its volume counts where the recalibrated interval spans at most {100 * WIDE:.0f} % of "
    f"it.",
    "No rule recommends use without review.",
)


@dataclass
class Advice:
    """What to do.

    Attributes:
        verdict: "use with review", "only these", "not", or "too few patients".
        sentence: the recommendation in plain words.
        findings: (severity, text) of what differs from the card or from what should be, worst first.
        structures: structure → (whether to use it with review, why).
        synct: the same of the synthetic CT; None without one.
    """

    verdict: str = ""
    sentence: str = ""
    findings: list[tuple[str, str]] = field(default_factory=list)
    structures: dict[str, tuple[bool, str]] = field(default_factory=dict)
    synct: tuple[bool, str] | None = None


def accuracy(found: list[Evidence]) -> dict[str, dict[str, Estimate]]:
    """Region or structure → measure → its mean over patients.

    Args:
        found: of each patient.

    Returns:
        MAE, ME in HU; dice; msd_mm, hd95_mm; volume_error as a share.
    """
    out: dict[str, dict[str, Estimate]] = {}
    for name in dict.fromkeys(n for e in found for n in e.regions):
        own = [e.regions[name] for e in found if name in e.regions]
        out[name] = {k: statistics.mean(r.get(k) for r in own) for k in ("MAE", "ME", "within_90", "z_sd")}
    for name in dict.fromkeys(n for e in found for n in e.structures):
        own = [e.structures[name] for e in found if name in e.structures]
        bounds = {"dice": (0.0, 1.0), "msd_mm": (0.0, float("inf")), "hd95_mm": (0.0, float("inf"))}
        out[f"structure {name}"] = {
            k: statistics.mean((r.get(k) for r in own), bounds.get(k, (-float("inf"), float("inf"))))
            for k in ("dice", "msd_mm", "hd95_mm", "volume_error")
        }
    return out


def of_card(card: dict, region: str) -> float | None:
    """The mean absolute error (HU) that a card states for a region; None where it states none."""
    for title, value in ((card.get("accuracy") or {}).get("table") or {}).items():
        if re.fullmatch(rf"MAE,? {region} \(HU\)", title) and isinstance(value, (int, float)):
            return float(value)
    return None


def give(found: list[Evidence], fitted: Recalibrated, card: dict) -> Advice:
    """The findings and the recommendation.

    Args:
        found: of each patient.
        fitted: what they make of the model.
        card: of the model.

    Returns:
        The advice.
    """
    out, numbers, n = Advice(), accuracy(found), len(found)
    _coverage(out, fitted)
    _errors(out, numbers, card)
    _likeness(out, found, card)
    _synct(out, numbers, fitted, card)
    _structures(out, numbers, fitted)
    order = ("serious", "warning", "info", "good")
    out.findings.sort(key=lambda f: order.index(f[0]))
    out.verdict, out.sentence = _verdict(out, n)
    return out


def _percent(e: Estimate) -> str:
    ends = f" (95 % confidence {100 * e.low:.0f} to {100 * e.high:.0f} %)" if e.n > 1 else ""
    return f"{100 * e.mean:.0f} %{ends}"


def _coverage(out: Advice, fitted: Recalibrated) -> None:
    whole = {c.what for c in fitted.coverage if not c.what.startswith("volumes of ") or "all structures" in c.what}
    for c in fitted.coverage:
        if not c.before.n:
            continue
        what = f"The card's {100 * LEVEL:.0f} % intervals of {c.what}"
        if c.before.excludes(LEVEL):
            word = "too narrow" if c.before.mean < LEVEL else "wider than they need be"
            after = f" Recalibrated on this site's patients they hold {_percent(c.after)}." if c.after.n else ""
            severity = "serious" if c.before.mean < LEVEL - 0.1 else "warning" if c.before.mean < LEVEL else "info"
            out.findings.append((severity, f"{what} hold {_percent(c.before)} here: they are {word}.{after}"))
        elif c.what in whole or len(fitted.coverage) == 1:
            # of a single structure a few patients say too little to call it good
            out.findings.append(("good", f"{what} hold here as they should: {_percent(c.before)}."))
        if c.unit.startswith("of the") and c.what in whole and c.width_before > 2 * WIDE:
            out.findings.append(
                ("warning", f"{what} span {100 * c.width_before:.0f} % of the volume on average: they say little.")
            )


def _errors(out: Advice, numbers: dict[str, dict[str, Estimate]], card: dict) -> None:
    for region, limit in BIAS_HU.items():
        bias = numbers.get(region, {}).get("ME")
        if bias is None or not bias.n:
            continue
        if bias.n > 1 and bias.excludes(0) and abs(bias.mean) > limit:
            out.findings.append(
                (
                    "warning",
                    f"The synthetic CT is too {'high' if bias.mean > 0 else 'low'} in the region {region}, by "
                    f"{abs(bias.mean):.0f} HU on average (95 % confidence {bias.low:+.0f} to {bias.high:+.0f} HU): no "
                    "error bar repairs a bias.",
                )
            )
    for region in ("body", "bone"):
        own, stated = numbers.get(region, {}).get("MAE"), of_card(card, region)
        if own is None or stated is None or not own.n:
            continue
        if own.excludes(stated) and own.n > 1:
            worse = own.mean > stated
            severity = "serious" if own.mean > TIMES_CARD * stated else "warning" if worse else "good"
            out.findings.append(
                (
                    severity,
                    f"The mean absolute error in the region {region} is {own.mean:.0f} HU here ({own.low:.0f} to "
                    f"{own.high:.0f}), {'more' if worse else 'less'} than the {stated:.0f} HU of the card.",
                )
            )


def _likeness(out: Advice, found: list[Evidence], card: dict) -> None:
    """Where the images differ from the training images: by their mean (Welch's test), or many of them one by one."""
    known, stored = (
        [e.likeness for e in found if e.likeness.get("deviations")],
        (card.get("input") or {}).get("statistics") or {},
    )
    far = False
    for name, usual in (stored.get("measures") or {}).items():
        values = [float(evened(name, one["measures"][name])) for one in known if name in one.get("measures", {})]
        if not values:
            continue
        beyond = sum(one["deviations"].get(name, 0.0) > one["limit"] for one in known)
        sd, own = max(usual["sd"], LEAST_SD), statistics.mean(values)
        off = (own.mean - usual["mean"]) / sd
        differs = False
        if own.n > 2 and abs(off) > SHIFT:
            found_p = stats.ttest_ind_from_stats(
                own.mean, max(own.sd, 1e-6), own.n, usual["mean"], sd, stored["cases"], equal_var=False
            ).pvalue
            differs = bool(found_p < SIGNIFICANT)
        if not differs and beyond < max(1, UNLIKE * len(known)):
            continue
        far = True
        harmful = (off > 0) == MEASURES[name][0] or beyond > 0
        out.findings.append(
            (
                "warning" if harmful else "info",
                f"{LIKENESS.get(name, name)} is another one than in the training images: {abs(off):.1f} SDs "
                f"{'more' if off > 0 else 'less'} on average, {beyond} of {len(known)} images beyond the limit. It is "
                f"the "
                "site's scanner or protocol, not a patient.",
            )
        )
    if known and not far:
        out.findings.append(
            ("good", f"The images are as those that the model was trained on ({len(known)} looked at).")
        )


LIKENESS = {
    "noise": "The noise of the images",
    "sharpness": "The sharpness in the slices",
    "sharpness_z": "The sharpness from slice to slice",
    "histogram": "The contrast (distance of the histogram of intensities)",
}


def _synct(out: Advice, numbers: dict, fitted: Recalibrated, card: dict) -> None:
    own = numbers.get("body", {}).get("MAE")
    if own is None or not own.n:
        return
    covered = next((c.after for c in fitted.coverage if c.what.startswith("voxels")), None)
    reasons = []
    for region in ("body", "bone"):
        error, stated = numbers.get(region, {}).get("MAE"), of_card(card, region)
        if error is not None and error.n and stated is not None and error.mean > TIMES_CARD * stated:
            reasons.append(f"its error in the region {region} is {error.mean / stated:.1f} times that of the card")
    if covered is None or not covered.n:
        reasons.append("its error bars could not be recalibrated")
    elif covered.mean < LEVEL - MISS:
        reasons.append(f"its recalibrated intervals hold {100 * covered.mean:.0f} % only")
    out.synct = (not reasons, " and ".join(reasons) or "its errors are known and its error bars hold")


def _structures(out: Advice, numbers: dict, fitted: Recalibrated) -> None:
    widths = {c.what.removeprefix("volumes of "): c.width_after for c in fitted.coverage}
    for title, measures in numbers.items():
        if not title.startswith("structure ") or not measures["dice"].n:
            continue
        name = title.removeprefix("structure ")
        dice, msd = measures["dice"].mean, measures["msd_mm"].mean
        kept = msd <= KEPT_MM or dice >= KEPT_DICE
        width = widths.get(name)
        volume = (
            "; its volume has no interval here"
            if width is None or width != width
            else f"; the interval of its volume spans {100 * width:.0f} %, so that the volume is hardly known"
            if width > WIDE
            else f"; the interval of its volume spans {100 * width:.0f} %"
        )
        out.structures[name] = (kept, f"Dice {dice:.2f}, surface distance {msd:.1f} mm{volume}")


def _verdict(out: Advice, n: int) -> tuple[str, str]:
    good = [name for name, (kept, _) in out.structures.items() if kept]
    bad = [name for name, (kept, _) in out.structures.items() if not kept]
    seen = f"What {n} patient{'s' * (n != 1)} showed: "
    if n < ENOUGH:
        return "too few patients", (
            f"{n} patients are too few for a recommendation ({ENOUGH} are needed). The model may be tried with full "
            "review of every result; do not rely on its intervals, limits or contours yet."
        )
    synct_good, synct_bad = out.synct is not None and out.synct[0], out.synct is not None and not out.synct[0]
    if not synct_good and not good:
        why = f": {out.synct[1]}" if out.synct else ""
        return "not", f"{seen}the model is not fit for use at this site{why}."
    if synct_good and not bad or not synct_bad and not bad:
        return "use with review", (
            f"{seen}the model can be used at this site, every result with review, with the site's intervals and limits."
        )
    use = ["the synthetic CT"] * synct_good + good
    leave = ["the synthetic CT"] * synct_bad + bad
    return "only these", (
        f"{seen}use only {_listed(use)}, with review and with the site's intervals and limits; do not use "
        f"{_listed(leave)}."
    )


def _listed(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
