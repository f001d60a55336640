"""Registration without a model (`propagate` without --model), measured on pairs whose deformation is known.

    python Testing/benchmarks/registration.py compare [--data OPENKBP] [--model NAME] [--rivals elastix convexAdam] …
    python Testing/benchmarks/registration.py calibrate --data OPENKBP [--patients pt_1 …] [--pelves 6] [--chests 4] …
    python Testing/benchmarks/registration.py verify --data OPENKBP --patients pt_201 … [--first 100] [--seed 2] …
    python Testing/benchmarks/registration.py failures --data OPENKBP [--count 100]

`compare` prints a table. `calibrate` writes error bars and accuracy into the card
Resources/Models/registration/model.json; `verify` scores them on other cases. `failures` registers hard days (and good
ones), chooses the limits of the checks on every second one, scores them on the others, and writes both into the card.
What was measured lies in --out and is not measured again. Cases: registration_cases.py. Times are of the processor, on
one thread. convexAdam (PyPI) is used if it is installed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "RTUncertainty"), str(ROOT)]

import numpy as np  # noqa: E402
import registration_cases as known  # noqa: E402
import SimpleITK as sitk  # noqa: E402
import torch  # noqa: E402
from registration_cases import Case  # noqa: E402

from rtuncertainty import deformation  # noqa: E402
from rtuncertainty.bundles import bundle  # noqa: E402
from rtuncertainty.core import structure_names, surfaces  # noqa: E402
from rtuncertainty.core.errors import InputError  # noqa: E402
from rtuncertainty.core.events import Progress  # noqa: E402
from rtuncertainty.core.structure_set import Structure  # noqa: E402
from rtuncertainty.propagation import assemble, deform  # noqa: E402
from rtuncertainty.propagation.sampling import PAIRS  # noqa: E402
from rtuncertainty.uncertainty import checks, volume_calibration  # noqa: E402
from rtuncertainty.uncertainty.fit import volume_card  # noqa: E402
from rtuncertainty.uncertainty.fit.volumes import VolumeRow  # noqa: E402
from training.calibration import spread  # noqa: E402

CARD = ROOT / "Resources" / "Models" / "registration" / "model.json"
LEVEL = 0.9
RIGHT_MM = 1.0  # mean surface distance up to which a contour is right


def ours(case: Case, mode: str, samples: int = 0) -> deform.Found:
    """What `propagate` finds without a model."""
    return deform.run(None, case.pair, {}, {}, samples, 0, torch.device("cpu"), mode, Progress(), 0.5)


def with_network(folder: str, case: Case, mode: str) -> torch.Tensor:
    """What `propagate --model` finds, without samples."""
    card, (network,) = bundle.load(bundle.find(folder))
    organs = {s["name"]: s for s in card["outputs"]["structures"]}
    named = structure_names.match(case.masks, list(organs))
    bending = float(card["outputs"]["deformation"].get("bending", 0.5))
    device = torch.device("cpu")
    return deform.run(network, case.pair, named, organs, 0, 0, device, mode, Progress(), bending).displacement


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


def _everyday(args):
    numbers = range(args.first, args.first + args.pelves), range(args.first, args.first + args.chests)
    return known.everyday(args.data, args.patients, *numbers, args.seed)


def compare(args) -> None:
    """Print a table: mean error (mm), mean surface distance (mm) and seconds of each method on each case."""
    methods = {
        "rigid": lambda c: torch.zeros((3, *c.pair.daily.shape)),
        "fast": lambda c: ours(c, "fast").displacement,
        "full": lambda c: ours(c, "full").displacement,
    }
    if args.model:
        methods |= {
            f"{args.model}, {mode}": partial(lambda m, c: with_network(args.model, c, m), mode)
            for mode in ("off", "fast", "full")
        }
    rivals = {"elastix": _elastix, "convexAdam": _convex_adam}
    methods |= {name: rivals[name] for name in args.rivals}
    print("| case | " + " | ".join(f"{m}: error, MSD (mm), s" for m in methods) + " |")
    print("|---" * (len(methods) + 1) + "|")
    for _, make in _everyday(args):
        case, cells = make(), []
        assert case.pair  # not a part of any method's time
        for method in methods.values():
            started = time.process_time()
            found = method(case)
            seconds = time.process_time() - started
            cells.append(f"{case.error_mm(found):.2f}, {case.msd_mm(found):.2f}, {seconds:.0f}")
        print(f"| {case.name} | " + " | ".join(cells) + " |", flush=True)


# ------------------------------------------------------------------ calibration
def measure(case: Case, samples: int) -> dict:
    """What `calibrate` and `verify` need of a case, as JSON has it: its contours are those of `propagate`."""
    started = time.process_time()
    pair, found = case.pair, ours(case, "full", samples)
    seconds = time.process_time() - started
    d = found.displacement
    card = json.loads(CARD.read_text(encoding="utf-8"))
    card["calibration"] = dict.fromkeys(card["calibration"])  # as sampled
    card["input"]["modality"] = "CT"
    # a landmark has a deformation in its neighbourhood only, and masks that nothing moves are no contours
    row: dict = {
        "kind": case.kind,
        "patient": case.patient,
        "seconds": seconds,
        "before": case.error_mm(torch.zeros_like(d)),
        "error": case.error_mm(d),
        "checks": assemble.evidence(found, pair, card).values,
        "contours": [],
    }
    if case.field is not None:
        mm = pair.grid.GetSpacing()
        mm2 = found.sampled.covariance.numpy() * np.reshape([mm[a] * mm[b] for a, b in PAIRS], (6, 1, 1, 1))
        row["spread"] = spread.drawn(case.errors(d), mm2, case.where)
    local = deformation.from_voxels(d, pair.grid)
    grid = sitk.Image(case.daily)
    field = deformation.after_rigid(deformation.resample_field(local, grid), pair.rigid)
    given = {n: Structure(n, m, (0, 0, 0)) for n, m in case.masks.items() if n != "body" and n in case.truth}
    made, _ = assemble.contours(found, pair, field, given, {}, {}, case.planning, case.daily, card, Progress())
    for contour in made:
        shown, truth = (sitk.GetArrayFromImage(i) > 0 for i in (contour.propagated, case.truth[contour.planning_name]))
        if contour.assessed is None or not truth.any() or not shown.any():
            continue
        ml = float(np.prod(case.daily.GetSpacing())) / 1000
        row["contours"].append(
            {
                "structure": contour.planning_name,
                "ml": list(contour.assessed.distribution.ml),
                "true_ml": float(truth.sum()) * ml,
                "sd_mm": contour.propagated_sd_mm,
                "dice": surfaces.dice(shown, truth),
                "expected_dice": contour.assessed.quality.expected_dice,
                "msd_mm": surfaces.surface_distance(shown, truth, case.daily.GetSpacing()).mean,
            }
        )
    return row


def measured(args) -> dict[str, dict]:
    """{case: what `measure` found}; cases that lie in --out are not measured again."""
    args.out.mkdir(parents=True, exist_ok=True)
    rows, started = {}, time.monotonic()
    for name, make in _everyday(args):
        file = args.out / f"{name}.json"
        if not file.exists():
            if time.monotonic() - started >= 60 * args.minutes:
                continue
            file.write_text(json.dumps(measure(make(), args.samples)), encoding="utf-8")
            print(f"{name}: {_line(json.loads(file.read_text(encoding='utf-8')))}", flush=True)
        rows[name] = json.loads(file.read_text(encoding="utf-8"))
    return rows


def _line(row: dict) -> str:
    msd = np.mean([c["msd_mm"] for c in row["contours"]])
    return f"error {row['before']:.2f} to {row['error']:.2f} mm, surfaces {msd:.2f} mm, {row['seconds']:.0f} s"


def volume_rows(rows: dict[str, dict]) -> list[VolumeRow]:
    """All contours, of one structure: a card for any region knows no names."""
    return [
        VolumeRow(
            "registration",
            row["patient"],
            "any",
            tuple(c["ml"]),
            c["true_ml"],
            True,
            name,
            c["dice"],
            c["expected_dice"],
        )
        for name, row in rows.items()
        for c in row["contours"]
    ]


def groups(rows: dict[str, dict]) -> dict[str, list[dict]]:
    """Rows by what was registered."""
    out: dict[str, list[dict]] = {}
    for row in rows.values():
        part = "chests" if row["kind"] == "chest" else "pelves" if row["patient"].startswith("PELVIS") else "necks"
        out.setdefault("breathing chests" if part == "chests" else f"{part}, {row['kind']}", []).append(row)
    return out


def _mean(rows: list[dict], key: str) -> float:
    of = [c[key] for r in rows for c in r["contours"]] if key in ("msd_mm", "dice") else [r[key] for r in rows]
    return round(float(np.mean(of)), 2)


def calibrate(args) -> None:
    """Fit error bars, and write them with the accuracy into the card."""
    rows = measured(args)
    for file in sorted(args.everyday.glob("*.json")) if args.everyday else []:
        rows[file.stem] = json.loads(file.read_text(encoding="utf-8"))
    if args.measure_only:
        return
    drawn = {f"{r['patient']}_day{k}": r["spread"] for k, r in enumerate(rows.values()) if "spread" in r}
    fitted, left_out = spread.fit(list(drawn.values())), spread.left_out(drawn)
    volumes = volume_card.fit(volume_rows(rows), (*volume_calibration.CONFORMAL, *volume_calibration.SHOWN))
    card = json.loads(CARD.read_text(encoding="utf-8"))
    card["calibration"]["spread"] = {
        "what": "disagreement of directions, features and samples against the true error on simulated days of "
        "necks and digital pelves",
        "scale": fitted.scale,
        "residual_mm": fitted.residual_mm,
        "factor_90": fitted.factor_90,
        "patients": left_out["patients"],
        "left_out_z_sd": round(left_out["z_sd"], 2),
        "left_out_within_90": round(left_out["within_90"], 3),
    }
    card["calibration"]["volumes"] = volumes.volumes
    card["calibration"]["quality"] = volumes.quality
    said = "; ".join(f"{group}: {len(found)}" for group, found in groups(rows).items())
    card["accuracy"] = {
        "cases": f"{len(rows)} pairs whose deformation is known, registered with full ({said}). Chests and pelves are "
        "phantoms, days of necks and pelves are simulated; nobody was scanned twice",
        "n": len(rows),
        "table": {
            f"{what}, {group}": _mean(found, key)
            for group, found in groups(rows).items()
            for what, key in (
                ("Error before (mm)", "before"),
                ("Error (mm)", "error"),
                ("Mean surface distance (mm)", "msd_mm"),
                ("Dice", "dice"),
                ("Processor seconds", "seconds"),
            )
        },
        "hardware": "one thread of a processor that other programs shared, no GPU; seconds without reading, with the "
        "rigid alignment and 10 samples",
    }
    _write(card)


def _write(card: dict) -> None:
    CARD.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def verify(args) -> None:
    """Print what the card's error bars are worth on these cases."""
    rows = measured(args)
    card = json.loads(CARD.read_text(encoding="utf-8"))
    calibration = volume_calibration.of_card(card)
    print("| cases | n | error before | error | MSD (mm) | Dice | contours | in 90 % | width | width where right |")
    print("|---" * 10 + "|")
    for group, found in {**groups(rows), "all": list(rows.values())}.items():
        inside, width, right = [], [], []
        for row in volume_rows(dict(enumerate(found))):
            ends = calibration.interval(row.distribution, LEVEL)
            inside.append(ends.lower <= row.true_ml <= ends.upper)
            width.append((ends.upper - ends.lower) / row.distribution.volume_ml)
        distances = [c["msd_mm"] for r in found for c in r["contours"]]
        right = [w for w, d in zip(width, distances) if d <= RIGHT_MM]
        cells = [_mean(found, k) for k in ("before", "error", "msd_mm", "dice")]
        print(
            f"| {group} | {len(found)} | {' | '.join(f'{c:.2f}' for c in cells)} | {len(inside)} | "
            f"{np.mean(inside):.3f} | {np.median(width):.2f} | {np.median(right):.2f} ({len(right)}) |",
            flush=True,
        )
    drawn = [r["spread"] for r in rows.values() if "spread" in r]
    stored = card["calibration"]["spread"]
    ratio = [
        np.ravel(p["error"]) / np.sqrt(stored["scale"] ** 2 * np.ravel(p["variance"]) + stored["residual_mm"] ** 2)
        for p in drawn
    ]
    within = np.mean([(np.abs(z) <= stored["factor_90"]).mean() for z in ratio])
    print(f"displacement along an axis: {len(ratio)} cases, {within:.3f} in its 90 % interval")


