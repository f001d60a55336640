"""The volumes of propagated structures on validation pairs, and what calibrates their intervals.

The spread of a surface is calibrated point by point (`spread_calibration`), but errors of distant points are not alike,
so that says nothing of volumes (see `rtuncertainty.propagation.assess`). Their intervals are calibrated here, on
volumes that are known.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtuncertainty.bundles import bundle
from rtuncertainty.core import structures, surfaces
from rtuncertainty.propagation import assess, spread
from rtuncertainty.propagation.sampling import PAIRS
from rtuncertainty.uncertainty.fit import volume_card
from rtuncertainty.uncertainty.fit.volumes import VolumeRow
from rtuncertainty.uncertainty.volume_calibration import CONFORMAL

from ...core import provenance
from ...core.files import replace_text
from ...data import pair_case
from ...data.pair_case import PairCase
from ...evaluation import contours, pairs


def into_evaluation(prepared: Path, model: Path, evaluation: Path, mode: str = "fast", device: str = "auto") -> Path:
    """Write the calibration of volumes and expected Dice into an evaluation.json of `propagation_tables.for_card`;
    returns it.

    Bad contours are told by the lights, which that file has already: flags beside them would tell of the same contours
    again.

    The pairs are those of the evaluation; `mode` is the refinement of the contours.
    """
    from rtuncertainty.sampling.inference import choose_device

    made = json.loads(evaluation.read_text(encoding="utf-8"))
    card, (network,) = bundle.load(model, choose_device(device))
    for s in card["outputs"]["structures"]:
        s["path"] = made["paths"].get(s["name"], "propagated")
    # nothing but the spread of this evaluation: the distributions must be those before any calibration of volumes
    card["calibration"] = {"synct": None, "volumes": None, "spread": made["calibration"]["spread"]}
    rows: list[VolumeRow] = []
    names = list(made["scored"])
    provenance.require_unseen(card, prepared, names, made.get("unseen") == "as stated")
    # without dropout no volume has a distribution
    for name in names if network.dropout else ():
        rows += volume_rows(network, pair_case.load(prepared / "cases" / f"{name}.npz"), card, mode)
    # on voxels larger than the spread a distribution is a few steps, which nothing can scale: margins can be added to
    # it
    found = volume_card.fit(rows, CONFORMAL).as_card()
    made["calibration"] |= {"volumes": found["volumes"], "quality": found["quality"]}
    return replace_text(evaluation, json.dumps(made, indent=1, ensure_ascii=False, allow_nan=False))


def volume_rows(network, case: PairCase, card: dict, mode: str) -> list[VolumeRow]:
    """One row for each organ that was drawn: its volume by the path that `card` names, as `propagate` finds it, and
    the true one.
    """
    organs = {s["name"]: s for s in card["outputs"]["structures"]}
    found = pairs.predict(network, case, both_ways=True)
    deforms = found.displacement is not None
    pulling = {n for n, s in organs.items() if s.get("path") == "segmented"}
    bending = float(card["outputs"]["deformation"].get("bending", 0.5))
    if deforms:
        moved = contours.warped_labels(
            case, pairs.refined(case, found.displacement, found.probability, mode, bending, pulling)
        )
        mm2 = found.covariance.cpu().numpy() * np.reshape(
            [case.spacing[a] * case.spacing[b] for a, b in PAIRS], (6, 1, 1, 1)
        )
        calibration = spread.of_card(card)
        calibrated = mm2 if calibration is None else calibration.apply(mm2)
    likeliest = (
        None if found.probability is None else found.probability.argmax(0).cpu().numpy() * (case.body & case.known)
    )
    grid, rows = sitk.GetImageFromArray(case.daily_labels), []
    grid.SetSpacing(case.spacing)
    ml = float(np.prod(case.spacing)) / 1000
    for k, name in enumerate(case.classes, 1):
        truth, entry = (case.daily_labels == k) & case.known, organs[name]
        if name not in case.present or not truth.any():
            continue
        rule = entry.get("rule") or {}
        if likeliest is not None and (entry.get("path") == "segmented" or not deforms):
            shown = structures.tidy(likeliest == k, rule, ml)
            mean, variance = ((t[k].cpu().numpy() * case.body) for t in (found.probability, found.probability_variance))
            got = assess.of_segmentation(name, mean, variance, grid, shown, grid, card, rule)
        else:
            shown = structures.tidy_moved((moved == k) & case.known, rule, ml)
            if not shown.any():
                continue
            about = [
                assess.spread_about(shown, surfaces.normal_sd(c, shown, case.spacing), grid) for c in (calibrated, mm2)
            ]
            got = assess.of_deformation(name, shown, *about, grid, card, rule)
        rows.append(
            VolumeRow(
                card["name"],
                case.patient,
                name,
                tuple(got.distribution.ml),
                float(truth.sum()) * ml,
                True,
                case.name,
                surfaces.dice(shown, truth),
                got.quality.expected_dice,
                got.quality.surface_entropy,
            )
        )
    return rows
