"""`python -m training COMMAND`: from patients to a bundle, a function for each command. See training/README.md."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

try:
    import rtuncertainty  # noqa: F401
except ImportError:  # in a checkout that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "RTUncertainty"))

from rtuncertainty.core.runtime import ends_with_its_reader


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(prog="python -m training", description=__doc__.split("\n\n")[0])
    commands = main.add_subparsers(dest="command", required=True)

    p = commands.add_parser("prepare", help="align CT to MR, label, check and cache every patient")
    p.add_argument("--data", type=Path, required=True, help="the patients, in any layout of training/README.md")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--only", nargs="*", help="names of the patients to prepare (default: all)")
    p.add_argument("--layout", help="synthrad, nnunet, learn2reg, left_atrium, plain or dicom (default: found)")
    p.add_argument(
        "--for", dest="purpose", default="synthesis", choices=["synthesis", "segmentation"], help="synthesis needs a CT"
    )
    p.add_argument(
        "--register", choices=["none", "rigid", "deformable"], help="CT to MR (default: as the layout needs)"
    )
    p.add_argument(
        "--spacing",
        nargs="+",
        default=["1"],
        metavar="MM",
        help="in plane, or x y z; 'keep' for the MR's own (default: 1)",
    )
    p.add_argument("--bias-field", default="auto", choices=["auto", "on", "off"], help="N4 on the MR")
    p.add_argument(
        "--label",
        nargs="+",
        metavar="NAME=WHAT",
        help="classes: NAME=ct, NAME=VALUE, NAME=FILE[:VALUE] or a JSON/YAML file",
    )
    p.add_argument(
        "--ignore-limit", nargs="+", default=[], metavar="SCORE", help="scores of prepare.csv that drop no pair"
    )
    p.add_argument("--processes", type=int, default=1, metavar="N", help="that share the patients (default: 1)")
    p.add_argument("--mr-series", metavar="TEXT", help="DICOM: text in the description of the MR series to take")
    p.set_defaults(func=prepare)

    p = commands.add_parser("cohort", help="make digital pelves: MR, CT of another visit, structures, truth")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--patients", type=int, default=15)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument(
        "--prepared", action="store_true", help="write cases to train on, as prepare does, instead of images"
    )
    p.add_argument(
        "--misregistered",
        action=argparse.BooleanOptionalAction,
        help="CT of another visit (default: for images yes, for cases no)",
    )
    p.set_defaults(func=cohort)

    p = commands.add_parser("pairs", help="make pairs of a planning and a simulated daily CT with a known deformation")
    p.add_argument(
        "--data",
        type=Path,
        help="planning CTs with structures, in any layout of training/README.md; without it digital pelves",
    )
    p.add_argument("--out", type=Path, required=True)
    p.add_argument(
        "--organs",
        nargs="+",
        help="what the networks segment (default: what dataset.json names, seven organs of head and neck, or five of "
        "the pelvis)",
    )
    p.add_argument(
        "--spacing", nargs=3, type=float, default=[4.0, 4.0, 3.0], metavar="MM", help="of the working grid, x y z"
    )
    p.add_argument("--days", type=int, default=2, help="of each patient")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--patients", type=int, default=15, help="digital pelves")
    p.add_argument(
        "--severity", type=float, default=1.0, help="factor on all changes; 1 is what was measured in patients"
    )
    p.add_argument("--only", nargs="*", help="names of the patients to take (default: all)")
    p.set_defaults(func=pairs)

    p = commands.add_parser("organs", help="bring planning CTs and their organs onto one grid, to segment")
    p.add_argument(
        "--data", type=Path, required=True, help="planning CTs with structures, in any layout of training/README.md"
    )
    p.add_argument("--out", type=Path, required=True)
    p.add_argument(
        "--organs",
        nargs="+",
        help="what the networks segment (default: what dataset.json names, or seven organs of head and neck)",
    )
    p.add_argument(
        "--spacing", nargs=3, type=float, default=[4.0, 4.0, 3.0], metavar="MM", help="of the working grid, x y z"
    )
    p.add_argument("--only", nargs="*", help="names of the patients to take (default: all)")
    p.set_defaults(func=organs)

    p = commands.add_parser(
        "sequences", help="bring MR sequences, and structures that may hold one another, onto one grid, to segment"
    )
    p.add_argument("--data", type=Path, required=True, help="PATIENT/{SEQUENCE,…,labels}.nii.gz, registered")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--sequences", nargs="+", required=True, metavar="NAME", help="as the network sees them")
    p.add_argument(
        "--structure",
        action="append",
        required=True,
        metavar="NAME=VALUE,…",
        help="values of the labels; again for each, what holds another first",
    )
    p.add_argument("--labels", default="labels", metavar="NAME", help="the labels' name without suffix (%(default)s)")
    p.add_argument("--spacing", type=float, nargs=3, default=(1.0,) * 3, metavar="MM", help="x y z (default 1 1 1)")
    p.set_defaults(func=sequences)

    p = commands.add_parser(
        "scans",
        help="a hospital's scans, a structure drawn in few of them: bring them onto one grid, to learn from few labels",
    )
    p.add_argument(
        "--data",
        type=Path,
        required=True,
        help="PATIENT/{image,labels}.nii.gz, PATIENT/SCAN/…, or PATIENT/DICOM with RTSTRUCT",
    )
    p.add_argument("--out", type=Path, required=True)
    p.add_argument(
        "--structure",
        required=True,
        metavar="NAME[=WHAT]",
        help="NAME, NAME=VALUE, NAME=FILE, NAME=FILE:VALUE or NAME=ROI",
    )
    p.add_argument(
        "--spacing",
        nargs="+",
        metavar="MM",
        help="one number (isotropic) or x y z; 'keep' for an axis as it is (default: keep all)",
    )
    p.add_argument(
        "--normalisation",
        choices=["body", "image", "hu"],
        help="z-score in the body, or of images cropped to an organ; HU (default: body, CT hu)",
    )
    p.add_argument("--modality", choices=["MR", "CT"], help="default: what the first scan is")
    p.add_argument("--bias-field", default="auto", choices=["auto", "on", "off"], help="N4, with --normalisation body")
    p.add_argument(
        "--image", metavar="NAME", help="the image's name without suffix (default: image, mr, ct, or the only file)"
    )
    p.add_argument("--series", metavar="TEXT", help="DICOM: text in the description of the series to take")
    p.add_argument(
        "--validation",
        nargs="+",
        metavar="N|NAME",
        help="patients with labels who validate: how many, or who (default: a fifth)",
    )
    p.set_defaults(func=scans)

    p = commands.add_parser(
        "left_atrium", help="bring the left-atrium challenge's scans onto one grid, in their customary order"
    )
    p.add_argument(
        "--data", type=Path, required=True, help="train/ID/{mr,la}.nii.gz with train_order.txt, or ID/mri_norm2.h5"
    )
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--spacing", type=float, metavar="MM", help="isotropic (default: the scans' own 0.625)")
    p.set_defaults(func=left_atrium)

    p = commands.add_parser("train", help="train one network; the same command resumes")
    p.add_argument("--prepared", type=Path, required=True, help="what prepare wrote")
    p.add_argument("--config", type=Path, required=True)
    p.add_argument("--budget", type=Path, help="YAML of settings that several networks share; it overrides the config")
    p.add_argument(
        "--set",
        action="append",
        metavar="KEY=VALUE",
        help="a setting, or with arguments.KEY=VALUE one of the network; may be given again",
    )
    p.add_argument("--out", type=Path, required=True, help="run folder")
    p.add_argument("--minutes", type=float, help="stop in good order after so many minutes")
    p.add_argument("--stop-after", type=int, metavar="STEPS", help="stop in good order after so many steps")
    p.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    p.set_defaults(func=train)

    p = commands.add_parser("settings", help="list the settings of a method, and the arguments of its networks")
    p.add_argument(
        "method",
        nargs="?",
        metavar="METHOD",
        help="bragman2018, kaushik2022, elmahdy2021, hasan2021, eatonrosen2018, or the name of a network",
    )
    p.set_defaults(func=settings)

    p = commands.add_parser("card", help="write the card of a model on own data, to be completed by hand")
    p.add_argument("--prepared", type=Path, required=True, help="what prepare, pairs, organs or scans wrote")
    p.add_argument("--out", type=Path, help="YAML (default: card.yaml in --prepared)")
    p.add_argument("--name", help="of the bundle (default: structure or task, and modality)")
    p.add_argument(
        "--set",
        action="append",
        metavar="KEY=TEXT",
        help="fill in an entry, as title=… or training.licence=…; may be given again",
    )
    p.set_defaults(func=card)

    p = commands.add_parser("export", help="write the bundle of a run, or of the folds of a study, with its card")
    add_runs(p, "--model: a bundle, whose weights stay and whose figures become those of --evaluation")
    p.add_argument("--card", type=Path, help="YAML with what no run can know: title, licence, use; needed for a run")
    p.add_argument("--model", type=Path, help="name or folder of a bundle that gets the figures of --evaluation")
    p.add_argument("--version", help="of the new bundle, where --model is given")
    p.add_argument("--out", type=Path, required=True, help="bundle folder")
    p.add_argument("--evaluation", type=Path, help="evaluation.json of the run, whose figures go into the card")
    p.add_argument("--force", action="store_true", help="replace the bundle of another run in --out")
    p.set_defaults(func=export)

    p = commands.add_parser(
        "evaluate",
        help="score a bundle on the validation patients, beside simple baselines, or on the validation pairs",
    )
    p.add_argument("--prepared", type=Path, required=True)
    add_runs(p, "of pairs it may be left out: then all pairs of patients whom the model has not seen are scored")
    p.add_argument("--model", type=Path, required=True, help="bundle folder")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument(
        "--samples", type=int, default=20, help="dropout samples; 1: a single pass without dropout, of synthetic CTs"
    )
    p.add_argument("--every", type=int, default=1, metavar="N", help="one slice in N, where time is short")
    p.add_argument(
        "--minutes",
        type=float,
        help="stop in good order after so many minutes; the same command goes on patient by patient",
    )
    p.add_argument(
        "--unseen",
        action="store_true",
        help="the model's card does not say whom it was trained on, but you know: on none of these patients",
    )
    p.add_argument(
        "--elastix", action="store_true", help="of pairs: score elastix and the rigid alignment beside the model"
    )
    p.add_argument(
        "--refine", nargs="+", choices=["fast", "full"], default=["fast", "full"], help="of pairs: which are scored"
    )
    p.add_argument("--device", default="auto", help="auto, cpu or cuda")
    p.set_defaults(func=evaluate)

    p = commands.add_parser(
        "calibrate",
        help="calibrate the volumes of evaluated networks, and write tables of intervals, quality and flags",
    )
    p.add_argument(
        "files", nargs="+", metavar="NAME=FILE", help="a network and the rows.json that its evaluation wrote"
    )
    p.add_argument("--out", type=Path, required=True)
    p.add_argument(
        "--evaluation", type=Path, help="evaluation.json of the first network, which gets the calibration for its card"
    )
    p.add_argument("--noise", type=Path, help="noise.json of the experiment on worse images")
    p.add_argument(
        "--method",
        choices=["log_affine", "conformal", "conformal_scaled", "cv_plus"],
        help="default: cv_plus of several folds, else the narrower conformal one where there are patients enough",
    )
    p.add_argument("--bad-dice", type=float, default=0.85, help="a contour below is bad; flags are to find it")
    p.set_defaults(func=calibrate)

    p = commands.add_parser(
        "observers", help="compare a model's intervals of volumes with what two observers differ by"
    )
    p.add_argument("--data", type=Path, required=True, help="PATIENT/{oncologist,radiographer}.nii.gz and labels.json")
    p.add_argument("--rows", type=Path, required=True, help="rows.json or volumes.json that evaluate wrote")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--evaluation", type=Path, help="evaluation.json, which gets the comparison for its card")
    p.set_defaults(func=observers)

    p = commands.add_parser(
        "dose_calibrate",
        help="calibrate the dose bands of a synthetic CT on what 'reproduce dose' computed, for its card",
    )
    p.add_argument("--dose", type=Path, required=True, help="the folder dose that 'reproduce dose' wrote")
    p.add_argument(
        "--network", default="limb-t1-synct", help="title of the network in its tables (default %(default)s)"
    )
    p.add_argument(
        "--evaluation",
        type=Path,
        required=True,
        help="evaluation.json of that network, which gets the calibration for its card",
    )
    p.set_defaults(func=dose_calibrate)

    p = commands.add_parser("compare", help="tables and tests of several evaluated networks")
    p.add_argument(
        "folders",
        nargs="+",
        metavar="NAME=FOLDER",
        help="a network and a folder that evaluate wrote; a name may come again, for its folds",
    )
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--reference", metavar="NAME", help="test all against this one (default: every pair)")
    p.set_defaults(func=compare)

    p = commands.add_parser("reproduce", help="all of an experiment in one resumable command")
    p.add_argument(
        "name",
        choices=[
            *("limb", "mr_only", "pelvis", "propagation", "propagation_pelvis", "volumes", "few_labels", "dose"),
            *("volumes_folds", "left_atrium_folds", "limb_folds"),
        ],
    )
    p.add_argument("--data", type=Path, help="the patients, or what prepare wrote; the digital pelves need none")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--minutes", type=float, help="for all of it; the next call resumes")
    p.add_argument(
        "--config",
        type=Path,
        help="instead of the one for the device; where several networks are compared, their budget",
    )
    p.add_argument(
        "--only", nargs="+", metavar="NETWORK", help="where several networks are compared: train these alone"
    )
    p.add_argument(
        "--fold",
        type=int,
        metavar="N",
        help="mr_only, pelvis: validate on another part of the patients; `compare` joins them; …_folds: train it alone",
    )
    p.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    p.set_defaults(func=reproduce)
    return main


def add_runs(p, otherwise: str = "") -> None:
    """`otherwise`: what is done without a run; where nothing can be, it is required."""
    p.add_argument(
        "--run",
        type=Path,
        required=not otherwise,
        action="append",
        help="run folder; of a cross-fitted study once for each fold, or the folder that holds them"
        + f"; {otherwise}" * bool(otherwise),
    )


def prepare(args):
    from .data.prepare import synthesis

    options = synthesis.Options(
        synthesis.parse_spacing(args.spacing),
        args.register,
        args.bias_field,
        tuple(args.label) if args.label else None,
        args.purpose,
        tuple(args.ignore_limit),
    )
    rows = synthesis.run(args.data, args.out, args.only, args.layout, options, args.mr_series, args.processes)
    kept = sum(r["kept"] == "yes" for r in rows)
    return f"{kept} of {len(rows)} cases kept; see prepare.csv, checks.csv and overlays/ in {args.out}"


def cohort(args):
    from .data.prepare import cohort as phantoms

    make = phantoms.prepare_cohort if args.prepared else phantoms.write
    chosen = {} if args.misregistered is None else {"misregistered": args.misregistered}
    return f"{len(make(args.out, args.patients, args.seed, **chosen))} patients in {args.out}"


def pairs(args):
    from .data.prepare import pairs as made
    from .data.prepare import patients

    names = args.organs or patients.organs_of(args.data, made.PELVIS if args.data is None else made.HEADNECK)
    found = made.run(
        args.data, args.out, names, args.spacing, args.days, args.seed, args.patients, args.severity, args.only
    )
    return _told(found, "pairs", args.out)


def organs(args):
    from .data.prepare import organs as packed
    from .data.prepare import pairs as made
    from .data.prepare import patients

    names = args.organs or patients.organs_of(args.data, made.HEADNECK)
    found = packed.run(args.data, args.out, names, args.spacing, args.only)
    return _told(found, "scans", args.out)


def _told(rows: list[dict], unit: str, out: Path) -> str:
    kept = sum(r["kept"] == "yes" for r in rows)
    left = f", {len(rows) - kept} left out" if kept < len(rows) else ""
    return f"{kept} {unit}{left}; see prepare.csv, checks.csv and overlays/ in {out}"


def sequences(args):
    from .data.prepare import sequences as packed

    found = packed.run(args.data, args.out, args.sequences, args.structure, args.spacing, args.labels)
    return f"{len(found)} patients in {args.out}"


def scans(args):
    from .data.prepare import scans as packed
    from .data.prepare.synthesis import parse_spacing

    words, held = args.spacing or ["keep"], args.validation and tuple(args.validation)
    held = int(held[0]) if held and len(held) == 1 and held[0].isdigit() else held
    options = packed.Options(
        args.structure,
        parse_spacing(words * 3 if len(words) == 1 else words),
        args.normalisation,
        args.modality,
        args.bias_field,
        args.image,
        args.series,
        held,
    )
    rows = packed.run(args.data, args.out, options)
    kept = [r for r in rows if r["kept"] == "yes"]
    drawn, validate = sum(r["labelled"] == "yes" for r in kept), sum(r["set"] == "validation" for r in kept)
    counts = f"{len(kept)} of {len(rows)} scans kept, {drawn} with labels, of which {validate} validate"
    return f"{counts}; see prepare.csv and checks.csv in {args.out}"


def left_atrium(args):
    from .data.prepare import left_atrium as packed

    return _told(packed.run(args.data, args.out, args.spacing), "scans", args.out)


def train(args):
    from . import methods  # which takes its time, and that counts
    from .run import train as training

    return training.run(
        args.prepared,
        args.config,
        args.out,
        args.minutes,
        args.stop_after,
        args.device,
        args.budget,
        methods.changes_of(args.set),
        args.started,
    )


def settings(args):
    from . import methods

    return methods.table(args.method)


def card(args):
    from .run import card as cards

    filled = {}
    for word in args.set or []:
        key, equals, text = word.partition("=")
        if not equals or not text.strip():
            raise SystemExit(f"--set {word}: give it as KEY=TEXT.")
        filled[key] = text
    file = cards.write(args.prepared, args.out, args.name, filled)
    missing = cards.left(cards.yaml.safe_load(file.read_text(encoding="utf-8")))
    return f"{file}" + (f"; to be filled in: {', '.join(missing)}" if missing else "")


def export(args):
    from rtuncertainty.bundles import bundle

    from .run import export as exported

    if args.model is not None:
        if args.run or args.card or not (args.version and args.evaluation):
            raise SystemExit("export --model: give --evaluation and --version too, and neither --run nor --card.")
        return exported.measured_again(bundle.find(args.model), args.evaluation, args.out, args.version)
    if not args.run or not args.card:
        raise SystemExit("export: give --run and --card, or --model of a bundle that is to get other figures.")
    return exported.run(args.run, args.card, args.out, args.evaluation, overwrite=args.force)


def evaluate(args):
    from rtuncertainty.bundles import bundle

    from . import methods
    from .run import joined

    runs = joined.runs(args.run) if args.run else []
    until = None if args.minutes is None else time.monotonic() + 60 * args.minutes
    model = bundle.read_card(bundle.find(args.model))
    method = methods.method_of(model["architecture"]["name"], model["training"].get("method"))
    slices_seen = method in ("bragman2018", "kaushik2022")
    if args.samples < (1 if slices_seen else 2):
        raise SystemExit(f"--samples {args.samples}: at least 2 are needed here; 1, a single pass, scores images only.")
    how = (args.prepared, runs, args.model, args.out, args.samples, args.device)
    if method == "elmahdy2021":
        from .studies.propagation import study

        if len(runs) > 1:
            raise SystemExit("--run: pairs are scored of one run; of several folds give one after the other.")
        how = (args.prepared, runs[0] if runs else None, bundle.find(args.model), args.out, args.device)
        return study.evaluate_one(*how, args.unseen, args.elastix, tuple(args.refine))
    if not runs:
        raise SystemExit("evaluate: --run is missing: the run, or the runs of the folds, that the model is of.")
    if method == "eatonrosen2018":
        from .studies.volumes import study

        return study.evaluate_one(*how, args.unseen, until)
    if method == "hasan2021":
        from .studies.few_labels import study

        return study.evaluate_one(*how, args.unseen, until)
    from .evaluation import slices

    return slices.run(*how, args.every, args.unseen, until)


def calibrate(args):
    from .studies.volumes import study

    files = {name: paths[0] for name, paths in named_folders(args.files).items()}
    return study.calibrated(files, args.out, args.evaluation, args.noise, args.method, limit=args.bad_dice)


def observers(args):
    from .evaluation import observers as compared

    args.out.mkdir(parents=True, exist_ok=True)
    return compared.run(args.data, args.rows, args.out, args.evaluation)


def dose_calibrate(args):
    from .calibration import dose

    return dose.into_evaluation(args.dose, args.network, args.evaluation)


def compare(args):
    from .evaluation.comparison import compare as compared

    return compared.run(named_folders(args.folders), args.out, args.reference)


def reproduce(args):
    from .studies import reproduce as reproduced

    return reproduced.run(args.name, args.data, args.out, args.minutes, args.config, args.device, args.only, args.fold)


def named_folders(given: list[str]) -> dict[str, list[Path]]:
    """NAME=FOLDER … as name → folders. Raises `SystemExit` for a word without a name."""
    found: dict[str, list[Path]] = {}
    for word in given:
        name, equals, folder = word.partition("=")
        if not (name and equals and folder):
            raise SystemExit(f"'{word}': give each network as NAME=FOLDER.")
        found.setdefault(name, []).append(Path(folder))
    return found


@ends_with_its_reader
def main(arguments=None) -> int:
    started = time.monotonic()
    args = parser().parse_args(arguments)
    args.started = started
    from rtuncertainty.core.errors import InputError
    from rtuncertainty.core.runtime import prepare as prepare_runtime

    prepare_runtime()
    try:
        print(args.func(args))
    except InputError as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt:
        raise SystemExit("Interrupted; the same command goes on where it stopped.") from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
