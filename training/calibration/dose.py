"""The margins that make bands of a target's dose hold on validation patients, from what `dose_study` computed
(`rtuncertainty.dose.plan.calibrated`).
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from rtuncertainty.uncertainty.fit import conformal
from rtuncertainty.uncertainty.volume_calibration import patients_needed

from ..core.files import replace_text

# what `dose` draws its samples with unless told otherwise
BAND = "measured"
LEVELS = (0.9, 0.8, 0.68, 0.5)
# what `dose_study` computes with the plan that `dose` makes by default; its protons have wider spots
SIMPLE = ("photon",)


def read(folder: Path) -> list[dict]:
    """All records that `reproduce dose` computed, with their modality, in a steady order."""
    found = []
    for modality in ("photon", "proton"):
        for path in sorted((folder / modality).glob("*.json")):
            found.append(json.loads(path.read_text(encoding="utf-8")) | {"modality": modality})
    return found


def score(band: list[float]) -> float:
    """How far the CT's dose, a difference of 0, lies outside of a band of the difference, in percent of the
    prescription; negative inside.
    """
    return max(band[0], -band[1])


def fit(records: list[dict], level: float | None = None) -> dict | None:
    """The card's entry for one kind of radiation, from the records of its patients: the highest of `LEVELS` that so
    many allow.

    None where no level can be reached.
    """
    bands = {r["patient"]: r["bands"][BAND] for r in records if BAND in r["bands"]}
    level = level or next((v for v in LEVELS if len(bands) >= patients_needed(v)), None)
    if level is None or len(bands) < patients_needed(level):
        return None
    margins = {
        d: conformal.quantile([score(b[d]) for b in bands.values()], list(bands), level)
        for d in next(iter(bands.values()))
    }
    return {
        "level": level,
        "patients": len(bands),
        "margins_percent": {d: round(m, 3) for d, m in margins.items()},
        "band": "5 to 95 % of samples that go together as measured",
        "what": "difference of the target's dose from the CT, in percent of the prescription, simple plan",
    }


def held(records: list[dict], level: float) -> dict[str, list[bool]]:
    """By dose, for each patient whether the interval of `level` fitted on the others holds the CT's dose; empty
    where they are too few.
    """
    found: dict[str, list[bool]] = {}
    for left_out in records:
        entry = fit([r for r in records if r is not left_out and r["patient"] != left_out["patient"]], level)
        if entry is None or BAND not in left_out["bands"]:
            continue
        for dose, margin in entry["margins_percent"].items():
            found.setdefault(dose, []).append(score(left_out["bands"][BAND][dose]) <= margin + 1e-9)
    return found


def into_evaluation(folder: Path, network: str, evaluation: Path) -> Path:
    """Write the calibration of `network`'s doses in `folder` (that of `dose_study`), of the kinds of radiation in
    `SIMPLE`, into evaluation.json.

    Raises `SystemExit` where there is nothing to calibrate.
    """
    records = [r for r in read(folder) if r["title"] == network]
    found = {m: entry for m in SIMPLE if (entry := fit([r for r in records if r["modality"] == m]))}
    if not found:
        raise SystemExit(
            f"{folder} has no bands of {network} that could be calibrated; run 'python -m training reproduce dose' "
            "first."
        )
    made = json.loads(evaluation.read_text(encoding="utf-8"))
    made["calibration"]["dose"] = found
    others = sorted({r["patient"] for r in records} - set(made.get("scored", [r["patient"] for r in records])))
    if others:
        raise SystemExit(
            f"{evaluation} did not score {', '.join(others)}, so whether the network has seen them is not known; "
            "evaluate again, or compute their doses with the run that it is of."
        )
    if not all(math.isfinite(m) for entry in found.values() for m in entry["margins_percent"].values()):
        raise SystemExit(f"{folder}: too few patients for their level.")
    return replace_text(evaluation, json.dumps(made, indent=1, ensure_ascii=False, allow_nan=False))
