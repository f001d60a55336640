"""Whether the uncertainty map alone tells how good a contour is: of a bundle, on its validation scans as they are and
made worse.

Every predictor (`few_labels_flags.FLAGS`) is a number derived from the maps of the dropout samples (mean probability,
its variance, entropy) and the contour that they give; neither the image nor the truth is looked at. With few validation
scans hardly any contour is bad. So that there are bad ones, the same scans are segmented again with noise and blur
(`STEPS`), and every figure is given for the scans as they
are and for all: that a bad image is told from a good one is easier than telling two good ones apart. In a fit the scans
as they are weigh as much as all worse ones together. All scans of a patient stay together wherever something is fitted
or left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtuncertainty.bundles import bundle
from rtuncertainty.core import structures
from rtuncertainty.core.ct import UNIT, WINDOW
from rtuncertainty.networks.uncertainty import entropy
from rtuncertainty.prediction import preprocess
from rtuncertainty.sampling.inference import choose_device
from rtuncertainty.uncertainty import volume_assessment
from rtuncertainty.uncertainty.fit import conformal, volume_card
from rtuncertainty.uncertainty.fit import flags as flag_thresholds
from rtuncertainty.uncertainty.fit import quality as quality_calibration
from rtuncertainty.uncertainty.fit import volumes as volume_calibration
from rtuncertainty.uncertainty.fit.volumes import VolumeRow
from rtuncertainty.uncertainty.quality import QualityCalibration
from rtuncertainty.uncertainty.volumes import probability_of_being_inside

from ...core import provenance
from ...core.files import replace_text
from ...data import scan
from ...data.prepare import scans
from ...evaluation import few_labels, kept
from ...run import joined
from ..volumes import noise

STEPS = {"noise": (0.1, 0.2, 0.4), "blur": (2.0, 4.0)}
AS_IT_IS = "none"
UNITS = {
    "noise": ("noise of", 100, "% of the mean intensity"),
    "blur": ("blur of", 1, "mm (sd)"),
    "resolution": ("voxels", 1, "times as large"),
}
# of the interval of the expected Dice; the first for which there are patients enough
LEVELS = (0.9, 0.8, 0.68)
# with fewer not even the last of them can be had, and volumes are not calibrated either
LEAST_PATIENTS = 6
# the number of the uncertainty map that is calibrated, chosen before any result
CHOSEN = "expected_dice"
# of "the Dice of a case below this is bad"
BAD = quality_calibration.BAD


@dataclass(frozen=True)
class QualityRow:
    """One contour. `kind`, `amount`: how the scan was made worse, see `STEPS`; `told`: `few_labels_eval.summaries`,
    with the true "dice".
    """

    case: str
    patient: str
    kind: str
    amount: float
    summary: dict
    volume: VolumeRow

    @property
    def clean(self) -> bool:
        """Whether the scan is as it came."""
        return self.kind == AS_IT_IS


def run(
    prepared: Path,
    run_folder: Path | Sequence[Path],
    model: Path,
    out: Path,
    samples: int = few_labels.SAMPLES,
    device: str = "auto",
    steps=None,
    unseen: bool = False,
    until: float | None = None,
) -> Path:
    """Contours of the bundle `model` of `run_folder` on that run's validation scans, as they are and in all `steps`;
    `out`/quality.json.

    What was found before for these weights and samples is kept.
    """
    card, built = bundle.load(model, choose_device(device))
    steps, file = STEPS if steps is None else steps, out / "quality.json"
    mark = {
        "format": 1,
        "weights_sha256": card["weights"]["sha256"],
        "samples": samples,
        "steps": {k: list(v) for k, v in steps.items()},
        "structure": card["outputs"]["structures"][0]["name"],
    }
    if file.exists() and {k: v for k, v in json.loads(file.read_text(encoding="utf-8")).items() if k != "rows"} == mark:
        return file
    patients = {r["case"]: r.get("patient") or r["case"] for r in scans.rows_in_order(prepared / "prepare.csv")}
    rows = []
    names = joined.sides(run_folder).validation
    scored = provenance.require_unseen(card, prepared, names, unseen)
    store = kept.Kept(out / "worse", {k: mark[k] for k in ("weights_sha256", "samples", "steps")}, until)
    for number, name in enumerate(names):

        def found_of(name=name, number=number):
            case, networks = scan.load(prepared / "scans" / f"{name}.npz"), provenance.may_score(built, scored, name)
            mine = []
            for kind, amount in [(AS_IT_IS, 0.0), *((k, a) for k, amounts in steps.items() for a in amounts)]:
                worse = degraded(case, kind, amount, card["input"]["normalisation"], number)
                mine.append(asdict(_row(networks, card, worse, patients[name], kind, amount, samples, number)))
            return {"rows": mine}, {}

        plain, _ = store.of(name, found_of, seed=number, hashes=scored["scored"][name])
        for r in plain["rows"]:
            volume = VolumeRow(**{**r["volume"], "ml": tuple(r["volume"]["ml"]), **provenance.fold_of(scored, name)})
            rows.append(QualityRow(**{**r, "volume": volume}))
        print(
            f"{name}: Dice {rows[-1 - sum(map(len, steps.values()))].summary['dice']:.3f}, made worse "
            + ", ".join(f"{r.summary['dice']:.3f}" for r in rows if r.case == name and not r.clean),
            flush=True,
        )
    out.mkdir(parents=True, exist_ok=True)
    return replace_text(file, json.dumps(mark | {"rows": [_plain(asdict(r)) for r in rows]}, allow_nan=False))


def degraded(case: scan.Scan, kind: str, amount: float, normalisation: str, seed: int = 0) -> scan.Scan:
    """The scan with `amount` of "noise" or "blur" (`noise_experiment.degraded`) on its working voxels, scaled again
    as `predict` would.
    """
    if kind == AS_IT_IS:
        return case
    image = sitk.GetImageFromArray(case.image)
    image.SetSpacing(case.spacing)
    worse = noise.degraded(image, kind, amount, seed)
    if normalisation == preprocess.HOUNSFIELD:
        array = sitk.GetArrayFromImage(worse).clip(*(w / UNIT for w in WINDOW))
    else:
        body = np.ones(case.image.shape, np.uint8) if case.body is None else case.body.astype(np.uint8)
        mask = sitk.GetImageFromArray(body)
        mask.CopyInformation(worse)
        array = sitk.GetArrayFromImage(preprocess.z_score(worse, mask, case.name)[0])
    return replace(case, image=np.ascontiguousarray(array, np.float32))


def _row(network, card, case, patient, kind, amount, samples, seed) -> QualityRow:
    s = card["outputs"]["structures"][0]
    rule, truth, ml = s.get("rule") or {}, case.labels > 0, float(np.prod(case.spacing)) / 1000
    found = few_labels.sampled(network, case, samples, seed)
    summary = few_labels.summaries(found, truth, rule, case.spacing)
    mean, entropy_map = found.probability.numpy().swapaxes(0, 1), entropy(found.probability)[:, 0].numpy()
    labelled = structures.tidy(mean.argmax(0) > 0, rule, ml)
    grid = sitk.GetImageFromArray(labelled.astype(np.uint8))
    grid.SetSpacing(case.spacing)
    inside = probability_of_being_inside(mean[1], np.maximum(found.probability_variance.numpy()[:, 1], 0))
    got = volume_assessment.assess(s["name"], inside, mean[1], labelled, entropy_map, grid, {"calibration": {}}, rule)
    volume = VolumeRow(
        "",
        patient,
        s["name"],
        tuple(got.distribution.ml),
        float(truth.sum()) * ml,
        True,
        case.name,
        summary["dice"],
        summary["expected_dice"],
        summary["surface_entropy"],
    )
    return QualityRow(case.name, patient, kind, float(amount), summary, volume)


def _plain(value):
    """NaN as null, in a tree of dicts and lists."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read(file: Path) -> list[QualityRow]:
    """What `run` wrote. Raises `SystemExit` for a file that is missing or damaged."""

    def number(v):
        return math.nan if v is None else v

    try:
        rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
        return [
            QualityRow(
                r["case"],
                r["patient"],
                r["kind"],
                r["amount"],
                {k: number(v) for k, v in r["summary"].items()},
                VolumeRow(**{**{k: number(v) for k, v in r["volume"].items()}, "ml": tuple(r["volume"]["ml"])}),
            )
            for r in rows
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{file} is missing or damaged ({error}); evaluate again.") from None


def words(rows: list[QualityRow]) -> str:
    """What the rows are of: "scans as they are, and with noise of 10, 20, 40 % …"."""
    kinds: dict[str, list[str]] = {}
    for r in rows:
        if not r.clean:
            amount = f"{UNITS[r.kind][1] * r.amount:g}"
            kinds.setdefault(r.kind, [])
            kinds[r.kind] += [amount] if amount not in kinds[r.kind] else []
    worse = " and ".join(f"{UNITS[k][0]} {', '.join(amounts)} {UNITS[k][2]}" for k, amounts in kinds.items())
    return "scans as they are" + (f", and again with {worse}" if worse else "")


def arrays(rows: list[QualityRow]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(expected Dice, Dice, patients) of rows in which something was found."""
    return (
        np.array([r.summary[CHOSEN] for r in rows]),
        np.array([r.summary["dice"] for r in rows]),
        np.array([r.patient for r in rows]),
    )


def found_in(rows: list[QualityRow]) -> list[QualityRow]:
    """The rows that have a contour to tell of."""
    return [r for r in rows if math.isfinite(r.summary[CHOSEN]) and math.isfinite(r.summary["dice"])]


def weighed(rows: list[QualityRow]) -> list[QualityRow]:
    """The rows, those of scans as they are so often that they weigh half of a patient: most scans of a clinic are
    like them.
    """
    worse = max(1, len({(r.kind, r.amount) for r in rows if not r.clean}))
    return [r for r in rows for _ in range(worse if r.clean else 1)]


def mapping(rows: list[QualityRow]) -> QualityCalibration | None:
    """`quality_calibration.fit` of the `weighed` rows at the highest of `LEVELS` for which there are patients
    enough; None for none of them.
    """
    known = found_in(rows)
    if len(known) < quality_calibration.LEAST:
        return None
    fits = (quality_calibration.fit(*arrays(weighed(known)), level) for level in LEVELS)
    found = next((f for f in fits if f is not None), None)
    return found and replace(found, cases=len(known), scores={})


def left_out(rows: list[QualityRow]) -> np.ndarray:
    """The mapped Dice of every row (all with a contour), by a map fitted on the other patients; NaN where there are
    none.
    """
    predictor, _, patients = arrays(rows)
    mapped = np.full(len(rows), math.nan)
    for name in dict.fromkeys(patients.tolist()):
        others = weighed([r for r in rows if r.patient != name])
        if others:
            x, y, names = arrays(others)
            mapped[patients == name] = np.interp(
                predictor[patients == name], *quality_calibration.isotonic(x, y, conformal.weights(names))
            )
    return mapped


def scores(rows: list[QualityRow]) -> dict[str, dict]:
    """{"as they are", "made worse", "all"}: figures of the expected Dice for these contours, each mapped by a map
    fitted on the other patients.

    n, bad, scans; not_found (scans in which no voxel was likely the structure, which has a flag of its own and no
    expected Dice); spearman; auroc with its bootstrap interval (auroc_low, auroc_high; patients are drawn); mae of the
    mapped Dice and mae_of_mean, that of the other patients' mean over the same kind of rows; level, held: the part of
    intervals that hold the Dice, each fitted without its patient at the highest of `LEVELS` that the others allow. NaN
    for what is not defined.
    """
    known, lost = found_in(rows), [r.clean for r in rows if not math.isfinite(r.summary[CHOSEN])]
    predictor, dice, patients = arrays(known)
    clean, mapped = np.array([r.clean for r in known], bool), left_out(known)
    held, level = np.full(len(dice), math.nan), math.nan
    for name in dict.fromkeys(patients.tolist()):
        mine, other = patients == name, mapping([r for r in known if r.patient != name])
        if other is not None:
            level = other.level
            held[mine] = [other.apply(p)[1] <= d <= other.apply(p)[2] for p, d in zip(predictor[mine], dice[mine])]
    not_found, out = {"as they are": sum(lost), "made worse": len(lost) - sum(lost), "all": len(lost)}, {}
    for title, which in (("as they are", clean), ("made worse", ~clean), ("all", np.ones(len(dice), bool))):
        if not which.any():
            continue
        summary, d, names = predictor[which], dice[which], patients[which]
        low, high = quality_calibration.auroc_interval(summary, d < BAD, names)
        means = [d[names != n].mean() if (names != n).any() else math.nan for n in names]
        out[title] = {
            "n": len(d),
            "bad": int((d < BAD).sum()),
            "not_found": not_found[title],
            "scans": len(set(names.tolist())),
            "spearman": quality_calibration.spearman(summary, d),
            "auroc": quality_calibration.auroc(summary, d < BAD),
            "auroc_low": low,
            "auroc_high": high,
            "mae": float(np.abs(d - mapped[which]).mean()),
            "mae_of_mean": float(np.abs(d - means).mean()),
            "level": level,
            "held": float(np.mean(held[which])),
        }
    return out


def for_card(rows: list[QualityRow]) -> dict:
    """The card's `calibration`: quality and flags from all rows, volumes from the scans as they are; None where nothing
    could be fitted or validated.

    The scores of expected Dice on the scans as they are stand beside those of all, with what the rest was made of.
    """
    known, clean = found_in(rows), [r.volume for r in rows if r.clean]
    enough = len({v.patient for v in volume_calibration.usable(clean)}) >= LEAST_PATIENTS
    volumes, fitted = volume_card.fit(clean).volumes if enough else None, mapping(rows)
    if fitted is None:
        return {"volumes": volumes, "quality": None, "flags": None}
    summary = {
        k: {n: None if isinstance(v, float) and math.isnan(v) else round(v, 4) for n, v in s.items()}
        for k, s in scores(rows).items()
    }
    every = {("held_level" if k == "level" else k): v for k, v in summary["all"].items() if k != "scans"}
    quality = (
        fitted.as_card() | every | {"of": "dropout samples: mean probability and its contour", "images": words(rows)}
    )
    quality |= {"as_they_are": summary["as they are"]} if "as they are" in summary else {}
    # the flag sees the mapped number, so its limit is chosen on numbers mapped by other patients
    seen = {CHOSEN: left_out(known), "surface_entropy": np.array([r.summary["surface_entropy"] for r in known])}
    flags = flag_thresholds.flags_for_card(flag_thresholds.flags(seen, *arrays(known)[1:]))
    for entry in (flags or {}).values():
        entry["images"] = words(rows)
    return {"volumes": volumes, "quality": quality, "flags": flags}