# ------------------------------------------------------------------ failures
# they depend on HU and on what is seen of the patient (noise, scatter, narrow scans), and are there for gross errors
GROSS = ("bodies", "bones", "lungs")
FAILED_MM = 3.0  # mean surface distance, or mean error of the deformation, from which on a registration failed


def tried(case: Case) -> dict:
    """One hard day as JSON has it: what was measured of it, and whether it failed."""
    started = time.process_time()
    row: dict = {"kind": case.kind, "patient": case.patient}
    try:
        where = case.where
    except InputError as error:  # a pair that is refused was found
        return row | {"refused": str(error)}
    if not where.any():
        return row | {"refused": "no common part"}
    found = ours(case, "fast")
    row["seconds"] = time.process_time() - started
    row["error_mm"], row["msd_mm"] = case.error_mm(found.displacement), case.msd_mm(found.displacement)
    row["checks"] = assemble.evidence(found, case.pair, {"input": {"modality": "CT"}}).values
    return row


def failed(row: dict) -> bool:
    """Whether a registration did: its surfaces or its deformation are off, or nothing corresponds at all."""
    beyond = "refused" in row or not row["msd_mm"] <= FAILED_MM or row["error_mm"] > FAILED_MM
    return beyond or row["kind"] in known.NEVER_RIGHT


