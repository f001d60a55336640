"""Checks of the options that every job has."""

from __future__ import annotations

from .errors import InputError


def require_sampling(samples, seed: int) -> None:
    """Raises unless a run can be sampled so.

    Args:
        samples: a whole number from 1, which is a single pass without dropout.
        seed: a whole number from 0 to 2³¹ − 1.

    Raises:
        InputError: either is not.
    """
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise InputError(
            f"samples is {samples}; give 2 or more to tell an uncertainty, or 1 for a single pass without dropout."
        )
    if not 0 <= seed < 2**31:
        raise InputError(f"seed is {seed}; give a whole number from 0 to {2**31 - 1}.")
