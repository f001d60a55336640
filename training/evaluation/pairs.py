"""Scores of the joint networks on the validation pairs, with refinement, beside elastix and the rigid alignment
alone.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from rtuncertainty.bundles import bundle
from rtuncertainty.core import surfaces
from rtuncertainty.core.ct import WINDOW
from rtuncertainty.core.events import Progress
from rtuncertainty.deformation import compose_tensor
from rtuncertainty.propagation import refine, sampling
from rtuncertainty.propagation.sampling import PAIRS

from ..calibration import spread
from ..core import provenance
from ..core.files import replace_text
from ..data import pair_case
from ..data.pair_case import PairCase
from ..data.prepare import input_statistics
from ..methods.elmahdy2021.feed import outside, tensors
from ..methods.elmahdy2021.task import network_input, one_hot
from . import contours, elastix

SAMPLES = 10


def _clock() -> float:
    """Seconds of processor time, which do not depend on what else the machine does."""
    return time.process_time()


# the network as published, and looking at the pair from both sides, as `propagate` does
ONE_WAY, BOTH_WAYS = "network", "network both ways"


def predict(
    network, case: PairCase, samples: int = SAMPLES, seed: int = 0, both_ways: bool = False
) -> sampling.Sampled:
    """The network's samples on a pair, on its device.

    Args:
        network: of `networks.elmahdy2021`.
        case: the pair.
        samples: T.
        seed: of the masks.
        both_ways: see `propagation.sampling.run`.

    Returns:
        Moments on the pair's grid.
    """
    device, window = next(network.parameters()).device, getattr(network, "window", WINDOW)
    batch = {k: v[None].to(device) for k, v in tensors(case, window).items()}
    air = outside(window)
    x = network_input(batch, len(case.classes) + 1)[:, : network.in_channels]
    return sampling.run(
        network,
        x,
        [air["fixed"], air["moving"], 0.0][: network.in_channels],
        samples,
        seed,
        Progress(),
        both_ways,
    )


def refined(
    case: PairCase, displacement: torch.Tensor, probability, mode: str, bending: float, pulling=()
) -> torch.Tensor:
    """The displacement after `rtuncertainty.propagation.refine`, as `propagate` calls it.

    Args:
        case: the pair.
        displacement: [3, z, y, x], voxels.
        probability: of the classes, [K, z, y, x], or None.
        mode: of `refine.ITERATIONS`.
        bending: weight of the bending energy.
        pulling: the organs whose direct segmentation takes part; the card names those for which it was the better path.

    Returns:
        [3, z, y, x], voxels.
    """
    batch = {k: v[None].to(displacement.device) for k, v in tensors(case).items()}
    labels = segmented = None
    rows = [case.classes.index(c) for c in case.present if c in pulling]
    if probability is not None and rows:
        labels = one_hot(batch["moving_labels"], len(case.classes) + 1)[:, rows]
        segmented = one_hot(probability.argmax(0)[None], len(case.classes) + 1)[:, rows]
    return refine.refined(
        displacement[None],
        batch["fixed"],
        batch["moving"],
        batch["known"] * batch["body"],
        mode,
        Progress(),
        labels,
        segmented,
        bending,
    )[0]


def run(
    prepared: Path,
    run_folder: Path | None,
    model: Path,
    out: Path,
    refine_modes=("fast", "full"),
    device: str = "auto",
    unseen: bool = False,
) -> Path:
    """Scores a bundle on the validation pairs of its run, or on all pairs of patients whom it has not seen.

    Args:
        prepared: the prepared folder.
        run_folder: of the training; None: see `provenance.unseen_cases`.
        model: the bundle.
        out: where to.
        refine_modes: tried on what deforms, as `propagate` does after looking from both sides; each is a method of its
            own in the rows. Without any, the network is scored as published only.
        device: auto, cpu, cuda, cuda:n.
        unseen: see `provenance.require_unseen`.

    Returns:
        rows.json.

    Raises:
        SystemExit: patients are on both sides, or one was trained on.
    """
    from rtuncertainty.sampling.inference import choose_device

    card, (network,) = bundle.load(model, choose_device(device))
    if run_folder is None:
        split = {"training": [], "validation": provenance.unseen_cases(card, prepared)}
    else:
        split = json.loads((run_folder / "split.json").read_text(encoding="utf-8"))
    if not split["validation"]:
        raise SystemExit(f"{card['name']}: {run_folder or prepared} has no pair to score that it has not seen.")
    patients = [{n.rsplit("_day", 1)[0] for n in split[side]} for side in ("training", "validation")]
    if patients[0] & patients[1]:
        raise SystemExit(f"{run_folder / 'split.json'}: patients are in training and validation.")
    scored = provenance.require_unseen(card, prepared, split["validation"], unseen)
    scores = Scores()
    for name in split["validation"]:
        case = pair_case.load(prepared / "cases" / f"{name}.npz")
        _score(
            scores,
            case,
            network,
            refine_modes,
            float(card["outputs"]["deformation"].get("bending", 0.5)),
            {s["name"] for s in card["outputs"]["structures"] if s.get("path") == "segmented"},
        )
        print(name, scores.summary(name), flush=True)
    if run_folder is None:
        usual = card["input"].get("statistics")
    else:
        usual = input_statistics.of_pairs(pair_case.load(prepared / "cases" / f"{n}.npz") for n in split["training"])
    return scores.write(out, card["weights"]["sha256"], usual, scored)


def run_baselines(prepared: Path, names: list[str], out: Path) -> Path:
    """Scores the rigid alignment alone, and elastix.

    Args:
        prepared: the prepared folder.
        names: of the pairs.
        out: where to.

    Returns:
        rows.json.
    """
    scores = Scores()
    for name in names:
        case = pair_case.load(prepared / "cases" / f"{name}.npz")
        scores.add_deformation(case, "rigid", torch.zeros((3, *case.daily.shape)), 0.0)
        started = _clock()
        found = elastix.displacement(case)
        scores.add_deformation(case, "elastix", found, _clock() - started)
        print(name, scores.summary(name), flush=True)
    return scores.write(out, "elastix")


def run_baselines_of(prepared: Path, names: list[str], out: Path) -> Path:
    """`run_baselines`, unless it was done.

    Args:
        prepared: the prepared folder.
        names: of the pairs.
        out: where to.

    Returns:
        rows.json.
    """
    if not (out / "rows.json").exists():
        run_baselines(prepared, names, out)
    return out / "rows.json"


class Scores:
    """Rows as they come, by table.

    `contours` (pair, method, path, organ, dsc, msd_mm, hd95_mm), `deformations` (pair, method, seconds, and what
    `contours.deformation_row` gives), `spreads` (pair, path, organ, sd_mm, msd_mm) and `symmetry` (pair, method,
    identity_mm, inverse_mm), `errors` (pair, method, and what `calibration.spread.drawn` gives), `agreements` (pair,
    method, organ, dice and msd_mm of the two paths, sd_mm of the propagated surface, true_msd_mm of it).
    """

    def __init__(self):
        self.rows: dict[str, list] = {
            "contours": [],
            "deformations": [],
            "spreads": [],
            "symmetry": [],
            "errors": [],
            "agreements": [],
        }

    def add_contours(self, case: PairCase, method: str, path: str, labels: np.ndarray) -> list[dict]:
        """Adds the contours of a path.

        Args:
            case: the pair.
            method: its name.
            path: "propagated" or "segmented".
            labels: [z, y, x].

        Returns:
            `contours.contour_rows`.
        """
        rows = contours.contour_rows(case, labels, moved=path == "propagated")
        self.rows["contours"] += [{"pair": case.name, "method": method, "path": path, **r} for r in rows]
        return rows

    def add_deformation(self, case: PairCase, method: str, displacement: torch.Tensor, seconds: float) -> list[dict]:
        """Adds a deformation and the contours that it moves.

        Args:
            case: the pair.
            method: its name.
            displacement: [3, z, y, x], voxels.
            seconds: that it took.

        Returns:
            `contours.contour_rows`.
        """
        self.rows["deformations"].append(
            {"pair": case.name, "method": method, "seconds": seconds, **contours.deformation_row(case, displacement)}
        )
        return self.add_contours(case, method, "propagated", contours.warped_labels(case, displacement))

    def add_agreement(
        self,
        case: PairCase,
        method: str,
        displacement: torch.Tensor,
        segmented: np.ndarray,
        rows: list[dict],
        sds: dict,
    ) -> None:
        """Adds how far the two paths agree, as `propagation.agreement` sees it, beside the true error.

        Args:
            case: the pair.
            method: its name.
            displacement: [3, z, y, x], voxels.
            segmented: labels [z, y, x].
            rows: of `add_deformation`.
            sds: {organ: mm}.
        """
        warped = contours.warped_labels(case, displacement)
        for r in rows:
            label = 1 + case.classes.index(r["organ"])
            pair = [(labels == label) & case.known for labels in (warped, segmented)]
            self.rows["agreements"].append(
                {
                    "pair": case.name,
                    "method": method,
                    "organ": r["organ"],
                    "dice": surfaces.dice(*pair),
                    "msd_mm": surfaces.surface_distance(*pair, case.spacing).mean,
                    "sd_mm": sds.get(r["organ"]),
                    "true_msd_mm": r["msd_mm"],
                }
            )

    def add_errors(self, case: PairCase, method: str, displacement: torch.Tensor, mm2: np.ndarray) -> None:
        """Adds errors of a displacement beside the sampled covariance.

        Args:
            case: the pair.
            method: its name.
            displacement: [3, z, y, x], voxels.
            mm2: covariance [6, z, y, x], mm².
        """
        error = (displacement.cpu().numpy() - case.displacement) * np.reshape(case.spacing, (3, 1, 1, 1))
        self.rows["errors"].append(
            {"pair": case.name, "method": method, **spread.drawn(error, mm2, case.body & case.known)}
        )

    def summary(self, pair: str) -> str:
        """The mean surface distance of each method, for the screen.

        Args:
            pair: its name.

        Returns:
            A line.
        """
        found: dict = {}
        for r in self.rows["contours"]:
            if r["pair"] == pair:
                found.setdefault(f"{r['method']} {r['path']}", []).append(r["msd_mm"])
        return ", ".join(f"{k} {np.nanmean(v):.2f} mm" for k, v in found.items())

    def write(self, out: Path, weights: str, usual: dict | None = None, scored: dict | None = None) -> Path:
        """Writes rows.json.

        Args:
            out: the folder.
            weights: SHA-256 of the weights.
            usual: the card's `input.statistics`.
            scored: of `provenance.require_unseen`.

        Returns:
            The file.
        """
        out.mkdir(parents=True, exist_ok=True)
        return replace_text(
            out / "rows.json",
            json.dumps({**self.rows, "weights_sha256": weights, "input_statistics": usual, **(scored or {})}),
        )


def _score(scores: Scores, case: PairCase, network, modes, bending: float, pulling) -> None:
    """All rows of one pair."""
    network.set_sampling(False)
    started = _clock()
    plain = predict(network, case, samples=0)
    seconds = _clock() - started
    sampled = predict(network, case)
    if sampled.probability is not None:
        labels = sampled.probability.argmax(0).to(torch.uint8).cpu().numpy()
        labels[~case.body] = 0
        rows = scores.add_contours(case, "network", "segmented", labels)
        for r in rows:
            k = 1 + case.classes.index(r["organ"])
            mean = sampled.probability[k].cpu().numpy()
            sd = (
                surfaces.threshold_sd(mean, sampled.probability_variance[k].cpu().numpy(), mean > 0.5, case.spacing)
                if sampled.probability_variance is not None and (mean > 0.5).any()
                else []
            )
            scores.rows["spreads"].append(
                {"pair": case.name, "path": "segmented", "organ": r["organ"], "sd_mm": _mean(sd), "msd_mm": r["msd_mm"]}
            )
    if sampled.displacement is None:
        return
    rows = scores.add_deformation(case, "network", plain.displacement, seconds)
    # a network without dropout, as the paper's are, has no spread
    mm2 = None
    if sampled.covariance is not None:
        mm2 = sampled.covariance.cpu().numpy() * np.reshape(
            [case.spacing[a] * case.spacing[b] for a, b in PAIRS], (6, 1, 1, 1)
        )
        scores.add_errors(case, ONE_WAY, plain.displacement, mm2)
    warped, sds = contours.warped_labels(case, plain.displacement), {}
    for r in rows:
        mask = warped == 1 + case.classes.index(r["organ"])
        sds[r["organ"]] = _mean(surfaces.normal_sd(mm2, mask, case.spacing) if mm2 is not None and mask.any() else [])
        scores.rows["spreads"].append(
            {
                "pair": case.name,
                "path": "propagated",
                "organ": r["organ"],
                "sd_mm": sds[r["organ"]],
                "msd_mm": r["msd_mm"],
            }
        )
    scores.rows["symmetry"].append(
        {"pair": case.name, "method": ONE_WAY, **_symmetry(network, case, plain.displacement)}
    )
    if not modes:
        return
    started = _clock()
    both = predict(network, case, samples=0, both_ways=True)
    seconds = _clock() - started
    scores.add_deformation(case, BOTH_WAYS, both.displacement, seconds)
    scores.rows["symmetry"].append(
        {"pair": case.name, "method": BOTH_WAYS, **_symmetry(network, case, both.displacement, True)}
    )
    for mode in modes:
        started = _clock()
        better = refined(case, both.displacement, both.probability, mode, bending, pulling)
        rows = scores.add_deformation(case, f"{BOTH_WAYS} + {mode}", better, seconds + _clock() - started)
        if sampled.probability is not None:
            scores.add_agreement(case, f"{BOTH_WAYS} + {mode}", better, labels, rows, sds)
        if mm2 is not None:
            scores.add_errors(case, f"{BOTH_WAYS} + {mode}", better, mm2)


def _symmetry(network, case: PairCase, there: torch.Tensor, both_ways: bool = False) -> dict:
    """Mean displacement (mm) in the body of the planning scan onto itself, and what is left after going there and
    back.
    """
    same = replace(case, daily=case.planning, daily_labels=case.planning_labels)
    swapped = replace(
        case,
        daily=case.planning,
        planning=case.daily,
        daily_labels=case.planning_labels,
        planning_labels=case.daily_labels,
    )
    back = predict(network, swapped, samples=0, both_ways=both_ways).displacement
    left = compose_tensor(there[None], back[None])[0]
    still = predict(network, same, samples=0, both_ways=both_ways).displacement
    spacing, where = np.reshape(case.spacing, (3, 1, 1, 1)), case.body & case.known
    return {
        name: float(np.linalg.norm(d.cpu().numpy() * spacing, axis=0)[where].mean())
        for name, d in (("identity_mm", still), ("inverse_mm", left))
    }


def _mean(values) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
