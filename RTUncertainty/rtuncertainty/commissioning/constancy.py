"""What stays the same as long as a model, a scanner and their patients do: numbers of a result that need no truth, with
control limits from the commissioning, and a test case whose result is known to the last digit.

The limits are those of a chart of individuals (Shewhart 1931) that knows its mean and SD from n patients: a new one
lies beyond them with a probability of 0.27 %. Beside it runs an exponentially weighted mean (Roberts 1959; weight 0.2,
limit 2.7 of its SDs), which sees a drift of one SD in about ten results.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import SimpleITK as sitk
from scipy import ndimage, stats

from ..core.scans import acquisition
from ..results.result import Result
from ..results.tables import number
from .evidence import RIM_MM, uncalibrated

# measure → what a chart says of it
MEASURES = {
    "noise": "input: noise over contrast (log)",
    "sharpness": "input: sharpness in the slices (log)",
    "histogram": "input: distance of the histogram (root)",
    "unlikeness": "likeness: the largest deviation from the training images (SDs)",
    "sd_hu": "uncertainty: SD of the network in the body (HU)",
    "width": "uncertainty: 90 % width of the samples' volumes (mean, of the volume)",
    "surface_entropy": "uncertainty: entropy along the surfaces (mean, nats)",
    "agreement_mm": "agreement: distance of the two contours (mean, mm)",
}
BEYOND = 0.0027
WEIGHT, EWMA_LIMIT = 0.2, 2.7
# below so many patients an SD says nothing
LEAST = 3


def measured(result: Result) -> dict[str, float]:
    """The `MEASURES` of a result; none of them depends on a calibration.

    Args:
        result: of `predict` or `propagate`, in memory or read.

    Returns:
        {measure: value}, of those that it has.
    """
    from ..bundles.input_quality import evened

    out: dict[str, float] = {}
    like = result.summary.get("likeness") or {}
    for name in ("noise", "sharpness", "histogram"):
        value = (like.get("measures") or {}).get(name)
        if value is not None:
            out[name] = float(evened(name, value))
    if like.get("deviations"):
        out["unlikeness"] = float(max(like["deviations"].values()))
    if result.has("predictive_sd") and result.has("synct") and result.has("body"):
        out["sd_hu"] = _network_sd(result)
    widths = _widths(result)
    if widths:
        out["width"] = float(np.mean(widths))
    for key, table, column in (
        ("surface_entropy", "quality", "surface_entropy"),
        ("agreement_mm", "structure_table", "msd_mm"),
    ):
        values = [v for r in result.table(table) if (v := number(r, column)) is not None]
        if values:
            out[key] = float(np.mean(values))
    return {k: round(v, 6) for k, v in out.items() if math.isfinite(v)}


def _network_sd(result: Result) -> float:
    body, sd, synct = (sitk.GetArrayFromImage(result.image(k)) for k in ("body", "predictive_sd", "synct"))
    spacing = result.image("body").GetSpacing()[::-1]
    inner = ndimage.distance_transform_edt(body > 0, sampling=spacing) > RIM_MM
    inner = inner if inner.any() else body > 0
    if not inner.any():
        return math.nan
    variance = uncalibrated(sd[inner].astype(float) ** 2, synct[inner].astype(float), result.card)
    return float(np.sqrt(variance).mean())


def _widths(result: Result) -> list[float]:
    by: dict[str, dict[float, float]] = {}
    for r in result.table("volume_distribution"):
        at, ml = number(r, "percentile"), number(r, "volume_ml")
        if at is not None and ml is not None:
            by.setdefault(r["structure"], {})[at] = ml
    return [(v[95] - v[5]) / v[50] for v in by.values() if {5, 50, 95} <= set(v) and v[50] > 0]


def baseline(found: list[dict[str, float]], acquisitions: list[dict]) -> dict:
    """What a site file keeps of the commissioning's results.

    Args:
        found: `measured` of each.
        acquisitions: `core.scans.acquisition` of each.

    Returns:
        {"measures": {name: {"mean", "sd", "n"}}, "acquisitions": those that differ}.
    """
    measures = {}
    for name in MEASURES:
        values = np.array([m[name] for m in found if name in m])
        if len(values) >= LEAST:
            measures[name] = {
                "mean": round(float(values.mean()), 6),
                "sd": round(float(values.std(ddof=1)), 6),
                "n": len(values),
            }
    kept: list[dict] = []
    for facts in acquisitions:
        if facts and (not kept or acquisition.differences(facts, kept)):
            kept.append(facts)
    return {"measures": measures, "acquisitions": kept}


def limits(known: dict) -> tuple[float, float]:
    """The control limits of a measure.

    Args:
        known: its mean, sd and n of `baseline`.

    Returns:
        (lower, upper).
    """
    n = int(known["n"])
    half = float(stats.t.ppf(1 - BEYOND / 2, n - 1)) * spread(known) * math.sqrt(1 + 1 / n)
    return known["mean"] - half, known["mean"] + half


def spread(known: dict) -> float:
    """The SD of a measure; patients that are alike to the last digit (phantoms) may differ by 1 % all the same."""
    return max(float(known["sd"]), 0.01 * abs(float(known["mean"])), 1e-6)


def ewma(values: list[float], known: dict) -> tuple[list[float], list[float]]:
    """The exponentially weighted mean after each value, and how far it may be off the mean by then.

    Args:
        values: in the order of time.
        known: of `baseline`.

    Returns:
        (means, largest distances); the uncertainty of the commissioning's own mean is counted in.
    """
    at, means, allowed = float(known["mean"]), [], []
    factor = float(stats.t.ppf(stats.norm.cdf(EWMA_LIMIT), int(known["n"]) - 1))
    for k, v in enumerate(values, 1):
        at = WEIGHT * v + (1 - WEIGHT) * at
        means.append(at)
        share = WEIGHT / (2 - WEIGHT) * (1 - (1 - WEIGHT) ** (2 * k))
        allowed.append(factor * spread(known) * math.sqrt(share + (1 - (1 - WEIGHT) ** k) ** 2 / int(known["n"])))
    return means, allowed


def test_case(card: dict, progress=None) -> dict:
    """Runs a model on a small digital limb, which is the same everywhere: no patient, seed and samples fixed.

    Args:
        card: of the model, as of `bundles.read_card`.
        progress: `Progress`, whose token cancels.

    Returns:
        {"sha256": of all voxels and volumes, "numbers": {name: value}, "versions"}: the same digits on the same machine
        and versions, the same numbers within a rounding elsewhere.
    """
    from ..core.events import CancelToken, Progress
    from ..phantoms.limb import digital_limb
    from ..prediction.as_result import as_result as prediction_result
    from ..prediction.predict import predict
    from ..propagation.as_result import as_result as propagation_result
    from ..propagation.job import propagate
    from ..results.result import versions

    inner = Progress(None, progress.cancel if progress is not None else CancelToken())
    limb = digital_limb(1, size=(48, 48, 10), spacing=(3.0, 3.0, 5.0))
    if "deformation" in card["outputs"]:
        daily = digital_limb(1, size=(48, 48, 10), spacing=(3.0, 3.0, 5.0), ct_noise=20.0)
        masks = {"bone": sitk.Equal(limb.labels, 1), "gtv": sitk.Equal(limb.labels, 2)}
        made = propagate(limb.ct, masks, daily.ct, card["folder"], samples=2, device="cpu", progress=inner)
        result = propagation_result(made)
    else:
        image = limb.ct if card["input"].get("modality") == "CT" else limb.mr
        channels = card["input"].get("channels") or []
        given = [image] * len(channels) if channels else image
        result = prediction_result(predict(given, card["folder"], samples=2, device="cpu", progress=inner))
    whole, numbers = hashlib.sha256(), {}
    for key in ("synct", "predictive_sd", "entropy", "warped_planning", "displacement_sd"):
        if result.has(key):
            array = sitk.GetArrayFromImage(result.image(key))
            whole.update(np.ascontiguousarray(array).tobytes())
            numbers[f"mean {key}"] = float(f"{array.astype(float).mean():.6g}")
            numbers[f"sd {key}"] = float(f"{array.astype(float).std():.6g}")
    for r in result.table("volumes"):
        whole.update(f"{r['structure']} {r['volume_ml']}".encode())
        numbers[f"ml {r['structure']}"] = float(r["volume_ml"] or 0)
    return {"sha256": whole.hexdigest(), "numbers": numbers, "versions": versions()}


def compare_test(now: dict, known: dict) -> tuple[str, str]:
    """What a test case says.

    Args:
        now: of `test_case`.
        known: that of the site file.

    Returns:
        (severity, a sentence).
    """
    if now["sha256"] == known.get("sha256"):
        return "good", "The test case gives the same result to the last digit."
    worst, where = 0.0, ""
    for name, value in known.get("numbers", {}).items():
        off = abs(now["numbers"].get(name, math.inf) - value) / max(abs(value), 1.0)
        worst, where = (off, name) if off > worst else (worst, where)
    changed = [k for k, v in known.get("versions", {}).items() if now["versions"].get(k) != v]
    why = f" (other versions of {', '.join(changed)})" if changed else ""
    if worst <= 0.01:
        return "info", f"The test case gives the same numbers within 1 %, not the same digits{why}."
    return "serious", (
        f"The test case gives another result: {where} was {known['numbers'][where]:g} and is "
        f"{now['numbers'].get(where, math.nan):g}{why}; do not use the model before this is explained."
    )
