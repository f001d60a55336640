"""`python -m training evaluate`: a bundle against simple baselines on the validation patients, per patient.

Scores are taken on the prepared grid, in the CT's body where MR and CT were both measured, with the code that predicts:
what the body mask of the MR leaves out is air there, as it is for the user.
Writes evaluation.md, evaluation.csv, evaluation.json (for the card), rows.json (all numbers and curves, from which
`evaluation.compare` compares networks), figures and one picture per patient.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from rtuncertainty.bundles import bundle
from rtuncertainty.core.events import Progress
from rtuncertainty.core.structures import tidy_labels
from rtuncertainty.networks.uncertainty import entropy
from rtuncertainty.prediction import predict
from rtuncertainty.sampling import inference
from rtuncertainty.sampling.slices import Statistics
from rtuncertainty.uncertainty import edge, volume_assessment
from rtuncertainty.uncertainty.fit import hu as recalibration
from rtuncertainty.uncertainty.fit import volume_card
from rtuncertainty.uncertainty.fit.volumes import VolumeRow, usable
from rtuncertainty.uncertainty.volume_calibration import patients_needed
from rtuncertainty.uncertainty.volumes import probability_of_being_inside

from ..calibration.rows import write_rows
from ..core import provenance
from ..core.files import replace_text
from ..data.prepare import input_statistics
from ..data.prepare.synthesis import BONE_HU, Case, load_case
from ..run import joined
from . import kept, score
from .baselines import MonotoneMap
from .case import Evaluated
from .comparison import compare, figures, store, tables

MONOTONE, ZERO = BASELINES = ("monotone map", "body = 0 HU")
RECALIBRATED = ("z mean, recalibrated", "z sd, recalibrated", "within 90 %, recalibrated", "ECE, recalibrated")


def sampled(networks, case: Case, samples: int, seed: int = 0, device: str = "cpu") -> Statistics:
    """Statistics [z, c, y, x] of the networks' samples over a prepared case; 0 beyond its body's box."""
    box = predict.bounding_box(case.body)
    statistics, _, _ = inference.run(
        networks, np.ascontiguousarray(case.mr[box]), samples, seed, inference.choose_device(device), Progress()
    )
    return Statistics.unstacked(torch.nn.functional.pad(statistics.stacked(), _padding(box, case.mr.shape)))


def predict_case(networks, card, case: Case, samples: int, seed: int = 0, device: str = "cpu") -> dict:
    """What the networks say of a prepared case, `shown` of their samples (`sampled`).

    Args:
        networks: of `bundle.load`.
        card: of the model.
        case: the patient.
        samples: T.
        seed: of the masks.
        device: of torch.

    Returns:
        By the fields of `Evaluated`.
    """
    return shown(sampled(networks, case, samples, seed, device), card, case)


def _classes_fit(card, case: Case) -> bool:
    """Whether a network's classes are those that the patients were labelled with."""
    return [s["name"] for s in card["outputs"]["structures"]] == [name for name, value in case.classes.items() if value]


def shown(statistics: Statistics, card, case: Case) -> dict:
    """What the networks say of a prepared case, by the fields of `Evaluated`: synCT and SDs (HU), probabilities
    [K, z, y, x], labels. Entries are None for what a network does not give: a synCT, an SD that is 0 everywhere,
    classes.
    """
    if "synct" not in card["outputs"]:
        nothing = {"synct": None, "sd": None, "intrinsic_sd": None, "parameter_sd": None}
        return nothing | _classes(statistics, card, case)
    scale, offset = card["outputs"]["synct"]["scale"], card["outputs"]["synct"]["offset"]
    q = edge.probability(case.body, case.valid, case.spacing)
    intrinsic, parameter = (v.numpy()[:, 0] * scale**2 for v in (statistics.intrinsic, statistics.parameter))
    reported = intrinsic.any() or parameter.any()
    synct, intrinsic, parameter, total = edge.applied(
        q if reported else 0 * q,
        case.body,
        statistics.mean.numpy()[:, 0] * scale + offset,
        intrinsic,
        parameter,
        predict.AIR,
    )
    found = {"sd": total, "intrinsic_sd": intrinsic, "parameter_sd": parameter}
    return {
        "synct": synct,
        **_classes(statistics, card, case),
        **{name: np.sqrt(variance) if variance.any() else None for name, variance in found.items()},
    }


