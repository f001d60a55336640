"""Registration without a model (`propagate` without --model), measured on pairs whose deformation is known.

    python Testing/benchmarks/registration.py compare [--data OPENKBP] [--rivals elastix convexAdam] [--chests 2] …
    python Testing/benchmarks/registration.py calibrate --data OPENKBP [--patients pt_202 …] [--pelves 3] [--chests 2]

`compare` prints a table. `calibrate` writes error bars, limits of the checks and accuracy into the card
Resources/Models/registration/model.json. Cases come from several generators, so that nothing is tuned to one:
digital chests that breathe (sliding ribs, landmarks), necks with a simulated day (`phantoms.daily_anatomy`), necks bent
by random B-splines (SimpleITK), digital pelves with a simulated day. Times are of the processor, on one thread.
convexAdam (PyPI) is used if it is installed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "RTUncertainty"), str(ROOT)]

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
import torch  # noqa: E402

from rtuncertainty.core import geometry, structure_names, surfaces  # noqa: E402
from rtuncertainty.core.events import Progress  # noqa: E402
from rtuncertainty.deformation import from_voxels, transform_points, warp_tensor  # noqa: E402
from rtuncertainty.phantoms.chest import digital_chest  # noqa: E402
from rtuncertainty.phantoms.daily_anatomy import daily_scan  # noqa: E402
from rtuncertainty.propagation import registration  # noqa: E402
from rtuncertainty.propagation.pair import Pair, make_pair  # noqa: E402
from rtuncertainty.propagation.sampling import PAIRS  # noqa: E402
from rtuncertainty.uncertainty import checks  # noqa: E402
from training.calibration import spread  # noqa: E402
from training.data.prepare import pairs as prepared  # noqa: E402

CARD = ROOT / "Resources" / "Models" / "registration" / "model.json"
SPACING = (3.0, 3.0, 3.0)
COARSE = (4.0, 4.0, 3.0)  # of scans whose own voxels are that large


@dataclass
class Case:
    """A pair on the working grid with the true masks of the daily scan {name: [z, y, x]}, and its true displacement
    [3, z, y, x] (voxels), or landmarks (daily, planning) in mm."""

    name: str
    kind: str
    pair: Pair
    truth: dict[str, np.ndarray]
    displacement: np.ndarray | None = None
    points: tuple[np.ndarray, np.ndarray] | None = None

    def error_mm(self, displacement: torch.Tensor) -> float:
        """Mean distance from the truth: at the landmarks, or in the body."""
        if self.points is not None:
            field = from_voxels(displacement, self.pair.grid)
            reached = transform_points(field, self.points[0])
            moved = np.array([self.pair.rigid.TransformPoint(p) for p in reached.tolist()])
            return float(np.linalg.norm(moved - self.points[1], axis=1).mean())
        return float(np.linalg.norm(self.errors(displacement), axis=0)[self.where].mean())

    def errors(self, displacement: torch.Tensor) -> np.ndarray:
        """[3, z, y, x] in mm."""
        apart = displacement.reshape(3, *self.where.shape).numpy() - self.displacement
        return apart * np.reshape(self.pair.grid.GetSpacing(), (3, 1, 1, 1))

    @property
    def where(self) -> np.ndarray:
        return self.pair.body & self.pair.known

    def msd_mm(self, displacement: torch.Tensor) -> float:
        """Mean surface distance, mean of the structures."""
        found = []
        for name, truth in self.truth.items():
            if name == "body" or not truth.any():
                continue
            mask = torch.from_numpy(self.pair.labels[name])[None, None]
            moved = warp_tensor(mask, displacement.reshape(1, 3, *truth.shape), 0.0)[0, 0].numpy() > 0.5
            found.append(
                surfaces.surface_distance(
                    moved & self.pair.known, truth & self.pair.known, self.pair.grid.GetSpacing()
                ).mean
            )
        return float(np.nanmean(found))


def chest(seed: int, breath_mm: float, shift=(0.0, 0.0, 0.0)) -> Case:
    """A digital chest, breathed in and out."""
    made = digital_chest(seed, breath_mm, shift=shift)
    pair = make_pair(made.planning, made.planning_structures, made.daily, SPACING)
    truth = {n: prepared.pair_array(m, pair) > 0.5 for n, m in made.daily_structures.items()}
    return Case(
        f"chest {seed}, {breath_mm:g} mm", "chest", pair, truth, None, (made.daily_points, made.planning_points)
    )


def bent(ct: sitk.Image, masks: dict, seed: int, sd_mm: float = 7.0):
    """(daily CT, {name: mask}, displacement): bent by a random cubic B-spline, with noise."""
    rng = np.random.default_rng(seed)
    spline = sitk.BSplineTransformInitializer(ct, [6, 6, 6])
    spline.SetParameters((rng.standard_normal(len(spline.GetParameters())) * sd_mm).tolist())
    field = sitk.TransformToDisplacementField(
        spline, sitk.sitkVectorFloat64, ct.GetSize(), ct.GetOrigin(), ct.GetSpacing(), ct.GetDirection()
    )
    day = sitk.Resample(ct, ct, spline, sitk.sitkLinear, -1000.0, sitk.sitkFloat32)
    day = sitk.Cast(day + geometry.like(12 * rng.standard_normal(ct.GetSize()[::-1]), ct), sitk.sitkInt16)
    moved = {
        n: sitk.Resample(sitk.Cast(m, sitk.sitkFloat32), ct, spline, sitk.sitkLinear, 0.0) > 0.5
        for n, m in masks.items()
    }
    return day, moved, field


def patient(given, organs, kind: str, spacing, seed: int) -> Case:
    """A planning scan and a day of it: simulated, or bent by a B-spline."""
    named = structure_names.match(given.structures, organs)
    masks = {o: given.structures[n] for n, o in named.items()}
    if kind == "B-spline":
        ct, moved, field = bent(given.ct, masks, seed)
    else:
        day = daily_scan(given.ct, given.structures, seed)
        ct, moved, field = day.ct, {o: day.structures[n] for n, o in named.items()}, day.displacement
    pair = make_pair(geometry.to_axial(given.ct), {o: geometry.to_axial(m) for o, m in masks.items()}, ct, spacing)
    if kind != "B-spline":
        pair.known &= prepared.pair_array(day.known, pair) > 0.5
    truth = {o: prepared.pair_array(m, pair) > 0.5 for o, m in moved.items()}
    return Case(f"{given.name}, {kind}", kind, pair, truth, prepared.residual(field, pair))


def cases(args) -> dict:
    """{name: function that makes the case} of all that were asked for."""
    made = {f"chest {seed}": partial(chest, seed, 25.0 + 10.0 * (seed % 2)) for seed in range(args.chests)}
    for name in args.patients if args.data is not None else []:
        for kind, seed in (("simulated day", 11), ("B-spline", 12)):
            made[f"{name}, {kind}"] = partial(_neck, args.data, name, kind, seed)
    for number in range(args.pelves):
        made[f"PELVIS_{number:03d}, pelvis day"] = partial(_pelvis, number)
    return made


def _neck(data: Path, name: str, kind: str, seed: int) -> Case:
    return patient(next(prepared.openkbp(data, [name])), prepared.HEADNECK, kind, COARSE, seed)


def _pelvis(number: int) -> Case:
    given = next(prepared.pelves(number + 1, [f"PELVIS_{number:03d}"]))
    return patient(given, prepared.PELVIS, "pelvis day", (4.0, 4.0, 4.0), 13)


def ours(case: Case, mode: str, samples: int = 0) -> registration.Registered:
    return registration.run(case.pair, mode, samples, 0, torch.device("cpu"), Progress(), True)


def _elastix(case: Case) -> torch.Tensor:
    from training.data.pair_case import PairCase
    from training.evaluation import elastix

    pair = case.pair
    none = np.zeros(pair.daily.shape, np.uint8)
    return elastix.displacement(
        PairCase(
            case.name,
            case.name,
            pair.planning,
            pair.daily,
            none,
            none,
            np.zeros((3, *none.shape), np.float32),
            pair.body,
            pair.known,
            pair.grid.GetSpacing(),
            [],
            [],
        )
    )


def _convex_adam(case: Case) -> torch.Tensor:
    from convexAdam.convex_adam_MIND import convex_adam_pt

    given = [torch.from_numpy(a.copy()) for a in (case.pair.daily, case.pair.planning)]
    found = convex_adam_pt(*given, grid_sp=4, disp_hw=4)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(found, -1, 0)[::-1]).astype(np.float32))


def compare(args) -> None:
    """Print a table: mean error (mm), mean surface distance (mm) and seconds of each method on each case."""
    methods = {
        "rigid": lambda c: torch.zeros((3, *c.pair.daily.shape)),
        "fast": lambda c: ours(c, "fast").displacement,
        "full": lambda c: ours(c, "full").displacement,
    }
    rivals = {"elastix": _elastix, "convexAdam": _convex_adam}
    methods |= {name: rivals[name] for name in args.rivals}
    print("| case | " + " | ".join(f"{m}: error, MSD (mm), s" for m in methods) + " |")
    print("|---" * (len(methods) + 1) + "|")
    for make in cases(args).values():
        case, cells = make(), []
        for method in methods.values():
            started = time.process_time()
            found = method(case)
            seconds = time.process_time() - started
            cells.append(f"{case.error_mm(found):.2f}, {case.msd_mm(found):.2f}, {seconds:.0f}")
        print(f"| {case.name} | " + " | ".join(cells) + " |", flush=True)


def evidence(case: Case, found: registration.Registered, displacement=None) -> dict[str, float]:
    """What `uncertainty.checks` measures of a displacement."""
    pair = case.pair
    arrays = np.stack([pair.planning, pair.planning_body, pair.known]).astype(np.float32)
    d = found.displacement if displacement is None else displacement
    warped, body, known = warp_tensor(torch.from_numpy(arrays)[None], d)[0].numpy()
    residual = registration.residual(pair, d)
    apart = found.there_and_back.numpy() * float(np.mean(pair.grid.GetSpacing()))
    return checks.measured(
        pair.daily, warped, pair.body, body > 0.5, known > 0.99, pair.grid.GetSpacing(), True, apart, residual
    ).values


def measure(case: Case, samples: int) -> dict:
    """What `calibrate` needs of a case, as JSON has it."""
    found = ours(case, "full", samples)
    row = {
        "kind": case.kind,
        "before": case.error_mm(torch.zeros_like(found.displacement)),
        "error": case.error_mm(found.displacement),
        "msd": case.msd_mm(found.displacement),
        "good": evidence(case, found),
        "bad": [],
    }
    # the same pair some 35 mm off: what a failure looks like
    for shift in ((0.0, 0.0, 35.0), (30.0, -18.0, 0.0)):
        voxels = torch.tensor([s / v for s, v in zip(shift, case.pair.grid.GetSpacing())], dtype=torch.float32)
        row["bad"].append(evidence(case, found, found.displacement + voxels.view(1, 3, 1, 1, 1)))
    if case.displacement is not None:
        mm = case.pair.grid.GetSpacing()
        mm2 = found.covariance.numpy() * np.reshape([mm[a] * mm[b] for a, b in PAIRS], (6, 1, 1, 1))
        row["spread"] = spread.drawn(case.errors(found.displacement), mm2, case.where)
    return row


def calibrate(args) -> None:
    """Fit error bars and limits, and write them into the card; cases that lie in --out are not measured again."""
    args.out.mkdir(parents=True, exist_ok=True)
    measured = {}
    for name, make in cases(args).items():
        file = args.out / f"{name}.json"
        if not file.exists():
            file.write_text(json.dumps(measure(make(), args.samples)), encoding="utf-8")
        measured[name] = json.loads(file.read_text(encoding="utf-8"))
        print(name, {k: v for k, v in measured[name].items() if k not in ("bad", "spread")}, flush=True)
    if args.measure_only:
        return
    table: dict[str, list] = {}
    for row in measured.values():
        group = {"chest": "breathing chests", "pelvis day": "pelves"}.get(row["kind"], f"necks, {row['kind']}")
        table.setdefault(group, []).append([row[k] for k in ("before", "error", "msd")])
    good = [row["good"] for row in measured.values()]
    bad = [spoilt for row in measured.values() for spoilt in row["bad"]]
    rows = {f"{n.partition(',')[0]}_day{k}": r["spread"] for k, (n, r) in enumerate(measured.items()) if "spread" in r}
    fitted, left_out = spread.fit(list(rows.values())), spread.left_out(rows)
    card = json.loads(CARD.read_text(encoding="utf-8"))
    card["calibration"]["spread"] = {
        "what": "disagreement of directions, features and samples against the true error on simulated days of "
        "necks and digital pelves; nothing else was calibrated",
        "scale": fitted.scale,
        "residual_mm": fitted.residual_mm,
        "factor_90": fitted.factor_90,
        "patients": left_out["patients"],
        "left_out_z_sd": round(left_out["z_sd"], 2),
        "left_out_within_90": round(left_out["within_90"], 3),
    }
    card["calibration"]["checks"] = {name: _limit(name, good, bad) for name in checks.LIMITS}
    card["accuracy"] = {
        "cases": f"{len(good)} pairs whose deformation is known, registered with full; chests are phantoms, days of "
        "necks and pelves are simulated",
        "n": len(good),
        "table": {
            f"{what}, {group} (mm)": round(float(np.mean([r[k] for r in found])), 2)
            for group, found in table.items()
            for k, what in enumerate(("Error before", "Error", "Mean surface distance"))
        },
    }
    CARD.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _limit(name: str, good: list[dict], bad: list[dict]) -> dict:
    """A limit above all that were right: 1.5 times the largest of them, and how many of the spoilt ones it catches."""
    right = [v[name] for v in good if np.isfinite(v.get(name, np.nan))]
    wrong = [v[name] for v in bad if not np.isnan(v.get(name, np.nan))]
    limit = round(1.5 * max(right), 3) if right else checks.LIMITS[name]
    return {"limit": limit, "right": len(right), "spoilt": len(wrong), "caught": sum(v > limit for v in wrong)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=["compare", "calibrate"])
    parser.add_argument("--data", type=Path, help="OpenKBP, as training/README.md lays it out")
    parser.add_argument("--patients", nargs="*", default=["pt_202", "pt_204"], help="names of its patients")
    parser.add_argument("--out", type=Path, default=Path("runs/registration"), help="calibrate: one file a case")
    parser.add_argument("--measure-only", action="store_true", help="calibrate: leave the card as it is")
    parser.add_argument("--chests", type=int, default=2)
    parser.add_argument("--pelves", type=int, default=1)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--rivals", nargs="*", default=[], choices=["elastix", "convexAdam"])
    args = parser.parse_args()
    torch.manual_seed(0)
    (compare if args.what == "compare" else calibrate)(args)


if __name__ == "__main__":
    main()
