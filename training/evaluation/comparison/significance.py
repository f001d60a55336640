"""Paired tests between networks: Wilcoxon's signed-rank test over patients, corrected by Holm's method."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from .store import Network

LEVEL = 0.05
LOWER_IS_BETTER = ("MAE", "AUSE", "ECE", "|z")
HIGHER_IS_BETTER = ("Dice", "fuzzy Dice", "PSNR", "SSIM", "MS-SSIM", "Spearman")


@dataclass
class Test:
    """A network against another in one metric over the patients that have it in both.

    Attributes:
        metric: its name.
        a, b: the networks.
        n: patients.
        different: patients in whom the two differ; the test stands on these.
        median: of a − b.
        p: of the test.
        p_holm: corrected.
        family: tests that were corrected together.
    """

    metric: str
    a: str
    b: str
    n: int
    different: int
    median: float
    p: float
    p_holm: float = math.nan
    family: int = 0

    @property
    def smallest(self) -> float:
        """The smallest corrected p that any outcome could have with so many patients and tests: m·2 / 2ⁿ."""
        return min(1.0, self.family * 2.0 ** (1 - self.n)) if self.n else 1.0

    @property
    def better(self) -> str:
        """The network with the better median, or "" when neither is."""
        if self.median == 0 or not math.isfinite(self.median):
            return ""
        return self.a if (self.median < 0) == self.metric.startswith(LOWER_IS_BETTER) else self.b


def signed_rank(a, b) -> tuple[int, float]:
    """The two-sided Wilcoxon signed-rank test of paired values.

    scipy's p: exact up to 50 pairs without ties and up to 13 with ties.

    Args:
        a: [n].
        b: [n].

    Returns:
        (pairs that differ, p); p = 1 where none does.
    """
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    # rows are kept to six digits; what differs beyond them is a tie
    difference = np.round(difference[difference != 0], 9)
    if difference.size == 0:
        return 0, 1.0
    return difference.size, float(stats.wilcoxon(difference).pvalue)


def holm(p) -> list[float]:
    """Holm's step-down correction (Holm 1979).

    Args:
        p: several p-values.

    Returns:
        Corrected, in their order.
    """
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(np.asarray(p, np.float64)[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1.0, steps)
    return corrected.tolist()


def metrics_of(networks: list[Network]) -> dict[str, dict[str, list[float]]]:
    """The metrics that can be better or worse. The z-scores' mean and SD come as |z mean| and |z sd − 1|.

    Args:
        networks: over the same patients.

    Returns:
        name → network → values over patients.
    """
    found = {}
    for column in networks[0].rows[0]:
        if column.startswith((*LOWER_IS_BETTER, *HIGHER_IS_BETTER)) and column != "AUSE random":
            found[column] = {n.name: n.column(column) for n in networks}
    for name, column, ideal in (("|z mean|", "z mean", 0.0), ("|z sd − 1|", "z sd", 1.0)):
        found[name] = {n.name: [abs(v - ideal) for v in n.column(column)] for n in networks}
    return found


def run(networks: list[Network], reference: str | None = None) -> list[Test]:
    """Tests in every metric. Holm's correction takes the tests of one metric together.

    Args:
        networks: over the same patients.
        reference: what each network and baseline is tested against; None: every pair of networks without baselines.

    Returns:
        The tests; none of a metric that fewer than two networks have.
    """
    names = [n.name for n in networks if reference or not n.baseline]
    pairs = [(n, reference) for n in names if n != reference] if reference else list(combinations(names, 2))
    out = []
    for metric, values in metrics_of(networks).items():
        tests = [t for t in (_test(metric, a, b, values) for a, b in pairs) if t]
        for test, p in zip(tests, holm([t.p for t in tests])):
            test.p_holm, test.family = p, len(tests)
        out += tests
    return out


def _test(metric, a, b, values):
    both = [(x, y) for x, y in zip(values[a], values[b]) if math.isfinite(x) and math.isfinite(y)]
    if not both:
        return None
    x, y = np.transpose(both)
    different, p = signed_rank(x, y)
    return Test(metric, a, b, len(both), different, float(np.median(x - y)), p)