def _classes(statistics: Statistics, card: dict, case: Case) -> dict:
    """`probability` [K, z, y, x] and `labels`; no channel and None where the network's classes are not what the
    patients were labelled with.
    """
    probability, labels = statistics.probability.numpy().swapaxes(0, 1), None
    if not _classes_fit(card, case):
        probability = probability[:0]
    if len(probability):
        likeliest = np.where(case.body, probability.argmax(0), 0)
        labels = tidy_labels(likeliest, card["outputs"]["structures"], np.prod(case.spacing) / 1000)
    return {"probability": probability, "labels": labels}


def volume_rows(network: str, statistics: Statistics, found: Evaluated, card: dict, patient: str) -> list[VolumeRow]:
    """One row for each structure of the card: the distribution of its volume and the true volume, both where MR and CT
    were measured. A structure without a voxel there is none; nothing of a network whose classes are others.
    """
    case, rows = found.case, []
    if found.labels is None or not _classes_fit(card, case):
        return []
    inside = case.body & case.valid
    mean, variance = (v.numpy().swapaxes(0, 1) for v in (statistics.probability, statistics.probability_variance))
    doubt = entropy(statistics.probability)[:, 0].numpy()
    grid = sitk.GetImageFromArray(found.labels.astype(np.uint8))
    grid.SetSpacing(tuple(float(s) for s in case.spacing))
    ml = float(np.prod(case.spacing)) / 1000
    for k, s in enumerate(card["outputs"]["structures"], 1):
        truth = (case.labels == case.classes[s["name"]]) & case.valid
        labelled = (found.labels == s["label"]) & inside
        p, v = mean[k] * inside, np.maximum(variance[k], 0) * inside
        got = volume_assessment.assess(
            s["name"], probability_of_being_inside(p, v), p, labelled, doubt, grid, {"calibration": {}}, s.get("rule")
        )
        size = int(labelled.sum() + truth.sum())
        rows.append(
            VolumeRow(
                network,
                patient,
                s["name"],
                tuple(got.distribution.ml),
                float(truth.sum()) * ml,
                bool(truth.any()),
                case.name,
                2 * int((labelled & truth).sum()) / size if truth.any() else math.nan,
                got.quality.expected_dice,
                got.quality.surface_entropy,
            )
        )
    return rows


def _padding(box, shape) -> tuple:
    """What `torch.nn.functional.pad` needs to bring [z, c, y, x] of a box back to a volume of `shape` [z, y, x]."""
    (z, y, x), (depth, height, width) = box, shape
    return (x.start, width - x.stop, y.start, height - y.stop, 0, 0, z.start, depth - z.stop)


def certain(case: Case) -> np.ndarray:
    """Where a recalibration of the network's SDs is fitted: what is scored, away from the edge of the body, whose
    variance is not the network's.

    Args:
        case: the patient.

    Returns:
        bool [z, y, x].
    """
    where = case.region & case.body & (edge.probability(case.body, case.valid, case.spacing) <= edge.CERTAIN)
    return where if where.any() else case.region


