"""Recalibrating the uncertainty of a synthetic CT on validation patients; what is fitted is
`rtuncertainty.uncertainty.hu_calibration`.

The scale and the residual at each knot minimise the Gaussian negative log-likelihood of the errors (the optimum has
z-scores of sd 1 around every knot; Levi et al. 2022, "Evaluating and calibrating uncertainty prediction in regression
tasks", with the scale depending on HU). Interval factors are the quantiles of |z|, as split conformal prediction takes
them (Lei et al. 2018, Sec. 2.2), every patient weighing the same. Scores of a recalibration are only ever given for a
patient whom it was
not fitted on: `leave_one_out`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..hu_calibration import Recalibration

# HU: lung and gas, fat, muscle, spongy bone, bone, compact bone
KNOTS = (-600.0, -100.0, 50.0, 250.0, 600.0, 1100.0)
LEVELS = tuple(round(0.05 * k, 2) for k in range(1, 20))
VOXELS = 40_000
# how strongly a knot with few voxels is held at a scale of 1, in voxels
PRIOR = 20.0
# a line search may run away in the logarithm of a scale: factors of e^8 say nothing any more
FARTHEST = 8.0


@dataclass
class Patient:
    """Voxels of one patient, 1-D: synthetic CT and its error in HU, intrinsic and parameter variance in HU²."""

    synct: np.ndarray
    error: np.ndarray
    intrinsic: np.ndarray
    parameter: np.ndarray

    @staticmethod
    def drawn(synct, ct, intrinsic_sd, parameter_sd, region, seed: int = 0, count: int = VOXELS) -> Patient:
        """At most `count` voxels of `region`; an sd that is None is unknown, which counts as 0."""
        voxels = np.flatnonzero(region)
        voxels = np.random.default_rng(seed).choice(voxels, min(count, len(voxels)), replace=False)

        def squared(sd):
            return np.zeros(len(voxels)) if sd is None else sd.ravel()[voxels].astype(np.float64) ** 2

        predicted = synct.ravel()[voxels].astype(np.float64)
        return Patient(predicted, predicted - ct.ravel()[voxels], squared(intrinsic_sd), squared(parameter_sd))


def z_scores(recalibration: Recalibration, patient: Patient) -> np.ndarray:
    """Errors over the recalibrated predictive sd."""
    return patient.error / np.sqrt(sum(recalibration.apply(patient.synct, patient.intrinsic, patient.parameter)))


def mean_sd_range(recalibration: Recalibration, patients: list[Patient]) -> list[float]:
    """The smallest and the largest mean predictive sd (HU) of these patients, recalibrated."""
    means = [float(np.sqrt(sum(recalibration.apply(p.synct, p.intrinsic, p.parameter))).mean()) for p in patients]
    return [round(min(means), 1), round(max(means), 1)]


def fit(patients: list[Patient]) -> Recalibration:
    """The recalibration of least negative log-likelihood over these patients, with its interval factors."""
    weights = np.concatenate([np.full(len(p.error), 1 / len(p.error)) for p in patients]) / len(patients)
    count = sum(len(p.error) for p in patients)
    synct, squares, variances = (
        np.concatenate(v) for v in zip(*((p.synct, p.error**2, p.intrinsic + p.parameter) for p in patients))
    )
    # the share of each knot in the interpolated value of a voxel
    share = torch.from_numpy(np.stack([np.interp(synct, KNOTS, unit) for unit in np.eye(len(KNOTS))], 1))
    weight, squared, variance = (torch.from_numpy(v) for v in (weights, squares, variances))
    known = bool(variance.max() > 0)
    # in units near 1: log scale, and log residual over the typical error
    typical = max(float(np.sqrt((weight * squared).sum())), 1.0)
    parameters = torch.zeros(2, len(KNOTS), dtype=torch.float64)
    parameters[1] = -2.0 if known else 0.0
    parameters.requires_grad_()
    optimiser = torch.optim.LBFGS([parameters], max_iter=300, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        scale, residual = parameters.clamp(-FARTHEST, FARTHEST).exp()
        total = (share @ scale) ** 2 * variance + (share @ (typical * residual)) ** 2 + 1e-3
        loss = (weight * (squared / total + total.log())).sum() / 2
        loss = loss + PRIOR / count * ((parameters[0] ** 2).sum() + 0.01 * (parameters[1] ** 2).sum())
        loss.backward()
        return loss

    optimiser.step(closure)
    scale, residual = parameters.detach().clamp(-FARTHEST, FARTHEST).exp().numpy()
    found = Recalibration(list(KNOTS), scale.tolist(), (typical * residual).tolist())
    found.factors = conformal_factors(found, patients)
    return found


def conformal_factors(recalibration: Recalibration, patients: list[Patient]) -> dict[float, float]:
    """For each of LEVELS the multiple of the sd that covers this share of the voxels, every patient weighing the
    same.
    """
    sizes = [np.abs(z_scores(recalibration, p)) for p in patients]
    order = np.argsort(np.concatenate(sizes))
    sorted_sizes = np.concatenate(sizes)[order]
    covered = np.cumsum(np.concatenate([np.full(len(s), 1 / len(s)) for s in sizes])[order]) / len(sizes)
    return {
        level: float(sorted_sizes[min(int(np.searchsorted(covered, level - 1e-12)), len(covered) - 1)])
        for level in LEVELS
    }


def leave_one_out(patients: list[Patient]) -> list[dict]:
    """For each patient, recalibrated on all others: mean and sd of z, and the coverage of the interval of each level.

    Raises `ValueError` for fewer than two patients: nothing could be said of a patient who was not fitted on.
    """
    if len(patients) < 2:
        raise ValueError("leaving one out takes at least two validation patients")
    rows = []
    for k, patient in enumerate(patients):
        found = fit(patients[:k] + patients[k + 1 :])
        z = z_scores(found, patient)
        rows.append(
            {
                "z mean": float(z.mean()),
                "z sd": float(z.std()),
                "coverage": {level: float((np.abs(z) <= found.factors[level]).mean()) for level in LEVELS},
            }
        )
    return rows
