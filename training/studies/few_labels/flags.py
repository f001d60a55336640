"""Which numbers of the uncertainty map flag a bad contour: rank correlation, AUROC with its interval, error of the
expected Dice.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from rtuncertainty.uncertainty.fit import quality as quality_calibration

from ...evaluation.comparison import tables
from . import quality

# what may flag a bad contour, and whether more of it is a better sign
FLAGS = {
    "expected_dice": 1,
    "surface_entropy": -1,
    "mean_entropy": -1,
    "relative_entropy": -1,
    "mean_mutual_information": -1,
    "volume_cv": -1,
}
WHAT = {
    "expected_dice": "expected Dice of the contour with a truth drawn from the mean probability",
    "surface_entropy": "entropy, mean over the contour's surface",
    "mean_entropy": "entropy, mean over the image",
    "relative_entropy": "entropy, sum over the contour's voxels",
    "mean_mutual_information": "mutual information, mean over the image",
    "volume_cv": "sd over mean of the volume",
}
CHOSEN = quality.CHOSEN


def scores(found: dict) -> dict[str, dict]:
    """Of each of FLAGS over the contours of all runs: `quality_calibration.scores`, the scan being the patient, and
    auroc_low, auroc_high.

    found: rows.json (`few_labels_eval`) by the run's name.
    """
    every = [(case, r["sampled"]) for f in found.values() for case, r in f["cases"].items()]
    dice, patients = np.array([s["dice"] for _, s in every]), np.array([case for case, _ in every])
    out = {}
    for name, sign in FLAGS.items():
        value = np.array([sign * s[name] for _, s in every], float)
        known = np.isfinite(value) & np.isfinite(dice)
        low, high = quality_calibration.auroc_interval(
            value[known], dice[known] < quality_calibration.BAD, patients[known]
        )
        out[name] = quality_calibration.scores(value, dice, patients) | {"auroc_low": low, "auroc_high": high}
    return out


def text(flags: dict, runs, labelled) -> str:
    """Of all runs together by each of FLAGS, then of each run by two of them.

    flags: `scores` by the run's name, "all" first; labelled(run): the cell of its labelled scans.
    """
    pooled = flags["all"]
    body = [
        [
            name.replace("_", " "),
            WHAT[name],
            number(s["spearman"]),
            auroc(s),
            *(number(s.get(k, math.nan), 3) for k in ("mae", "mae_of_mean")),
        ]
        for name, s in pooled.items()
    ]
    some = next(iter(pooled.values()))
    bad = quality_calibration.BAD
    out = [
        f"Over the contours of all runs ({some['n']}, of which {some['bad']} have a Dice below {bad}), contour of the "
        "mean of dropout samples. "
        "Every number is derived from the maps of these samples and the contour; neither the image nor the truth is "
        "looked at. Signs are turned so "
        f"that more is better. The card calibrates the {CHOSEN.replace('_', ' ')}, which was chosen beforehand: the "
        "best of six after the fact would "
        "look better than it is. AUROC in brackets: 95 % bootstrap interval, drawn over scans, because contours of "
        "several networks on one scan are "
        "not independent; without brackets where it says nothing (few scans, few contours of a kind, or a perfect "
        "order). Pooled runs "
        "differ among themselves, so part of what is told is which network is worse. MAE: of the Dice told by an "
        "isotonic map that was fitted on the "
        "other scans, beside that of their mean.",
        tables.markdown(
            ["told by", "which is", "Spearman's ρ with Dice", f"AUROC of Dice < {bad}", "MAE", "MAE of the mean"], body
        ),
    ]
    rows = []
    for name, own in list(flags.items())[1:]:
        rows.append(
            [
                runs[name].title,
                labelled(runs[name]),
                str(own[CHOSEN]["n"]),
                str(own[CHOSEN]["bad"]),
                *(cell for k in (CHOSEN, "mean_entropy") for cell in (number(own[k]["spearman"]), auroc(own[k]))),
            ]
        )
    out.append(
        tables.markdown(
            ["run", "labelled scans", "contours", "bad", "expected Dice: ρ", "AUROC", "mean entropy: ρ", "AUROC"], rows
        )
    )
    return "\n\n".join(out)


def of_worse_scans(files: dict[str, Path]) -> str:
    """What quality.json (`few_labels_quality`), by the run's title, tells of the expected Dice on scans as they are
    and made worse.
    """
    body, level, every = [], math.nan, []
    for title, file in files.items():
        rows = quality.read(file)
        every += rows
        for which, s in quality.scores(rows).items():
            level = s["level"]
            body.append(
                [
                    title,
                    which,
                    str(s["n"]),
                    str(s["bad"]),
                    str(s["not_found"]),
                    number(s["spearman"]),
                    auroc(s),
                    number(s["mae"], 3),
                    number(s["mae_of_mean"], 3),
                    f"{100 * s['held']:.0f} %" if math.isfinite(s["held"]) else "–",
                ]
            )
    sentence = (
        f"The interval is that of {level:.0%}, the highest level for which there are other scans enough."
        if math.isfinite(level)
        else ""
    )
    return (
        "### With scans made worse\n\n"
        "Few contours of few scans are bad. So that there are more, the expected Dice is looked at on "
        f"{quality.words(every)}. "
        "Telling a bad image from a good one is easier than telling two good ones apart: the row of all is no promise "
        "for the scans as they are, "
        "which have a row of their own; where their MAE is not below that of the mean, the expected Dice tells little "
        "of clean scans. Map and "
        "interval are fitted as those of the card, each scan's without any of its versions; scans as they are weigh "
        "half of each patient. Where "
        f"nothing was found there is no contour to tell of. {sentence}\n\n"
        + tables.markdown(
            [
                "run",
                "scans",
                "contours",
                "bad",
                "nothing found",
                "ρ",
                "AUROC",
                "MAE",
                "MAE of the mean",
                "interval held",
            ],
            body,
        )
    )


def number(v: float, digits: int = 2) -> str:
    """A number for a table, a dash where there is none."""
    return "–" if math.isnan(v) else f"{v:.{digits}f}".replace("-", "−")


def auroc(s: dict) -> str:
    """AUROC with its interval; why there is none where it is not defined."""
    if math.isnan(s["auroc"]):
        return "not defined (none is bad)" if not s["bad"] else "not defined (all are bad)"
    return number(s["auroc"]) + (
        f" ({number(s['auroc_low'])} to {number(s['auroc_high'])})" if math.isfinite(s["auroc_low"]) else ""
    )