def caught(row: dict, limits: dict[str, float]) -> bool:
    """Whether a limit is passed, or the pair was refused before."""
    return "refused" in row or any(row["checks"].get(name, 0) > limit for name, limit in limits.items())


def chosen_limits(right: list[dict], wrong: list[dict]) -> dict[str, float]:
    """Of each check the middle (geometric) between the largest of those that are right and the next failure above
    that: as far from the ones as from the others; wider for `GROSS`."""
    limits = {}
    for name in checks.LIMITS:
        most = max(v for v in _values(right, name) if np.isfinite(v))
        above = [v for v in _values(wrong, name) if v > most]
        wide = 1.5 if name in GROSS else 1.0
        limits[name] = round(float(np.sqrt(most * min([*above, 4 * most]))) * wide, 3)
    return limits


def _values(rows: list[dict], name: str) -> list[float]:
    return [r["checks"][name] for r in rows if name in r.get("checks", {})]


def failures(args) -> None:
    """Register hard days, choose limits on every second one, and say which of the others the checks find."""
    args.out.mkdir(parents=True, exist_ok=True)
    rows, started = [], time.monotonic()
    for name, make in known.hard(args.data, args.patients, args.count, args.seed):
        file = args.out / f"hard {args.seed} {name}.json"
        if not file.exists():
            if time.monotonic() - started >= 60 * args.minutes:
                break
            row = tried(make())
            file.write_text(json.dumps(row), encoding="utf-8")
            print(name, {k: v for k, v in row.items() if k != "checks"}, flush=True)
        rows.append(json.loads(file.read_text(encoding="utf-8")))
    for file in sorted(args.everyday.glob("*.json")) if args.everyday else []:
        row = json.loads(file.read_text(encoding="utf-8"))
        rows.append(row | {"error_mm": row["error"], "msd_mm": float(np.mean([c["msd_mm"] for c in row["contours"]]))})
    sides = [[r for r in rows if failed(r) == bad] for bad in (False, True)]
    limits = chosen_limits(*(side[::2] for side in sides))
    right, wrong = (side[1::2] for side in sides)
    print(f"limits, chosen on {len(sides[0][::2])} right ones and {len(sides[1][::2])} failures: {limits}")
    stored = {}
    for name, limit in {"all": None, **limits}.items():
        one = limits if limit is None else {name: limit}
        found, alarms = (sum(caught(r, one) for r in part) for part in (wrong, right))
        print(f"| {name} | {found} of {len(wrong)} failures | {alarms} of {len(right)} right ones |")
        if limit is not None:
            stored[name] = {"limit": limit, "failures": len(wrong), "found": found}
            stored[name] |= {"right": len(right), "false_alarms": alarms}
        else:
            shares = found / max(1, len(wrong)), alarms / max(1, len(right)), len(wrong), len(right)
    for row in wrong + right:
        if caught(row, limits) != failed(row):
            print("missed" if failed(row) else "false alarm", {k: v for k, v in row.items() if k in SHOWN})
    card = json.loads(CARD.read_text(encoding="utf-8"))
    card["calibration"]["checks"] = stored
    card["accuracy"]["table"] |= {
        f"Failures that a flag finds (share of {shares[2]})": round(shares[0], 3),
        f"Flags on what is right (share of {shares[3]})": round(shares[1], 3),
    }
    _write(card)


