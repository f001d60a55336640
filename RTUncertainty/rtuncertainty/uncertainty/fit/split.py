"""Which patients train and which validate: decided by the names alone, never by a result."""

from __future__ import annotations

import hashlib


def split(names: list[str], folds: int = 5, fold: int = 0) -> tuple[list[str], list[str]]:
    """Who trains and who validates. The names, in order of their SHA-256, are dealt to the folds in turn.

    Args:
        names: of the patients.
        folds: how many.
        fold: which validates, from 0.

    Returns:
        (training, validation) names.
    """
    order = sorted(names, key=lambda n: hashlib.sha256(n.encode()).hexdigest())
    validation = sorted(order[fold::folds])
    return sorted(set(names) - set(validation)), validation
