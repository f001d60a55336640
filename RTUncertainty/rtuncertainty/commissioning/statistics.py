"""What a few patients say, and how sure one may be of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy import stats

from ..uncertainty.volume_calibration import patients_needed

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A mean over patients and its confidence interval.

    Attributes:
        mean: NaN without a value.
        low, high: ends of the interval of `CONFIDENCE`; infinite for a single patient.
        n: patients.
        sd: between patients.
    """

    mean: float
    low: float
    high: float
    n: int
    sd: float = math.nan

    def excludes(self, value: float) -> bool:
        """Whether the interval does not hold a value."""
        return self.n > 0 and not self.low <= value <= self.high


def mean(values: Iterable[float | None], bounds: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """The mean of patients with Student's interval, which is honest for small n if they vary roughly normally.

    Args:
        values: one for each patient; None and NaN are left out.
        bounds: what a value can be at least and at most; the interval ends there.

    Returns:
        The estimate.
    """
    known = np.array([v for v in values if v is not None and math.isfinite(v)], float)
    if not known.size:
        return Estimate(math.nan, math.nan, math.nan, 0)
    middle = float(known.mean())
    if known.size == 1:
        return Estimate(middle, *bounds, 1)
    sd = float(known.std(ddof=1))
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, known.size - 1)) * sd / math.sqrt(known.size)
    return Estimate(middle, max(bounds[0], middle - half), min(bounds[1], middle + half), int(known.size), sd)


def share(hits: int, n: int) -> Estimate:
    """A proportion with the exact interval (Clopper & Pearson 1934).

    Args:
        hits: how many.
        n: of how many.

    Returns:
        The estimate.
    """
    if not n:
        return Estimate(math.nan, math.nan, math.nan, 0)
    found = stats.binomtest(hits, n).proportion_ci(CONFIDENCE, "exact")
    return Estimate(hits / n, float(found.low), float(found.high), n)


def long_run(patients: int, level: float = 0.9) -> tuple[float, float] | None:
    """In which range the coverage of a conformal interval lies in the long run, in 9 of 10 such commissionings: it is
    Beta(k, n + 1 − k) with k = ⌈level·(n + 1)⌉ (Vovk 2012, Proposition 2a).

    Args:
        patients: n, that it was calibrated on.
        level: nominal.

    Returns:
        (5th, 95th percentile); None where n is too small for the level.
    """
    if patients < patients_needed(level):
        return None
    k = math.ceil(level * (patients + 1) - 1e-9)
    low, high = stats.beta.ppf([0.05, 0.95], k, patients + 1 - k)
    return float(low), float(high)


def bearing(patients: int, level: float = 0.9) -> list[str]:
    """What so many patients can and cannot bear, in words.

    Args:
        patients: of the site.
        level: of the intervals that are wanted.

    Returns:
        Whole sentences.
    """
    n, out = patients, []
    if n < 2:
        return [
            "One patient shows that the way works, and nothing else: no interval and no limit can be learnt from it."
        ]
    needed = patients_needed(level)
    if n < needed:
        out.append(
            f"{n} patients bear intervals of up to {math.floor(100 * n / (n + 1))} %; an interval of {100 * level:.0f} "
            f"% takes at least {needed}."
        )
    else:
        low, high = long_run(n, level) or (math.nan, math.nan)
        out.append(
            f"{n} patients bear intervals of {100 * level:.0f} %. Which patients one happens to have decides how "
            f"often such intervals hold in the long run: in 9 of 10 such commissionings {100 * low:.0f} to "
            f"{100 * high:.0f} "
            "%."
        )
    worst = 1 - 0.05 ** (1 / n)
    out.append(
        f"A failure that none of {n} patients showed may still strike up to {100 * worst:.0f} % of patients (95 % "
        "confidence)."
    )
    needs = patients_needed(0.95)
    if n < needs:
        out.append(f"Intervals of 95 % take {needs} patients.")
    return out
