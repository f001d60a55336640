"""Calibrating the sampled spread of a deformation on validation pairs; what is fitted is
`rtuncertainty.propagation.spread`.

Scale and residual minimise the Gaussian negative log-likelihood of the errors along each axis (Levi et al. 2022); the
factor of the 90 % interval is the quantile of |error| / sd, each patient weighing the same, as errors have heavier
tails than a Gaussian. Coverage is that of each patient with a fit on the others.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize

from rtuncertainty.propagation.spread import SpreadCalibration

VOXELS = 400  # of each pair


def drawn(error: np.ndarray, covariance: np.ndarray, where: np.ndarray, seed: int = 0) -> dict:
    """Errors (mm) and sampled variances (mm²) along x, y, z, [3, n] as lists, at `VOXELS` voxels of `where` (bool [z,
    y, x]).

    error [3, z, y, x] and covariance [6, z, y, x] in mm and mm².
    """
    voxels = np.flatnonzero(where)
    voxels = np.random.default_rng(seed).choice(voxels, min(VOXELS, len(voxels)), replace=False)
    return {
        "error": np.round(error.reshape(3, -1)[:, voxels], 3).tolist(),
        "variance": np.round(covariance[:3].reshape(3, -1)[:, voxels], 6).tolist(),
    }


def fit(pairs: list[dict]) -> SpreadCalibration:
    """The calibration of what `drawn` gave for several pairs."""
    error, variance = (np.concatenate([np.ravel(p[k]) for p in pairs]) for k in ("error", "variance"))

    def loss(parameters):
        total = np.exp(2 * parameters[0]) * variance + np.exp(2 * parameters[1])
        return float((error**2 / total + np.log(total)).mean())

    rms = max(1e-3, float(np.sqrt((error**2).mean())))
    start = [0.0, np.log(rms)]
    # a scale beyond e⁴ or a residual below 1 µm would say that one of the two says nothing
    found = optimize.minimize(loss, start, method="L-BFGS-B", bounds=[(-4, 4), (-7, 4)]).x
    scale, residual = float(np.exp(found[0])), float(np.exp(found[1]))
    ratios = [np.abs(p["error"]) / np.sqrt(scale**2 * np.array(p["variance"]) + residual**2) for p in pairs]
    factor = float(np.mean([np.quantile(r, 0.9) for r in ratios]))
    return SpreadCalibration(round(scale, 3), round(residual, 3), round(factor, 3))


def left_out(rows: dict[str, dict]) -> dict:
    """What the calibration does for a patient whom it was not fitted on: {"z_sd", "within_90", "patients"}, means over
    the patients.

    rows: of each pair (by name, PATIENT_dayN) what `drawn` gave. NaN with fewer than two patients.
    """
    patients: dict[str, list[dict]] = {}
    for name, row in rows.items():
        patients.setdefault(name.rsplit("_day", 1)[0], []).append(row)
    sds, inside = [], []
    for patient, own in patients.items():
        others = [r for p, given in patients.items() if p != patient for r in given]
        if not others:
            continue
        fitted = fit(others)
        z = np.concatenate(
            [
                np.ravel(
                    np.array(r["error"]) / np.sqrt(fitted.scale**2 * np.array(r["variance"]) + fitted.residual_mm**2)
                )
                for r in own
            ]
        )
        sds.append(np.sqrt((z**2).mean()))
        inside.append((np.abs(z) <= fitted.factor_90).mean())
    if not sds:
        return {"z_sd": float("nan"), "within_90": float("nan"), "patients": len(patients)}
    return {"z_sd": float(np.mean(sds)), "within_90": float(np.mean(inside)), "patients": len(patients)}


def for_card(rows: dict[str, dict]) -> dict:
    """The entries of a card's `calibration.spread`; none where there are too few patients to check it."""
    checked = left_out(rows)
    if not np.isfinite(checked["z_sd"]):
        return {}
    fitted = fit(list(rows.values()))
    return {
        "scale": fitted.scale,
        "residual_mm": fitted.residual_mm,
        "factor_90": fitted.factor_90,
        "patients": checked["patients"],
        "left_out_z_sd": round(checked["z_sd"], 2),
        "left_out_within_90": round(checked["within_90"], 3),
    }