SHOWN = ("kind", "patient", "error_mm", "msd_mm", "checks")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    commands = {"compare": compare, "calibrate": calibrate, "verify": verify, "failures": failures}
    parser.add_argument("what", choices=list(commands))
    parser.add_argument("--data", type=Path, help="OpenKBP, as training/README.md lays it out")
    parser.add_argument("--patients", nargs="*", default=["pt_202", "pt_204"], help="names of its patients")
    parser.add_argument("--out", type=Path, default=Path("runs/registration"), help="one file a case")
    parser.add_argument("--measure-only", action="store_true", help="calibrate: leave the card as it is")
    parser.add_argument("--chests", type=int, default=2)
    parser.add_argument("--pelves", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first digital patient")
    parser.add_argument("--seed", type=int, default=1, help="of the days")
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=np.inf, help="after so many no further case is begun")
    parser.add_argument("--everyday", type=Path, help="calibrate, failures: another --out, whose cases count too")
    parser.add_argument("--count", type=int, default=100, help="failures: how many days")
    parser.add_argument("--model", help="compare: a model with a network, too")
    parser.add_argument("--rivals", nargs="*", default=[], choices=["elastix", "convexAdam"])
    args = parser.parse_args()
    torch.manual_seed(0)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # of starts without any overlap
    commands[args.what](args)


if __name__ == "__main__":
    main()
