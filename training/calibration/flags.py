"""Limits of flags and traffic lights, validated on patients: what must be exceeded for a bad contour to be found.

A limit catches the part `CATCH` of the bad contours, and leaves so few of them among what it lets pass that RT Review
may call that probably fine: with one more bad one counted than was seen, as conformal risk control does (Angelopoulos
2022, Eq. 4), their share is `rtuncertainty.uncertainty.flags.RISK` at most.

A limit goes into the card only if, on patients whose rows did not choose it, it tells bad from good better than chance
would (Fisher's exact test, one-sided). Rows of one patient stay together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from rtuncertainty.propagation.agreement import LIMITS
from rtuncertainty.uncertainty.flags import RISK

from .quality import BAD

# the part of the bad contours that a limit must catch where it is chosen
CATCH = 0.9
SIGNIFICANT = 0.05
# fewer bad contours than this choose no limit
LEAST_BAD = 3
# is a high value bad?
HIGH_IS_BAD = {
    "interval_width": True,
    "expected_dice": False,
    "surface_entropy": True,
    "msd_mm": True,
    "dice": False,
    "sd_mm": True,
}
# a light is amber where clinics would correct, red where they would redraw: true mean surface distance, mm
LIGHT_MM = {"amber": LIMITS["amber"]["msd_mm"], "red": LIMITS["red"]["msd_mm"]}


@dataclass(frozen=True)
class Validated:
    """A limit and what it does on patients who were left out: bad contours caught and missed, good ones flagged
    (false alarms).
    """

    threshold: float
    caught: int
    missed: int
    false_alarms: int
    cases: int
    patients: int
    p: float  # of Fisher's exact test on these counts

    @property
    def validated(self) -> bool:
        """Whether it tells bad from good better than chance."""
        return self.p < SIGNIFICANT

    def as_card(self, **more) -> dict:
        """An entry of the card's `calibration.flags`."""
        return {
            "threshold": float(f"{self.threshold:.4g}"),
            "caught": self.caught,
            "missed": self.missed,
            "false_alarms": self.false_alarms,
            "cases": self.cases,
            "patients": self.patients,
            **more,
        }


def choose(score: np.ndarray, bad: np.ndarray, catch: float = CATCH, risk: float = RISK) -> float:
    """The highest limit that at least the part `catch` of the bad contours exceeds, and up to which bad ones, counted
    with one more, are at most the part `risk` of all: halfway to the next lower score.

    High scores are bad. Infinite (nothing is flagged) without a bad contour. Where no limit bears `risk`, `catch` alone
    decides.
    """
    if not bad.any():
        return math.inf
    needed = math.ceil(catch * bad.sum() - 1e-9)
    last = np.sort(score[bad])[::-1][needed - 1]
    values, counts = np.unique(score, return_counts=True)
    passed = np.cumsum(counts)
    off = np.searchsorted(np.sort(score[bad]), values, side="right")
    bears = (off + 1) / (passed + 1) <= risk
    lowest_flagged = values > (values[bears].max() if bears.any() else math.inf)
    if lowest_flagged.any():
        last = min(last, values[lowest_flagged].min())
    below = score[score < last]
    return float((last + below.max()) / 2) if below.size else float(np.nextafter(last, -math.inf))


def earn(score, bad, patients, high_is_bad: bool = True, catch: float = CATCH) -> Validated | None:
    """The limit chosen on all contours, with counts of a cross-validation that leaves one patient out at a time.

    A flag is raised beyond the limit: above it, or below it where a low score is bad. None for fewer than `LEAST_BAD`
    bad contours, no good one, or a single patient. Contours without a score (NaN) count as not flagged.
    """
    score, bad, patients = np.asarray(score, float), np.asarray(bad, bool), np.asarray(patients)
    sign = 1.0 if high_is_bad else -1.0
    if bad.sum() < LEAST_BAD or bad.all() or len(set(patients.tolist())) < 2:
        return None
    worse = np.where(np.isfinite(score), sign * score, -math.inf)
    known = np.isfinite(worse)
    flagged = np.zeros(len(bad), bool)
    for name in dict.fromkeys(patients.tolist()):
        mine = patients == name
        flagged[mine] = worse[mine] > choose(worse[~mine & known], bad[~mine & known], catch)
    threshold = choose(worse[known], bad[known], catch)
    if not math.isfinite(threshold):
        return None
    return tested(sign * threshold, flagged, bad, patients)