def every_nth_slice(case: Case, every: int) -> Case:
    """A case with fewer slices, from the middle of the first such group on.

    Args:
        case: the patient.
        every: one slice in so many stays.

    Returns:
        With its spacing.
    """
    kept = slice((every - 1) // 2, None, every)
    arrays = {k: getattr(case, k) for k in ("mr", "ct", "labels", "body", "valid", "ct_body")}
    arrays = {k: None if a is None else a[kept] for k, a in arrays.items()}
    return replace(case, **arrays, spacing=(*case.spacing[:2], case.spacing[2] * every))


def fit_monotone(prepared: Path, names: list[str]) -> MonotoneMap:
    """The best monotone map from MR intensity to HU on some patients, as many voxels of each so that no large one
    decides.

    Args:
        prepared: the prepared folder.
        names: of the patients.

    Returns:
        The map.
    """
    rng = np.random.default_rng(0)
    intensities, hu = [], []
    for name in names:
        case = load_case(prepared / "cases" / f"{name}.npz")
        voxels = np.flatnonzero(case.region)
        voxels = rng.choice(voxels, min(50_000, len(voxels)), replace=False)
        intensities.append(case.mr.ravel()[voxels])
        hu.append(case.ct.ravel()[voxels])
    return MonotoneMap().fit(np.concatenate(intensities), np.concatenate(hu))


def run(
    prepared: Path,
    run_folder: Path | Sequence[Path],
    model: Path,
    out: Path,
    samples: int = 20,
    device: str = "auto",
    every: int = 1,
    unseen: bool = False,
    until: float | None = None,
) -> Path:
    """Evaluates a bundle on the validation patients of its run.

    The uncertainty is scored as the network gives it, and recalibrated on the other patients (leave one out); what is
    fitted on all of them goes into evaluation.json, for the card, with what calibrates the volumes of structures
    (volumes.json has their rows, for `calibrate`).

    Args:
        prepared: the prepared folder.
        run_folder: of the training; of the folds of a study (`joined.runs`) every patient is scored by the checkpoints
            that have not seen him.
        model: the bundle.
        out: where to.
        samples: T.
        device: auto, cpu, cuda, cuda:n.
        every: one slice in so many, where time is short.
        unseen: see `provenance.require_unseen`.
        until: see `kept.Kept`.

    Returns:
        evaluation.md.

    Raises:
        SystemExit: patients are on both sides, none validates, or one was trained on.
    """
    out.mkdir(parents=True, exist_ok=True)
    card, networks = bundle.load(model)
    sides = joined.sides(run_folder)
    where = sides.folders[0] / "split.json"
    if len(sides.folders) == 1 and set(sides.training) & set(sides.validation):
        raise SystemExit(f"{where}: patients are in training and validation.")
    if not sides.validation:
        raise SystemExit(f"{where}: no patient was kept for validation; train with more patients or folds.")
    scored = provenance.require_unseen(card, prepared, sides.validation, unseen)
    synthetic = "synct" in card["outputs"]
    # patients of a network that only segments may have no CT; where they have one, the tables of all networks are alike
    everybody = dict.fromkeys(sides.training + sides.validation)
    with_ct = synthetic or all(load_case(prepared / "cases" / f"{n}.npz").ct is not None for n in everybody)
    # what is fitted to a single pass would be applied to samples
    fits = samples > 1 or not card["dropout"]["p"]
    # a baseline has seen as few patients as the network has
    monotone = [fit_monotone(prepared, s["training"]) for s in sides.splits] if with_ct else []
    patients = provenance.patients(prepared)
    store_of_cases = kept.Kept(out, {"samples": samples, "every": every}, until)
    weights = [kept.weights_of(n) for n in networks]
    records, baselines, voxels, rows = {}, {name: {} for name in BASELINES if with_ct}, [], []
    reported = ("MAE body", "MAE bone > 200 HU", "Dice synCT > 250 HU", "z sd", "AUSE", "ECE")
    for name in sides.validation:

        def found_of(name=name):
            case = every_nth_slice(load_case(prepared / "cases" / f"{name}.npz"), every)
            statistics = sampled(provenance.may_score(networks, scored, name), case, samples, device=device)
            found, simple, drawn = Evaluated(name, case, **shown(statistics, card, case)), {}, {}
            if with_ct:
                map_of = monotone[sides.of[name]]
                simple = {
                    MONOTONE: np.where(case.body, map_of(case.mr), predict.AIR),
                    ZERO: np.where(case.body, np.float32(0), np.float32(predict.AIR)),
                }
            if synthetic:
                picture(found, map_of, out / f"{name}.png")
            if synthetic and fits:
                drawn = asdict(
                    recalibration.Patient.drawn(
                        found.synct, case.ct, found.intrinsic_sd, found.parameter_sd, certain(case)
                    )
                )
            mine = volume_rows(card["name"], statistics, found, card, patients.get(name, name))
            return {
                "record": score.record(found),
                "baselines": {k: score.record(Evaluated(name, case, synct)) for k, synct in simple.items()},
                "volumes": [asdict(r) for r in mine],
            }, drawn

        mine = provenance.may_score(weights, scored, name)
        plain, arrays = store_of_cases.of(name, found_of, hashes=scored["scored"][name], weights=mine)
        records[name] = plain["record"]
        if arrays:
            voxels.append(recalibration.Patient(**arrays))
        for baseline, record in plain["baselines"].items():
            baselines[baseline][name] = record
        rows += [VolumeRow(**{**r, "ml": tuple(r["ml"]), **provenance.fold_of(scored, name)}) for r in plain["volumes"]]
        row = records[name]["row"]
        told = reported if synthetic else tuple(c for c in row if "Dice" in c and not math.isnan(row[c]))
        print(name, {k: round(row[k], 2) for k in told}, flush=True)
    for record in (r for rows in (records, *baselines.values()) for r in rows.values()):
        record["row"].update(dict.fromkeys(RECALIBRATED, math.nan))
    if len(voxels) > 1:
        for record, left_out in zip(records.values(), recalibration.leave_one_out(voxels)):
            record["row"].update(recalibrated_row(left_out))
    fitted = recalibration.fit(voxels) if voxels else None
    usual = input_statistics.of_cases(load_case(prepared / "cases" / f"{name}.npz") for name in sides.training)
    # of folds all were trained on by somebody, and nobody is scored by what was trained on him
    others = [] if provenance.joined(card) else sides.training
    store.write(out, card, samples, others, records, baselines)
    calibrated = _volumes(rows, card, out, scored, fits)
    return _write(
        store.gather({card["name"]: out}),
        card,
        round(np.mean([len(s["training"]) for s in sides.splits])),
        samples,
        out,
        None if fitted is None else fitted.as_card(),
        None if fitted is None else recalibration.mean_sd_range(fitted, voxels),
        every,
        {"input_statistics": usual} | scored,
        calibrated,
    )


def _volumes(rows: list[VolumeRow], card: dict, out: Path, scored: dict, fits: bool = True) -> volume_card.Calibrated:
    """volumes.json, and what the rows calibrate; nothing of fewer patients than an interval of 90 % needs, nor of rows
    that calibrate nothing (`fits`).
    """
    write_rows(rows, out / "volumes.json", weights_sha256=card["weights"]["sha256"], **scored)
    if not fits or len({r.patient for r in usable(rows)}) < patients_needed(volume_card.LEVEL):
        return volume_card.Calibrated(None, None, None, {})
    return volume_card.fit(rows)


def recalibrated_row(left_out: dict) -> dict:
    """The columns `RECALIBRATED` of a patient.

    Args:
        left_out: what `recalibration.leave_one_out` says.

    Returns:
        {column: number}.
    """
    coverage = left_out["coverage"]
    error = float(np.mean([abs(share - level) for level, share in coverage.items()]))
    return dict(zip(RECALIBRATED, (left_out["z mean"], left_out["z sd"], coverage[0.9], error)))


def summary_rows(networks: list[store.Network]) -> list[dict]:
    """The first table: one dict a patient, of the network and its baselines. Bone is where the CT exceeds 200 HU."""
    ours, names = networks[0], tables.structures(networks)
    rows = [{"case": case} for case in ours.cases]
    for network in networks:
        called = network.name if network.baseline else "ours"
        for row, scores in zip(rows, network.rows):
            row[f"MAE body, {called}"], row[f"MAE bone, {called}"] = scores["MAE body"], scores["MAE bone > 200 HU"]
    kept = (
        "Dice synCT > 250 HU",
        *(f"Dice {name}" for name in names),
        "tissue called air",
        "z mean",
        "z sd",
        "within 90 %",
        *RECALIBRATED[:3],
        "mean predictive SD",
    )
    for row, scores in zip(rows, ours.rows):
        row.update({k: scores[k] for k in kept if k in scores})
    return rows


def _write(
    networks, card, trained: int, samples, out, fitted, sd_range, every, more_of_it, calibrated: volume_card.Calibrated
) -> Path:
    rows = summary_rows(networks)
    columns = [c for c in rows[0] if c != "case"]
    digits = {c: 1 if c.startswith(("MAE", "mean")) else 4 if c == "tissue called air" else 2 for c in columns}
    body = [[r["case"], *(tables.cell([r[c]], digits[c]) for c in columns)] for r in rows]
    body.append(["**mean ± sd**", *(tables.cell([r[c] for r in rows], digits[c]) for c in columns)])
    lines = [
        f"# {card['name']} {card['version']} on {len(rows)} validation patients",
        f"Weights: {card['training']['steps']} steps on {trained} other patients"
        f"{' (mean of folds)' if provenance.joined(card) else ''}, "
        f"{card['training']['hardware']}. "
        f"{samples} samples, {'every slice' if every == 1 else f'one slice in {every}'}. MAE in HU, in the body that "
        "the CT shows, inside the field of view of "
        'MR and CT; bone is where the CT exceeds 200 HU. "Recalibrated": with scale, residual and interval factors '
        "fitted on the other "
        "validation patients, never on the patient of the row.",
        tables.markdown(["patient", *columns], body),
        tables.document(networks).strip(),
        compare.pictures(figures.write(networks, out)),
    ]
    # the columns of the first table, then all others of the network itself
    more = [c for c in networks[0].rows[0] if c not in rows[0]]
    replace_text(
        out / "evaluation.csv",
        tables.csv_text(
            ["case", *columns, *more],
            (
                [r["case"], *(r[c] for c in columns), *(scores[c] for c in more)]
                for r, scores in zip(rows, networks[0].rows)
            ),
        ),
    )
    made = for_card(rows, card, fitted, sd_range, more_of_it) | more_of_it
    made["calibration"] |= {k: v for k, v in calibrated.as_card().items() if v is not None}
    replace_text(
        out / "evaluation.json",
        json.dumps(
            made,
            indent=1,
            ensure_ascii=False,
            allow_nan=False,
        ),
    )
    return replace_text(out / "evaluation.md", "\n\n".join(lines) + "\n")


def for_card(
    rows: list[dict], card: dict, fitted: dict | None, sd_range: list[float] | None, scored: dict | None = None
) -> dict:
    """The figures that `export` writes into the card; those that the network does not have are left out.

    Args:
        rows: of `summary_rows`.
        card: of the model.
        fitted: the recalibration; None where there is nothing to recalibrate.
        sd_range: of the mean SD in the body, HU; None likewise.
        scored: of `provenance.require_unseen`.

    Returns:
        Entries of the card.
    """

    def mean(column, digits):
        values = [r[column] for r in rows if not math.isnan(r.get(column, math.nan))]
        return round(float(np.mean(values)), digits) if values else None

    shown = {
        "MAE body (HU)": "MAE body, ours",
        "MAE bone (HU)": "MAE bone, ours",
        **{c.replace("gtv", "tumour"): c for c in rows[0] if c.startswith("Dice") and "HU" not in c},
        "MAE body of the best monotone intensity map (HU)": f"MAE body, {MONOTONE}",
        "MAE bone of the best monotone intensity map (HU)": f"MAE bone, {MONOTONE}",
    }
    shown["share of the tissue called air"] = "tissue called air"
    table = {k: mean(c, 4 if c == "tissue called air" else 2) for k, c in shown.items()}
    # of the recalibrated SD, which is what `predict` will show with this card
    synct = {
        "z_mean": mean(RECALIBRATED[0], 3),
        "z_sd": mean(RECALIBRATED[1], 3),
        "within_90": mean(RECALIBRATED[2], 3),
        "n": len(rows),
        "how": "each patient recalibrated on the other validation patients",
        "recalibrated": True,
        "recalibration": fitted,
        "body_sd_range_hu": sd_range,
        "z_sd_before": mean("z sd", 3),
        "within_90_before": mean("within 90 %", 3),
    }
    if len(rows) < 2 or fitted is None:
        synct = None
    who = (
        "other digital phantoms"
        if card.get("training", {}).get("phantom")
        else "validation patients of the same collection"
    )
    return {
        "weights_sha256": card["weights"]["sha256"],
        "accuracy": {
            "cases": provenance.described(len(rows), who, scored or {}),
            "n": len(rows),
            "table": {k: v for k, v in table.items() if v is not None},
        },
        "calibration": {"synct": synct, "volumes": None},
    }


def picture(found: Evaluated, monotone: MonotoneMap, path: Path) -> None:
    """Draws two slices with much bone: MR with the structures found, CT, synthetic CT, monotone map, error and
    predictive SD.

    Args:
        found: the patient.
        monotone: the baseline.
        path: of the PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    case = found.case
    amount = ((case.ct > BONE_HU) & case.region).sum((1, 2))
    order = np.argsort(amount)
    slices = [int(order[-1]), int(order[len(order) // 2])]
    figure, axes = plt.subplots(2, 6 if found.sd is not None else 5, figsize=(20, 7), squeeze=False)
    for row, z in zip(axes, slices):
        body = case.body[z]
        shown = [
            ("MR", case.mr[z], "gray", -2, 3),
            ("CT (aligned)", np.where(case.valid[z], case.ct[z], -1000), "gray", -300, 900),
            ("synthetic CT", np.where(body, found.synct[z], -1000), "gray", -300, 900),
            ("monotone map", np.where(body, monotone(case.mr[z]), -1000), "gray", -300, 900),
            ("error, HU", np.where(case.region[z], found.synct[z] - case.ct[z], 0), "RdBu_r", -400, 400),
        ]
        if found.sd is not None:
            shown.append(("predictive SD, HU", np.where(body, found.sd[z], 0), "viridis", 0, 250))
        for axis, (title, array, colors, low, high) in zip(row, shown):
            image = axis.imshow(array, cmap=colors, vmin=low, vmax=high)
            if title == "MR" and found.labels is not None:
                for k, color in zip(found.structures().values(), "yrcmgw"):
                    if (found.labels[z] == k).any():
                        axis.contour(found.labels[z] == k, [0.5], colors=color, linewidths=1)
            if "HU" in title:
                figure.colorbar(image, ax=axis, fraction=0.046)
            axis.set_title(f"{title}, slice {z}" if title == "MR" else title, fontsize=9)
            axis.axis("off")
    figure.suptitle(case.name)
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    plt.close(figure)
