"""Scores of networks that segment organs in CT on the validation patients: contours, and the distribution of each
organ's volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtuncertainty.bundles import bundle
from rtuncertainty.core.events import Progress
from rtuncertainty.core.structures import mask_of, tidy_labels, unions
from rtuncertainty.networks.uncertainty import entropy
from rtuncertainty.prediction.predict import bounding_box
from rtuncertainty.sampling import folds, inference
from rtuncertainty.uncertainty import volume_assessment, volume_distribution
from rtuncertainty.uncertainty.fit.volumes import VolumeRow
from rtuncertainty.uncertainty.volumes import probability_of_being_inside

from ..calibration.rows import write_rows
from ..core import provenance
from ..data import organ_case
from ..data.organ_case import OrganCase
from ..run import joined
from . import contours, kept

SAMPLES = 20


@dataclass
class Sampled:
    """What a network's samples say of a scan, beside the truth; arrays on the scan's working grid.

    Attributes:
        case: scan and truth.
        mean, variance: of the class probabilities over the samples, [K, z, y, x], background first, outside the body 1
            for the background; of structures that hold others with their parts.
        labels: [z, y, x], the likeliest class, by the card's rules ("one piece").
        nested: see `rtuncertainty.core.structures.unions`.
    """

    case: OrganCase
    mean: np.ndarray
    variance: np.ndarray
    labels: np.ndarray
    nested: np.ndarray | None = None

    @property
    def entropy(self) -> np.ndarray:
        """Predictive entropy [z, y, x], nats."""
        import torch

        classes = self.mean
        if self.nested is not None:
            classes = np.einsum("ij,jzyx->izyx", np.linalg.inv(self.nested), classes).clip(0)
        return entropy(torch.from_numpy(classes)[None])[0, 0].numpy()


def sampled(
    networks, card: dict, case: OrganCase, samples: int = SAMPLES, seed: int = 0, device: str = "auto"
) -> Sampled:
    """Samples of a bundle's networks on a scan, with what `predict` does: the body's box, in the network's window.

    Args:
        networks: of `bundle.load`.
        card: of `bundle.load`.
        case: the scan. For another look at the same patient (noise, say) give `dataclasses.replace(case, hu=…)`; the
            body stays that of `case`.
        samples: T.
        seed: of the masks.
        device: auto, cpu, cuda, cuda:n.

    Returns:
        On the scan's working grid.
    """
    box = bounding_box(case.body)
    volume = np.ascontiguousarray(case.seen[(slice(None), *box)])
    volume = volume[0] if len(volume) == 1 else volume
    where = inference.choose_device(device)
    # the checkpoint that has not seen a patient computes as it does among those of the other folds
    alone = provenance.joined(card) and len(networks) == 1
    with folds.quickly(networks[0], where) if alone else nullcontext():
        found, _, _ = inference.run(networks, volume, samples, seed, where, Progress())
    count = len(case.classes) + 1
    mean, variance = (np.zeros((count, *case.hu.shape), np.float32) for _ in range(2))
    mean[0] = 1.0
    body = case.body[box]
    for out, tensor, beyond in ((mean, found.probability, 1.0), (variance, found.probability_variance, 0.0)):
        values = tensor.numpy().transpose(1, 0, 2, 3)
        out[(slice(None), *box)] = np.where(body, values, np.reshape([beyond] + [0.0] * (count - 1), (-1, 1, 1, 1)))
    listed = card["outputs"]["structures"]
    labels, nested = mean.argmax(0).astype(np.uint8), unions(listed)
    if nested is not None:  # parts come behind what holds them
        labels = np.zeros_like(labels)
        for k, s in enumerate(listed, 1):
            labels[mean[k] > 0.5] = s["label"]
    return Sampled(case, mean, np.maximum(variance, 0), tidy_labels(labels, listed, case.ml_per_voxel), nested)


def volume_rows(network: str, found: Sampled, card: dict) -> list[VolumeRow]:
    """One row for each organ of a card: the distribution of its volume, and the true volume as it was drawn.

    Args:
        network: its name.
        found: of `sampled`.
        card: of the model.

    Returns:
        Volumes in ml.
    """
    # a card that is calibrated already tells a mapped Dice, on which nothing may be fitted again
    case, entropy_map, rows, card = found.case, found.entropy, [], card | {"calibration": {}}
    grid = sitk.GetImageFromArray(found.labels)
    grid.SetSpacing(case.spacing)
    for k, s in enumerate(card["outputs"]["structures"], 1):
        truth, labelled = case.mask(s["name"]), mask_of(found.labels, s)
        inside = probability_of_being_inside(found.mean[k], found.variance[k])
        got = volume_assessment.assess(
            s["name"], inside, found.mean[k], labelled, entropy_map, grid, card, s.get("rule")
        )
        drawn = s["name"] in case.drawn_ml
        size = int(labelled.sum() + truth.sum())
        rows.append(
            VolumeRow(
                network,
                case.patient,
                s["name"],
                tuple(got.distribution.ml),
                case.drawn_ml.get(s["name"], 0.0),
                drawn,
                case.name,
                2 * int((labelled & truth).sum()) / size if drawn and size else float("nan"),
                got.quality.expected_dice,
                got.quality.surface_entropy,
                sums_ml=volume_distribution.of_sums(s["name"], found.mean[k], found.variance[k], case.ml_per_voxel).ml,
            )
        )
    return rows


def run(
    prepared: Path,
    run_folder: Path | Sequence[Path],
    model: Path,
    out: Path,
    samples: int = SAMPLES,
    device: str = "auto",
    unseen: bool = False,
    until: float | None = None,
) -> Path:
    """Scores a bundle on the validation scans of its run.

    rows.json is of the format of `rows.read_rows`, with "contours" (case, organ, dsc, msd_mm, hd95_mm),
    "training" (the drawn volumes of the patients that it was trained on, by organ) and "samples" besides.

    Args:
        prepared: the prepared folder.
        run_folder: of the training; of the folds of a study (`joined.runs`) every patient is scored by the checkpoints
            that have not seen him.
        model: the bundle.
        out: where to.
        samples: T.
        device: auto, cpu, cuda, cuda:n.
        unseen: see `provenance.require_unseen`.
        until: see `kept.Kept`.

    Returns:
        rows.json.

    Raises:
        SystemExit: a patient was trained on.
    """
    card, networks = bundle.load(model, inference.choose_device(device))
    sides = joined.sides(run_folder)
    scored = provenance.require_unseen(card, prepared, sides.validation, unseen)
    rows, scores = [], []
    training: dict = {}
    for name in sides.training:
        for organ, ml in organ_case.load(prepared / "cases" / f"{name}.npz").drawn_ml.items():
            training.setdefault(organ, []).append(round(ml, 3))
    store, weights = kept.Kept(out, {"samples": samples}, until), [kept.weights_of(n) for n in networks]
    title = sides.folders[0].name if len(sides.folders) == 1 else card["name"]
    for name in sides.validation:

        def found_of(name=name):
            case = organ_case.load(prepared / "cases" / f"{name}.npz")
            found = sampled(provenance.may_score(networks, scored, name), card, case, samples, device=device)
            labels = found.labels if case.known is None else np.where(case.known, found.labels, 0)
            mine = contours.organ_rows(case.labels, labels, case.classes, case.present, case.spacing, holds=case.holds)
            return {"rows": [asdict(r) for r in volume_rows(title, found, card)], "contours": mine}, {}

        mine = provenance.may_score(weights, scored, name)
        plain, _ = store.of(name, found_of, hashes=scored["scored"][name], weights=mine)
        # which fold calibrates it: margins of one checkpoint belong to that checkpoint
        rows += [VolumeRow(**{**r, "ml": tuple(r["ml"]), **provenance.fold_of(scored, name)}) for r in plain["rows"]]
        scores += [{"case": name, **r} for r in plain["contours"]]
        print(f"{name}: Dice {np.mean([r['dsc'] for r in plain['contours']]):.3f}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    return write_rows(
        rows,
        out / "rows.json",
        weights_sha256=card["weights"]["sha256"],
        samples=samples,
        training=training,
        **scored,
        contours=[{k: None if v != v else v for k, v in r.items()} for r in scores],
    )
