"""A picture of a prepared case, to be looked at before anything is trained on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.files import replaced
from .case import Case


def overlay(case: Case, path: Path, title: str) -> None:
    """Three slices and a coronal cut of the MR with the CT's skin (cyan) and bone (red).

    Without a CT, with the outlines of the labels. Raises `InputError` where it cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(16, 4.3))
    n = case.mr.shape[0]
    shown = case.ct if case.ct is not None else case.labels.astype(np.float32)
    views = [(case.mr[z], shown[z], 1.0) for z in (n // 5, n // 2, 4 * n // 5)]
    y = int(np.median(np.nonzero(case.labels == 1)[1])) if (case.labels == 1).any() else case.mr.shape[1] // 2
    views.append((case.mr[::-1, y], shown[::-1, y], case.spacing[2] / case.spacing[0]))
    lines = (
        ((-300, "c"), (250, "r"))
        if case.ct is not None
        else tuple((v - 0.5, f"C{v}") for v in case.classes.values() if v)
    )
    for axis, (mr, values, aspect) in zip(axes, views):
        axis.imshow(mr, cmap="gray", vmin=-2, vmax=2.5, aspect=aspect)
        for level, colour in lines:
            if values.min() < level < values.max():
                axis.contour(values, [level], colors=colour, linewidths=0.8)
        axis.axis("off")
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    try:
        with replaced(path) as temporary:
            figure.savefig(temporary, dpi=70)
    finally:
        plt.close(figure)
