"""`python -m training prepare|train|evaluate|export|reproduce`: from patients to a bundle. See training/README.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "RTUncertainty"))


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(prog="python -m training", description=__doc__.splitlines()[0])
    commands = main.add_subparsers(dest="command", required=True)

    p = commands.add_parser("prepare", help="align CT to MR, label, check and cache every patient")
    p.add_argument("--data", type=Path, required=True, help="folder with one folder per patient: mr, ct and, if known, gtv")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--only", nargs="*", help="names of the patients to prepare (default: all)")

    p = commands.add_parser("train", help="train one network; the same command resumes")
    p.add_argument("--prepared", type=Path, required=True, help="what prepare wrote")
    p.add_argument("--config", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True, help="run folder")
    p.add_argument("--minutes", type=float, help="stop in good order after so many minutes")
    p.add_argument("--stop-after", type=int, metavar="STEPS", help="stop in good order after so many steps")
    p.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])

    p = commands.add_parser("export", help="write the bundle of a run, with its card")
    p.add_argument("--run", type=Path, required=True)
    p.add_argument("--card", type=Path, required=True, help="YAML with what no run can know: title, licence, use")
    p.add_argument("--out", type=Path, required=True, help="bundle folder")
    p.add_argument("--evaluation", type=Path, help="evaluation.json of the run, whose figures go into the card")

    p = commands.add_parser("evaluate", help="compare a bundle with simple baselines on the validation patients")
    p.add_argument("--prepared", type=Path, required=True)
    p.add_argument("--run", type=Path, required=True)
    p.add_argument("--model", type=Path, required=True, help="bundle folder")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--samples", type=int, default=20)
    p.add_argument("--device", default="auto", help="auto, cpu or cuda")

    p = commands.add_parser("reproduce", help="all of an experiment in one resumable command")
    p.add_argument("name", choices=["limb"])
    p.add_argument("--data", type=Path, required=True, help="the patients, or what prepare wrote")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--minutes", type=float, help="for all of it; the next call resumes")
    p.add_argument("--config", type=Path, help="instead of the one for the device")
    p.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    return main


def main(arguments=None) -> int:
    args = parser().parse_args(arguments)
    from rtbackend.runtime import prepare as prepare_runtime
    prepare_runtime()
    if args.command == "prepare":
        from . import prepare
        rows = prepare.run(args.data, args.out, args.only)
        kept = sum(r["kept"] == "yes" for r in rows)
        print(f"{kept} of {len(rows)} pairs kept; see {args.out / 'prepare.csv'} and {args.out / 'overlays'}")
    elif args.command == "train":
        from . import train
        print(train.run(args.prepared, args.config, args.out, args.minutes, args.stop_after, args.device))
    elif args.command == "export":
        from . import export
        print(export.run(args.run, args.card, args.out, args.evaluation))
    elif args.command == "evaluate":
        from . import evaluate
        print(evaluate.run(args.prepared, args.run, args.model, args.out, args.samples, args.device))
    elif args.command == "reproduce":
        from . import reproduce
        print(reproduce.run(args.name, args.data, args.out, args.minutes, args.config, args.device))
    return 0


if __name__ == "__main__":
    sys.exit(main())
