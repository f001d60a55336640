"""One PNG a question for all networks: bone Dice by HU threshold, z-scores, calibration of intervals,
sparsification.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from scipy import stats

from ...core.files import replaced
from .store import Network

# Okabe and Ito's colours, distinct with any colour vision; networks beyond the seventh come dashed
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#222222")
DASHES = ("-", "--", "-.")
NAMES = ("bone_dice.png", "z_histogram.png", "calibration.png", "sparsification.png")


def mean_curve(network: Network, curve: str, x: str, y: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """A curve, mean over patients.

    Args:
        network: with its curves.
        curve: its name.
        x: name of its axis.
        y: name of its axis.

    Returns:
        (x, mean of y, number of patients with a value), or None when no patient has it.

    Raises:
        SystemExit: patients have it at different points.
    """
    found = [c[curve] for c in network.curves if curve in c]
    if not found:
        return None
    if any(c[x] != found[0][x] for c in found):
        raise SystemExit(
            f"{network.name}: the patients' curves of {curve} have different points; evaluate with one version."
        )
    values = np.array([c[y] for c in found], np.float64)
    n = np.isfinite(values).sum(0)
    return np.array(found[0][x]), np.where(n > 0, np.nansum(values, 0) / np.maximum(n, 1), np.nan), n


def write(networks: list[Network], out: Path) -> list[Path]:
    """Draws what there is to draw of `NAMES`; without any SD there is only the first.

    Args:
        networks: all in one figure.
        out: the folder.

    Returns:
        The figures' paths.
    """
    styles, known = _styles(networks), []
    for name, draw in zip(NAMES, (_bone_dice, _z_histogram, _calibration, _sparsification)):
        path = out / name
        if draw(networks, styles, path):
            known.append(path)
        else:
            path.unlink(missing_ok=True)  # of an evaluation before, of other networks
    return known


def _styles(networks):
    styles, number, baselines = {}, 0, 0
    for network in networks:
        if network.baseline:
            styles[network.name] = {
                "color": "#8a8a8a",
                "linestyle": (":", (0, (5, 1, 1, 1, 1, 1)))[baselines % 2],
                "linewidth": 1.5,
            }
            baselines += 1
        else:
            dashes = DASHES[number // len(COLOURS) % len(DASHES)]
            styles[network.name] = {"color": COLOURS[number % len(COLOURS)], "linestyle": dashes, "linewidth": 1.8}
            number += 1
    return styles


def _axes(columns=1):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, columns, figsize=(4.0 + 3.6 * columns, 4.6), squeeze=False)
    for axis in axes[0]:
        axis.grid(color="#e3e6e8")
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes[0]


def _save(figure, axis, path, title):
    import matplotlib.pyplot as plt

    figure.suptitle(title, fontsize=11)
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    with replaced(path) as part:
        figure.savefig(part, dpi=90, bbox_inches="tight")
    plt.close(figure)
    return True


def _patients(networks):
    n = len(networks[0].rows)
    return f"{n} patient" if n == 1 else f"mean of {n} patients"


def _mean(network, column):
    values = [v for v in network.column(column) if math.isfinite(v)]
    return f"{np.mean(values):.2f}".replace("-", "−") if values else "–"


def _bone_dice(networks, styles, path):
    found = [(n, mean_curve(n, "bone Dice", "threshold", "dice")) for n in networks]
    found = [(n, c) for n, c in found if c]  # one that only segments has none
    if not found:
        return False
    figure, (axis,) = _axes()
    counts = None
    for network, (x, y, n) in found:
        axis.plot(x, y, label=network.name, **styles[network.name])
        counts = n
    axis.set(
        xlabel="bone threshold, HU",
        ylabel="Dice of synthetic CT and CT above the threshold",
        ylim=(0, 1),
        xlim=(x[0], x[-1]),
    )
    if counts.min() < len(networks[0].rows):
        axis.set_xlabel(
            f"bone threshold, HU (patients with such bone: {counts[0]} at {x[0]:.0f}, {counts[-1]} at {x[-1]:.0f} HU)"
        )
    return _save(figure, axis, path, f"Bone at every density, {_patients(networks)}")


def _z_histogram(networks, styles, path):
    found = [(n, mean_curve(n, "z histogram", "centre", "share")) for n in networks]
    found = [(n, c) for n, c in found if c]
    if not found:
        return False
    figure, (axis,) = _axes()
    for network, (x, share, _) in found:
        width = x[1] - x[0]
        axis.step(
            x,
            share / width,
            where="mid",
            **styles[network.name],
            label=f"{network.name} ({_mean(network, 'z mean')} ± {_mean(network, 'z sd')})",
        )
    fine = np.linspace(-5, 5, 201)
    axis.plot(
        fine,
        stats.norm.pdf(fine),
        color="black",
        linestyle=(0, (2, 2)),
        linewidth=1.2,
        label="N(0, 1): honest error bars",
    )
    axis.set(xlabel="z = (synthetic CT − CT) / predictive sd", ylabel="density", xlim=(-5, 5), ylim=(0, None))
    return _save(
        figure, axis, path, f"z-scores of the voxels in the body, {_patients(networks)}; in brackets mean ± sd"
    )


def _calibration(networks, styles, path):
    found = [(n, mean_curve(n, "calibration", "nominal", "observed")) for n in networks]
    found = [(n, c) for n, c in found if c]
    if not found:
        return False
    figure, (axis,) = _axes()
    for network, (x, y, _) in found:
        axis.plot(100 * x, 100 * y, label=f"{network.name} (ECE {_mean(network, 'ECE')})", **styles[network.name])
    axis.plot([0, 100], [0, 100], color="black", linestyle=(0, (2, 2)), linewidth=1.2, label="ideal")
    axis.set(
        xlabel="nominal level of the interval, %",
        ylabel="voxels inside it, %",
        xlim=(0, 100),
        ylim=(0, 100),
        aspect="equal",
    )
    axis.text(4, 94, "above the line: error bars too wide", fontsize=8, color="#555")
    axis.text(96, 4, "below: too narrow", fontsize=8, color="#555", ha="right")
    return _save(figure, axis, path, f"Do intervals hold what they promise? {_patients(networks).capitalize()}")


def _sparsification(networks, styles, path):
    found = [
        (n, mean_curve(n, "sparsification", "removed", "mae"), mean_curve(n, "sparsification", "removed", "oracle"))
        for n in networks
    ]
    found = [(n, own, oracle) for n, own, oracle in found if own]
    if not found:
        return False
    figure, (left, right) = _axes(2)
    for network, (x, own, _), (_, oracle, _) in found:
        left.plot(100 * x, own, **styles[network.name])
        left.plot(100 * x, oracle, **(styles[network.name] | {"linewidth": 0.7, "linestyle": ":"}))
        right.plot(
            100 * x, own - oracle, label=f"{network.name} (AUSE {_mean(network, 'AUSE')})", **styles[network.name]
        )
    left.set(
        xlabel="most uncertain voxels removed, %",
        ylabel="MAE of the rest, relative to all",
        xlim=(0, 100),
        ylim=(0, 1.05),
    )
    left.set_title("by predictive sd (thin dots: by true error)", fontsize=9)
    right.set(xlabel="voxels removed, %", ylabel="distance from the best possible order", xlim=(0, 100), ylim=(0, None))
    right.set_title("the area is AUSE; 0 is a perfect order", fontsize=9)
    return _save(figure, right, path, f"Does the predictive sd find the errors? {_patients(networks).capitalize()}")
