"""Volume, interval and coverage on images that get worse: noise, blur and lost resolution (Eaton-Rosen 2018, Fig. 4).

As an image gets worse, an honest interval widens and still holds the true volume; and the score of the input says that
it is worse.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from rtuncertainty.bundles import bundle, input_quality
from rtuncertainty.core import geometry
from rtuncertainty.core.surfaces import dice
from rtuncertainty.prediction import preprocess
from rtuncertainty.prediction.predict import LEVEL, predict
from rtuncertainty.uncertainty import volume_calibration

from ...core.files import replace_text

# noise: sd over the mean intensity of what is above a tenth of the range (the paper's percentages); blur: sd in mm;
# resolution: edge of a voxel over the image's own
STEPS = {"noise": (0.05, 0.1, 0.2, 0.4), "blur": (1.0, 2.0, 3.0, 4.0), "resolution": (1.5, 2.0, 3.0, 4.0)}
NONE = {"noise": 0.0, "blur": 0.0, "resolution": 1.0}


@dataclass(frozen=True)
class NoiseCase:
    """A patient's image and the true structures on its grid (0 or 1), by name."""

    patient: str
    image: sitk.Image
    structures: dict[str, sitk.Image]


@dataclass(frozen=True)
class NoiseRow:
    """One structure on one degraded image; ml; `score` is that of `input_quality`, NaN where the card does not know
    its images.
    """

    kind: str
    amount: float
    patient: str
    structure: str
    volume_ml: float
    lower_ml: float
    upper_ml: float
    calibrated: bool
    true_ml: float
    dice: float
    expected_dice: float
    score: float

    @property
    def held(self) -> bool:
        """Whether the interval holds the true volume."""
        return self.lower_ml - 1e-9 <= self.true_ml <= self.upper_ml + 1e-9


def of_organs(case) -> NoiseCase:
    """A prepared CT with organs (`data.organ_case.OrganCase`), those that were drawn."""
    image, structures = sitk.GetImageFromArray(case.hu), {}
    image.SetSpacing(case.spacing)
    for name in case.present:
        structures[name] = geometry.like(case.labels == 1 + case.classes.index(name), image, np.uint8)
    return NoiseCase(case.patient, image, structures)


def degraded(image: sitk.Image, kind: str, amount: float, seed: int = 0) -> sitk.Image:
    """The image (float32) with `amount` of "noise", "blur" or lost "resolution", see `STEPS`; on its own grid.

    An image without negative values stays so. Raises `ValueError` for an unknown kind.
    """
    if kind not in STEPS:
        raise ValueError(f"'{kind}' is none of {', '.join(STEPS)}")
    image = sitk.Cast(image, sitk.sitkFloat32)
    if amount == NONE[kind]:
        return image
    array = sitk.GetArrayFromImage(image)
    lowest = float(array.min())
    if kind == "noise":
        background, top = np.percentile(array, [1, 99])
        foreground = array[array > background + 0.1 * (top - background)]
        sd = amount * float(foreground.mean() - background)
        array = array + sd * np.random.default_rng(seed).standard_normal(array.shape).astype(np.float32)
    elif kind == "blur":
        array = ndimage.gaussian_filter(array, [amount / s for s in image.GetSpacing()[::-1]], mode="nearest")
    else:
        coarse = geometry.resampled_grid(image, [amount * s for s in image.GetSpacing()])
        array = sitk.GetArrayFromImage(
            geometry.resample(geometry.resample(image, coarse, background=lowest), image, background=lowest)
        )
    return geometry.like(np.maximum(array, 0) if lowest >= 0 else array, image)


def run(
    model: Path,
    cases: Iterable[NoiseCase],
    out: Path,
    steps: dict | None = None,
    samples: int = 20,
    seed: int = 0,
    device: str = "auto",
    bias_field: str = "off",
) -> Path:
    """Predict all cases as they are and in all `steps` with the bundle `model`; returns `out`/noise.json, for
    `volume_tables`.
    """
    card, rows = bundle.read_card(bundle.find(model)), []
    for case in cases:
        for kind, amounts in (steps or STEPS).items():
            for amount in (NONE[kind], *amounts):
                image = degraded(case.image, kind, amount, seed)
                found = predict(image, model, samples=samples, seed=seed, device=device, bias_field=bias_field)
                rows += _rows(case, kind, amount, found, _score(image, card, bias_field))
    out.mkdir(parents=True, exist_ok=True)
    plain = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(r).items()} for r in rows]
    return replace_text(
        out / "noise.json", json.dumps({"model": card["name"], "level": LEVEL, "rows": plain}, allow_nan=False)
    )


def _score(image: sitk.Image, card: dict, bias_field: str) -> float:
    stored = card["input"].get("statistics")
    if not stored:
        return math.nan
    ready = preprocess.for_card(image, card, bias_field)
    return input_quality.score(
        sitk.GetArrayViewFromImage(ready.image),
        sitk.GetArrayViewFromImage(ready.body) > 0,
        ready.image.GetSpacing(),
        stored,
    )


def _rows(case: NoiseCase, kind: str, amount: float, found, score: float) -> list[NoiseRow]:
    labels = sitk.GetArrayViewFromImage(found.structures)
    label_of = {s["name"]: s["label"] for s in found.card["outputs"]["structures"]}
    calibration, ml = volume_calibration.of_card(found.card), float(np.prod(case.image.GetSpacing())) / 1000
    rows = []
    for assessed in found.assessed:
        if assessed.name not in case.structures:
            continue
        truth = sitk.GetArrayViewFromImage(case.structures[assessed.name]) > 0
        i = calibration.interval(assessed.distribution, LEVEL)
        rows.append(
            NoiseRow(
                kind,
                float(amount),
                case.patient,
                assessed.name,
                assessed.distribution.volume_ml,
                i.lower,
                i.upper,
                i.calibrated,
                float(truth.sum()) * ml,
                dice(labels == label_of[assessed.name], truth),
                assessed.quality.expected_dice,
                score,
            )
        )
    return rows


def read_rows(path: Path) -> list[NoiseRow]:
    """What `run` wrote. Raises `SystemExit` for a file that is missing or damaged."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))["rows"]
        return [NoiseRow(**{k: math.nan if v is None else v for k, v in r.items()}) for r in found]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path} is missing or damaged ({error}); run the experiment again.") from None


def curves(rows: list[NoiseRow]) -> dict[str, list[dict]]:
    """{kind: a dict for each amount, rising}: n, medians over structures of volume / true volume, interval width / true
    volume, Dice and expected Dice, the part of intervals that hold the truth (coverage), and the mean score of the
    inputs. Structures without a true volume do not count."""
    found: dict[str, list[dict]] = {}
    for kind in dict.fromkeys(r.kind for r in rows):
        for amount in sorted({r.amount for r in rows if r.kind == kind}):
            mine = [r for r in rows if (r.kind, r.amount) == (kind, amount) and r.true_ml > 0]
            if mine:
                found.setdefault(kind, []).append(
                    {
                        "amount": amount,
                        "n": len(mine),
                        "volume": _median(r.volume_ml / r.true_ml for r in mine),
                        "width": _median((r.upper_ml - r.lower_ml) / r.true_ml for r in mine),
                        "coverage": float(np.mean([r.held for r in mine])),
                        "dice": _median(r.dice for r in mine),
                        "expected_dice": _median(r.expected_dice for r in mine),
                        "score": float(np.mean([r.score for r in mine])),
                    }
                )
    return found


def _median(values) -> float:
    known = [v for v in values if math.isfinite(v)]
    return float(np.median(known)) if known else math.nan
