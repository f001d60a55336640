"""Scores of a V-Net on the validation scans, and what its dropout samples say about them without a truth."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from rtuncertainty.bundles import bundle
from rtuncertainty.core import structures
from rtuncertainty.core.events import Progress
from rtuncertainty.networks.uncertainty import entropy
from rtuncertainty.sampling import volumes
from rtuncertainty.sampling.inference import choose_device
from rtuncertainty.sampling.slices import Statistics
from rtuncertainty.uncertainty import quality

from ..core import provenance
from ..core.files import replace_text
from ..data import scan
from ..data.prepare import scans
from ..run import joined
from . import kept, overlap

SAMPLES = 20
# of the windows, voxels (x, y, z)
STRIDE = (18, 18, 4)
# the edge of one window that holds a whole scan
WHOLE = 1 << 12


@torch.inference_mode()
def sliding(network, image: np.ndarray, size, stride) -> np.ndarray:
    """Class probabilities without dropout: the mean over windows (Yu 2019: 112 × 112 × 80 every 18 × 18 × 4).

    A scan smaller than a window is continued by what is darkest in it, on both sides; the last window of an axis ends
    with the scan.

    Args:
        network: of `networks.vnet`; of several (a list) the mean.
        image: [z, y, x].
        size: of the windows, (x, y, z), voxels.
        stride: between them, (x, y, z), voxels.

    Returns:
        [K, z, y, x].
    """
    if isinstance(network, list):
        return np.mean([sliding(n, image, size, stride) for n in network], 0)
    size, stride = tuple(size)[::-1], tuple(stride)[::-1]
    missing = [max(0, s - n) for s, n in zip(size, image.shape)]
    before = [m // 2 for m in missing]
    padded = np.pad(image, [(b, m - b) for b, m in zip(before, missing)], constant_values=float(image.min()))
    starts = [sorted({*range(0, n - s, step), n - s}) for n, s, step in zip(padded.shape, size, stride)]
    device = next(network.parameters()).device
    total, count = torch.zeros(network.classes, *padded.shape, device=device), torch.zeros(padded.shape, device=device)
    for corner in itertools.product(*starts):
        window = tuple(slice(c, c + s) for c, s in zip(corner, size))
        x = torch.from_numpy(np.ascontiguousarray(padded[window]))[None, None].to(device)
        total[(slice(None), *window)] += network.draw(network.features(x), None)[0].float()
        count[window] += 1
    inner = tuple(slice(b, b + n) for b, n in zip(before, image.shape))
    return (total / count)[(slice(None), *inner)].cpu().numpy()


def sampled(network, case: scan.Scan, samples: int, seed: int) -> Statistics:
    """Moments of dropout samples over a whole scan; outside its body, where `predict` shows nothing, sure background.

    Args:
        network: one, or a list.
        case: the scan.
        samples: T.
        seed: of the masks.

    Returns:
        Tensors [z, c, y, x].
    """
    members = network if isinstance(network, list) else [network]
    device = next(members[0].parameters()).device
    found = volumes.statistics(members, case.image, samples, seed, device, WHOLE, Progress())
    if case.body is not None:
        body = torch.from_numpy(case.body.astype(np.float32))[:, None]
        found.probability[:, 1:] *= body
        found.probability[:, :1] = found.probability[:, :1] * body + (1 - body)
        found.probability_variance.mul_(body)
        found.expected_entropy.mul_(body)
    return found


def summaries(statistics, truth: np.ndarray, rule: dict, spacing) -> dict:
    """What the samples say of a scan, by numbers that may flag a bad contour; and the Dice of that contour.

    All but `dice` are derived from the maps of the samples and the contour that the mean probability gives.
    mean_entropy: nats, mean over the image. relative_entropy: its sum over the contour's voxels.
    mean_mutual_information: the part of the mean entropy that is the model's uncertainty. surface_entropy,
    expected_dice: as `rtuncertainty.uncertainty.quality` has them. volume_cv: SD over mean of the volume if voxels were
    fully correlated (sum of the SDs over the sum of probabilities). dice: of the contour, tidied by `rule`.

    Args:
        statistics: `rtuncertainty.sampling.slices.Statistics` [z, c, y, x].
        truth: bool [z, y, x].
        rule: of the card.
        spacing: (x, y, z), mm.

    Returns:
        The numbers by name.
    """
    mean = statistics.probability.numpy().swapaxes(0, 1)
    foreground, entropy_map = 1 - mean[0], entropy(statistics.probability)[:, 0].numpy()
    contour = structures.tidy(mean.argmax(0) > 0, rule, float(np.prod(spacing)) / 1000)
    sd = np.sqrt(np.maximum(statistics.probability_variance.numpy()[:, 0], 0))
    return {
        "dice": overlap.scores(contour, truth, spacing)["dice"],
        "mean_entropy": float(entropy_map.mean()),
        "relative_entropy": float(entropy_map.sum() / max(1, contour.sum())),
        "mean_mutual_information": float((entropy_map - statistics.expected_entropy[:, 0].numpy()).mean()),
        "surface_entropy": quality.surface_entropy(entropy_map, contour),
        "expected_dice": quality.expected_dice(foreground, contour, rule),
        "volume_cv": float(sd.sum() / max(1e-6, foreground.sum())),
    }


def run(
    prepared: Path,
    run_folder: Path | Sequence[Path],
    model: Path,
    out: Path,
    stride=STRIDE,
    samples: int = SAMPLES,
    device: str = "auto",
    unseen: bool = False,
    until: float | None = None,
) -> Path:
    """Scores a bundle on the validation scans of its run.

    Its "cases": {name: {"scores": of `overlap.scores`, "sampled": of `summaries`}}. The contour is the likelier class,
    then the card's rule. The windows have the size of the crops that were trained on.

    Args:
        prepared: the prepared folder.
        run_folder: of the training; of the folds of a study (`joined.runs`) each scan is scored by the checkpoints that
            have not seen it.
        model: the bundle.
        out: where to.
        stride: see `sliding`.
        samples: T.
        device: auto, cpu, cuda, cuda:n.
        unseen: see `provenance.require_unseen`.
        until: see `kept.Kept`.

    Returns:
        rows.json.

    Raises:
        SystemExit: a scan on both sides of the split, an ensemble of one split, or a scan that was trained on.
    """
    card, built = bundle.load(model, choose_device(device))
    if len(built) > 1 and not provenance.joined(card):
        raise SystemExit(f"{model}: an ensemble of {len(built)} networks; score its members one by one.")
    size = card["training"]["patch"]
    sides = joined.sides(run_folder)
    if len(sides.folders) == 1 and set(sides.training) & set(sides.validation):
        raise SystemExit(f"{sides.folders[0] / 'split.json'}: scans are in training and validation.")
    scored = provenance.require_unseen(card, prepared, sides.validation, unseen)
    rule, cases = card["outputs"]["structures"][0].get("rule") or {}, {}
    store = kept.Kept(out, {"samples": samples, "stride": list(stride)}, until)
    weights = [kept.weights_of(n) for n in built]
    for number, name in enumerate(sides.validation):
        case = scan.load(prepared / "scans" / f"{name}.npz")

        def found_of(name=name, case=case, number=number):
            networks, truth = provenance.may_score(built, scored, name), case.labels > 0
            likeliest = sliding(networks, case.image, size, stride).argmax(0) > 0
            likeliest &= True if case.body is None else case.body
            contour = structures.tidy(likeliest, rule, float(np.prod(case.spacing)) / 1000)
            told = summaries(sampled(networks, case, samples, number), truth, rule, case.spacing)
            return {"scores": overlap.scores(contour, truth, case.spacing), "sampled": told}, {}

        mine = provenance.may_score(weights, scored, name)
        cases[name], _ = store.of(name, found_of, seed=number, hashes=scored["scored"][name], weights=mine)
        found, expected = cases[name]["scores"], cases[name]["sampled"]["expected_dice"]
        print(
            name, f"Dice {found['dice']:.3f}, 95HD {found['hd95_mm']:.1f} mm, expected Dice {expected:.3f}", flush=True
        )
    out.mkdir(parents=True, exist_ok=True)
    made = {
        "format": 1,
        "network": card["training"]["method"],
        "labelled": card["training"]["labelled"],
        "structure": card["outputs"]["structures"][0]["name"],
        "challenge": scans.settings_of(prepared) is None,
        "weights_sha256": card["weights"]["sha256"],
        "samples": samples,
        "window": list(size),
        "stride": list(stride),
        "spacing_mm": list(case.spacing),
        "cases": cases,
    } | scored
    return replace_text(out / "rows.json", json.dumps(made, indent=0))
