"""Gamma indices by pymedphys, for the tests to compare with: writes data/gamma_pymedphys.csv.

Needs pymedphys and numba, which nothing else here does, in any environment (made with pymedphys 0.41.0, in a minute):
`python -m venv v; v/bin/pip install pymedphys numpy scipy numba; v/bin/python Testing/backend/make_gamma_reference.py`.
With `--time PAIR` it prints the processor seconds of that pair instead. The doses are analytic, so that nobody's data
are needed to do it again.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TABLE = Path(__file__).resolve().parent / "data" / "gamma_pymedphys.csv"
COLUMNS = (
    "pair",
    "dose_percent",
    "distance_mm",
    "local",
    "cutoff",
    "max_gamma",
    "interp_fraction",
    "evaluated",
    "pass_rate",
    "mean",
    "p50",
    "p95",
)
erf = np.vectorize(math.erf)


@dataclass
class Pair:
    """Two doses [z, y, x] in Gy, each with its axes (z, y, x; mm), and the criterion they are compared by."""

    axes: tuple
    dose: np.ndarray
    axes_evaluated: tuple
    evaluated: np.ndarray
    dose_percent: float
    distance_mm: float
    local: bool = False
    cutoff: float = 10.0
    max_gamma: float = 2.0


def axes(size, spacing, origin, finer):
    """Three axes in mm."""
    return tuple(o + s / finer * np.arange(n * finer) for n, s, o in zip(size, spacing, origin))


def plan(where, shift=(0.0, 0.0, 0.0), sigma=3.5, ripple=0.0):
    """A target of 50 Gy with three arms of lower dose, edges of error functions; smooth, and steep at its edges (up
    to 5 Gy a mm).
    """
    z, y, x = (a - s for a, s in zip(where, shift))

    def edge(t, low, high):
        return 0.5 * (erf((t - low) / (sigma * 2**0.5)) - erf((t - high) / (sigma * 2**0.5)))

    def box(low, high):
        a, b, c = (edge(t, p, q) for t, p, q in zip((z, y, x), low, high))
        return a[:, None, None] * b[None, :, None] * c[None, None, :]

    dose = (
        30 * box((-18, -16, -14), (18, 16, 20))
        + 20 * box((-14, -80, -14), (14, 12, 18)) * np.exp(0.004 * y)[None, :, None]
    )
    dose += 9 * box((-16, -10, -90), (16, 14, 90)) + 6 * box((-60, -14, -12), (60, 14, 16))
    if ripple:
        dose = dose * (
            1 + ripple * np.sin(z / 7)[:, None, None] * np.cos(y / 9)[None, :, None] * np.sin(x / 11 + 1)[None, None, :]
        )
    return dose.astype(np.float32)


def pairs(finer: int = 1) -> dict[str, Pair]:
    """The pairs of the table by name; `finer`: with so many times as many voxels along every edge."""
    even = axes((32, 36, 40), (2.5, 2.5, 2.5), (-40, -45, -50), finer)
    flat = axes((24, 40, 44), (3.0, 2.0, 2.0), (-36, -40, -44), finer)
    other = axes((40, 36, 40), (2.0, 2.5, 2.5), (-40.5, -44.1, -49.3), finer)
    return {
        "shifted by 2.2 mm": Pair(even, plan(even), even, plan(even, (1.0, -1.2, 1.5)), 2, 2),
        "blurred and 1.5 % more, local": Pair(
            even, plan(even), even, 1.015 * plan(even, sigma=4.3), 2, 2, local=True, cutoff=20
        ),
        "rippled, on another grid": Pair(flat, plan(flat), other, plan(other, (0.4, 0.3, -0.5), ripple=0.06), 3, 2),
    }


def pymedphys_gamma(pair: Pair, interp_fraction: int) -> np.ndarray:
    """γ [z, y, x] by pymedphys."""
    import pymedphys

    return pymedphys.gamma(
        pair.axes,
        pair.dose,
        pair.axes_evaluated,
        pair.evaluated,
        pair.dose_percent,
        pair.distance_mm,
        lower_percent_dose_cutoff=pair.cutoff,
        local_gamma=pair.local,
        max_gamma=pair.max_gamma,
        interp_fraction=interp_fraction,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--time", metavar="PAIR", help="print the processor seconds of this pair, at the usual interp_fraction of 10"
    )
    parser.add_argument(
        "--finer", type=int, default=1, help="with so many times as many voxels along every edge (with --time)"
    )
    args = parser.parse_args()
    if args.time:
        pair = pairs(args.finer)[args.time]
        pymedphys_gamma(
            Pair(pair.axes, pair.dose, pair.axes_evaluated, pair.evaluated, 10, 5, max_gamma=1.01), 2
        )  # numba compiles once
        started = time.process_time()
        pymedphys_gamma(pair, 10)
        print(time.process_time() - started)
        return
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, p in pairs().items():
            for fraction in (10, 20, 40):
                values = pymedphys_gamma(p, fraction)
                values = values[np.isfinite(values)]
                writer.writerow(
                    [
                        name,
                        p.dose_percent,
                        p.distance_mm,
                        "yes" if p.local else "no",
                        p.cutoff,
                        p.max_gamma,
                        fraction,
                        len(values),
                        f"{100 * (values <= 1).mean():.4f}",
                        f"{values.mean():.5f}",
                        *(f"{np.percentile(values, q):.5f}" for q in (50, 95)),
                    ]
                )


if __name__ == "__main__":
    main()
