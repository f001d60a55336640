"""Limits of flags, validated on patients: what must be exceeded for a bad contour to be found.

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

from ..flags import RISK
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


def controlled(score: np.ndarray, bad: np.ndarray, patients: np.ndarray, catch: float = CATCH) -> float:
    """The highest limit that a new patient's bad contours exceed with a probability of at least `catch` (conformal risk
    control, Angelopoulos et al. 2022, Theorem 1), as `choose` counts scores.

    The loss of a patient is the share of his bad contours that are missed, at most 1; with n patients who have some the
    limit is the highest for which (sum of the losses + 1) / (n + 1) ≤ 1 − `catch`. −Infinite (all is flagged) where n
    is too small for it: `most_catch`.
    """
    names = np.unique(patients[bad])
    for s in np.sort(np.unique(score[bad]))[::-1]:
        missed = sum(float((score[bad & (patients == name)] < s).mean()) for name in names)
        if (missed + 1) / (len(names) + 1) <= 1 - catch + 1e-9:
            below = score[score < s]
            return float((s + below.max()) / 2) if below.size else float(np.nextafter(s, -math.inf))
    return -math.inf


def most_catch(patients: int) -> float:
    """The highest catch that `controlled` can promise with so many patients who have a bad contour."""
    return patients / (patients + 1)


def earn(
    score, bad, patients, high_is_bad: bool = True, catch: float = CATCH, promised: bool = False
) -> Validated | None:
    """The limit chosen on all contours, with counts of a cross-validation that leaves one patient out at a time.

    promised: chosen by `controlled`, for `catch` or the most that the patients allow; else by `choose`.

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

    def chosen(of) -> float:
        if not promised or not bad[of].any():
            return choose(worse[of], bad[of], catch)
        return controlled(
            worse[of], bad[of], patients[of], min(catch, most_catch(len(set(patients[of & bad].tolist()))))
        )

    for name in dict.fromkeys(patients.tolist()):
        mine = patients == name
        flagged[mine] = worse[mine] > chosen(~mine & known)
    threshold = chosen(known)
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
    scores: dict[str, np.ndarray],
    dice,
    patients,
    limit: float = BAD,
    catch: float = CATCH,
    promised: bool = False,
) -> dict[str, Validated]:
    """{flag: `Validated`} of every score whose contours are enough, whether validated or not. `scores`: by the names of
    `rtuncertainty.uncertainty.flags.MEASURES`; `promised`: see `earn`.
    """
    dice, found = np.asarray(dice, float), {}
    known = np.isfinite(dice)
    for name, score in scores.items():
        one = earn(
            np.asarray(score, float)[known],
            dice[known] < limit,
            np.asarray(patients)[known],
            HIGH_IS_BAD[name],
            catch,
            promised,
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
