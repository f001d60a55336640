"""Quantiles of scores that promise something of a patient who has not been seen."""

from __future__ import annotations

import math

import numpy as np


def weights(patients) -> np.ndarray:
    """Of each row, 1 over (number of patients · rows of its patient): every patient weighs the same."""
    names, index, counts = np.unique(np.asarray(patients), return_inverse=True, return_counts=True)
    return 1.0 / (len(names) * counts[index])


def quantile(scores, patients, level: float) -> float:
    """The smallest score below which a new patient's score falls with probability `level` or more; infinite for too few
    patients.

    One row a patient: the ⌈(n + 1)·level⌉-th smallest (Vovk 2005; Romano 2019, Eq. 8). Several rows of a patient are
    alike; each then weighs 1 / ((n + 1)·rows of its patient), and 1 / (n + 1) is kept for the new patient (hierarchical
    conformal prediction, Lee, Barber & Willett 2023).
    """
    scores, n = np.asarray(scores, float), len(set(patients))
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(weights(patients)[order]) * n / (n + 1)
    at = int(np.searchsorted(reached, level - 1e-9))
    return float(scores[order][at]) if at < scores.size else math.inf
