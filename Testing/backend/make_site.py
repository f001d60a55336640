"""A pretended clinic: digital limbs with results of a pretended model, whose errors are known by construction.

The model's 90 % intervals are right on patients like those of its card. A site may differ: `noise` multiplies the
errors of HU and volumes (and the noise of the images), `bone` the density of the truth's bone, `contrast` multiplies
what is brighter than muscle (below 0: fat turns dark).
"""

import math
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from rtuncertainty.bundles import input_quality
from rtuncertainty.commissioning import Reference, of_result
from rtuncertainty.commissioning.constancy import measured
from rtuncertainty.core.structure_set import Structure, of_labels
from rtuncertainty.phantoms.limb import digital_limb
from rtuncertainty.results import Result
from rtuncertainty.uncertainty.hu_calibration import Recalibration, gaussian_factor
from rtuncertainty.uncertainty.volume_distribution import PERCENTILES
from training.data.prepare.input_statistics import of_images

SIZE, SPACING = (64, 64, 6), (2.5, 2.5, 6.0)
STRUCTURES = [
    {"name": "bone", "label": 1, "color": [241, 214, 145]},
    {"name": "gtv", "label": 2, "color": [221, 40, 60]},
]
# SD of the pretended model's error in HU at an HU, and of its volumes in log
SD_HU, SD_LOG = ((-1000.0, 0.0, 1500.0), (20.0, 20.0, 120.0)), 0.06


@dataclass
class Site:
    """How a site differs from the card's patients."""

    noise: float = 1.0
    bone: float = 1.0
    contrast: float = 1.0


def as_network(limb, contrast: float = 1.0):
    """(volume, body, spacing) of a limb's MR as a network sees it."""
    mr, body = sitk.GetArrayFromImage(limb.mr).astype(np.float32), sitk.GetArrayFromImage(limb.ct) > -300
    muscle = np.percentile(mr[body], 40)
    mr = np.where(mr > muscle, muscle + contrast * (mr - muscle), mr)
    return (mr - mr[body].mean()) / mr[body].std(), body, limb.mr.GetSpacing()


def limb_of(seed: int, noise: float = 1.0):
    return digital_limb(seed, size=SIZE, spacing=SPACING, noise=0.008 * noise, ct_noise=0.0)


def card(training: int = 20) -> dict:
    """The card of the pretended model, calibrated on patients like those of `Site()`."""
    recalibration = Recalibration(
        [-600.0, 50.0, 1100.0],
        [1.0, 1.0, 1.0],
        [0.0, 0.0, 0.0],
        {k / 20: gaussian_factor(k / 20) for k in range(1, 20)},
    )
    return {
        "name": "pretended",
        "version": "1.0.0",
        "title": "Pretended model",
        "task": "synthetic CT and segmentation",
        "input": {
            "modality": "MR",
            "statistics": of_images(as_network(limb_of(1000 + k)) for k in range(training)),
        },
        "outputs": {"synct": {"scale": 1.0, "offset": 0.0}, "structures": STRUCTURES},
        "weights": {"file": "weights.pt", "sha256": "0" * 64},
        "training": {"cases": training, "phantom": True},
        "accuracy": {"cases": "digital limbs", "n": 10, "table": {"MAE body (HU)": 20.0, "MAE bone (HU)": 69.0}},
        "calibration": {
            "synct": {"n": 10, "z_mean": 0.0, "z_sd": 1.0, "recalibration": recalibration.as_card()},
            "volumes": None,
            "quality": None,
            "flags": None,
        },
        "intended_use": "Tests only.",
        "licence": "Apache-2.0",
    }


def patient(seed: int, site: Site, model: dict) -> tuple[Result, Reference]:
    """A digital limb at a site: what the pretended model says of it, and the truth."""
    rng, limb = np.random.default_rng(seed), limb_of(seed, site.noise)
    believed = sitk.GetArrayFromImage(limb.ct).astype(float)
    labels = sitk.GetArrayFromImage(limb.labels)
    body = believed > -300
    sd = np.interp(believed, *SD_HU)
    synct = np.where(body, believed + sd * site.noise * rng.standard_normal(sd.shape), believed)
    truth = np.where(labels == 1, (believed + 1000) * site.bone - 1000, believed)

    def image(array, dtype=np.float32):
        made = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype))
        made.CopyInformation(limb.ct)
        return made

    volumes, distribution, quality = [], [], []
    ml = float(np.prod(SPACING)) / 1000
    for s in STRUCTURES:
        real = float((labels == s["label"]).sum()) * ml
        shown = real * math.exp(SD_LOG * site.noise * rng.standard_normal())
        at = [shown * math.exp(0.3 * SD_LOG * _normal(q / 100)) for q in PERCENTILES]
        half = SD_LOG * gaussian_factor(0.9)
        ends = (shown * math.exp(-half), shown * math.exp(half))
        volumes.append([s["name"], f"{shown:.3f}", *(f"{e:.3f}" for e in ends), "0.9", "yes"])
        distribution += [[s["name"], f"{q:g}", f"{v:.3f}", ""] for q, v in zip(PERCENTILES, at)]
        quality.append([s["name"], "0.9", "", "", "no", "0.3"])
    columns = {
        "volumes": ("structure", "volume_ml", "lower_ml", "upper_ml", "level", "calibrated"),
        "volume_distribution": ("structure", "percentile", "volume_ml", "calibrated_ml"),
        "quality": ("structure", "expected_dice", "dice_lower", "dice_upper", "calibrated", "surface_entropy"),
    }
    rows = {"volumes": volumes, "volume_distribution": distribution, "quality": quality}
    likeness = input_quality.likeness(*as_network(limb, site.contrast), model)
    result = Result(
        {
            "job": "predict",
            "model": model,
            "likeness": likeness,
            "interval_factor": gaussian_factor(0.9),
            "structures": STRUCTURES,
            "created": f"2026-01-{seed % 28 + 1:02}T00:00:00+00:00",
        },
        {
            "synct": image(np.rint(synct).clip(-1024, 3071), np.int16),
            "predictive_sd": image(np.where(body, sd, 0)),
            "body": image(body, np.uint8),
            "structures": of_labels(limb.labels, STRUCTURES),
            **{key: [dict(zip(columns[key], row, strict=True)) for row in own] for key, own in rows.items()},
        },
    )
    drawn = {
        s["name"]: Structure(s["name"], sitk.Equal(limb.labels, s["label"]), tuple(s["color"])) for s in STRUCTURES
    }
    return result, Reference(image(truth), drawn)


def _normal(p: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(p))


def evidence(seeds, site: Site, model: dict):
    """([evidence], [what charts show]) of patients of a site. The truth of a volume is that of the mask."""
    found, charts = [], []
    for seed in seeds:
        result, reference = patient(seed, site, model)
        found.append(of_result(f"patient {seed}", result, reference))
        charts.append(measured(result))
    return found, charts