def tested(threshold: float, flagged, bad, patients) -> Validated | None:
    """What a limit does, from which contours it flagged and which are bad. None without a bad contour, or without a
    good one.
    """
    flagged, bad = np.asarray(flagged, bool), np.asarray(bad, bool)
    if not bad.any() or bad.all():
        return None
    caught, alarms = int((flagged & bad).sum()), int((flagged & ~bad).sum())
    missed, quiet = int(bad.sum()) - caught, int((~bad).sum()) - alarms
    p = float(stats.fisher_exact([[caught, missed], [alarms, quiet]], "greater").pvalue)
    return Validated(threshold, caught, missed, alarms, len(bad), len(set(np.asarray(patients).tolist())), p)


def flags(
    scores: dict[str, np.ndarray], dice, patients, limit: float = BAD, catch: float = CATCH
) -> dict[str, Validated]:
    """{flag: `Validated`} of every score whose contours are enough, whether validated or not. `scores`: by the names of
    `rtuncertainty.uncertainty.flags.MEASURES`.
    """
    dice, found = np.asarray(dice, float), {}
    known = np.isfinite(dice)
    for name, score in scores.items():
        one = earn(
            np.asarray(score, float)[known], dice[known] < limit, np.asarray(patients)[known], HIGH_IS_BAD[name], catch
        )
        if one is not None:
            found[name] = one
    return found


def flags_for_card(found: dict[str, Validated], limit: float = BAD) -> dict | None:
    """The card's `calibration.flags`: of the limits that were validated the one with the fewest mistakes, since a flag
    comes on where any limit is exceeded and the false alarms of several would add up; None without any.
    """
    validated = {name: e for name, e in found.items() if e.validated}
    if not validated:
        return None
    name = min(validated, key=lambda n: validated[n].missed + validated[n].false_alarms)
    return {name: validated[name].as_card(dice_limit=limit)}


def agreement_rows(found: dict, method: str | None = None) -> list[dict]:
    """Rows for `lights` of what `propagation_eval` wrote: patient, msd_mm and dice (of the two paths), sd_mm,
    true_msd_mm.

    `method`: whose contours, by default the first one's. Without "agreements" (older files, one path) only the spread
    is known.
    """
    rows = found.get("agreements") or []
    rows = [r for r in rows if r["method"] == (method or rows[0]["method"])]
    if not rows:
        rows = [
            {"pair": r["pair"], "sd_mm": r["sd_mm"], "true_msd_mm": r["msd_mm"]}
            for r in found["spreads"]
            if r["path"] == "propagated"
        ]
    return [
        {**r, "patient": r["pair"].rsplit("_day", 1)[0]}
        for r in rows
        if r["true_msd_mm"] is not None and math.isfinite(r["true_msd_mm"])
    ]


def lights(rows: list[dict], catch: float = CATCH) -> dict[str, dict[str, Validated]]:
    """{"amber", "red": {measure: `Validated`}} of the measures of `agreement.LIMITS`, for contours that are off by
    `LIGHT_MM`.

    A red limit is never laxer than the amber one of its measure.
    """
    patients, true = [r["patient"] for r in rows], np.array([r["true_msd_mm"] for r in rows], float)
    found: dict[str, dict[str, Validated]] = {level: {} for level in LIGHT_MM}
    for level, limit in LIGHT_MM.items():
        for name in LIMITS[level]:
            one = earn(
                [math.nan if r.get(name) is None else r[name] for r in rows],
                true > limit,
                patients,
                HIGH_IS_BAD[name],
                catch,
            )
            if one is not None:
                found[level][name] = one
    for name in set(found["amber"]) & set(found["red"]):
        amber, red = found["amber"][name], found["red"][name]
        if (amber.threshold > red.threshold) == HIGH_IS_BAD[name] and amber.threshold != red.threshold:
            del found["red"][name]
    return found


def lights_for_card(found: dict[str, dict[str, Validated]]) -> dict | None:
    """The card's `calibration.lights`: of the measures with a validated amber limit the one with the fewest
    mistakes; None without any.

    One only: a light comes on where any limit is exceeded, so the false alarms of several would add up. The other
    measures keep their fixed limits. A red limit stands only beside an amber one, so that no fixed amber limit is
    stricter than an validated red one.
    """
    validated = {name: e for name, e in found["amber"].items() if e.validated}
    if not validated:
        return None
    name = min(
        validated, key=lambda n: (validated[n].missed + validated[n].false_alarms, list(LIMITS["amber"]).index(n))
    )
    red = found["red"].get(name)
    return {
        "amber": {name: validated[name].as_card(true_msd_mm=LIGHT_MM["amber"])},
        **({"red": {name: red.as_card(true_msd_mm=LIGHT_MM["red"])}} if red is not None and red.validated else {}),
    }
