"""The command line, `rtuncertainty` or `python -m rtuncertainty`. Exit codes: 0 done, 2 bad input or usage, 3 out of
memory, 4 cancelled, 1 anything else; one line on standard error."""

from __future__ import annotations

import argparse
import json
import sys

from .. import __version__
from ..core.errors import Cancelled, InputError, RTUncertaintyError
from ..core.events import Progress
from ..core.runtime import prepare
from . import collect, commissioning, dose, job, output, plan
from .output import say, say_event


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message} (see '{self.prog} --help')")


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    main = _Parser(
        prog="rtuncertainty",
        description="Synthetic CT and structures from MR, with checked uncertainty. Research use only.",
    )
    main.add_argument("--version", action="version", version=__version__)
    commands = main.add_subparsers(dest="command", required=True, parser_class=_Parser)

    p = commands.add_parser("models", help="list the models that are found")
    p.add_argument("--json", action="store_true", help="whole cards as JSON")

    p = commands.add_parser("predict", help="MR to synthetic CT, structures and uncertainty")
    p.add_argument("--model", required=True, help="name of a shipped model or folder of a bundle")
    p.add_argument(
        "--input",
        required=True,
        action="append",
        metavar="[NAME=]FILE",
        help="MR: NIfTI, NRRD, MHA or a folder with one DICOM series; given again for a model that sees several",
    )
    p.add_argument("--reference", help="CT in the same frame, to compare with")
    _job(p)
    p.add_argument(
        "--keep-samples",
        type=int,
        default=0,
        metavar="N",
        help="also write N single samples as whole images, and the structures' variance maps (default 0)",
    )
    p.add_argument("--output", required=True, help="folder for the results")

    p = commands.add_parser("propagate", help="planning CT and structures to a daily CT")
    p.add_argument(
        "--model",
        help="name of a shipped model or folder of a bundle (default: registration alone, for two scans of any region)",
    )
    p.add_argument("--planning", required=True, help="planning CT: NIfTI, NRRD, MHA or a folder with one DICOM series")
    p.add_argument(
        "--structures",
        required=True,
        help="of the planning CT: .seg.nrrd, a DICOM RTSTRUCT, or a label image with its names in a .json beside it",
    )
    p.add_argument(
        "--daily",
        required=True,
        action="append",
        help="daily CT; given again for each further day: a result each, and a table and page over the days",
    )
    p.add_argument("--rigid", default="on", choices=["on", "off"], help="rigid pre-alignment")
    p.add_argument(
        "--refine",
        choices=["off", "fast", "full"],
        help="steps of optimisation after the network (default: fast; full without a model)",
    )
    p.add_argument(
        "--symmetric", default="on", choices=["on", "off"], help="on: swapping the scans gives the inverse deformation"
    )
    _common(p)
    p.add_argument("--output", required=True, help="folder for the results")

    p = commands.add_parser("export", help="a result as DICOM: RTSTRUCT, CT series, SEG, registration (needs pydicom)")
    p.add_argument("--result", required=True, help="folder that predict or propagate wrote")
    p.add_argument(
        "--dicom-reference",
        required=True,
        help="folder with the DICOM series that the result describes: the MR, or the daily CT",
    )
    p.add_argument("--output", required=True, help="new folder for the DICOM files")
    p.add_argument(
        "--what",
        nargs="+",
        metavar="KIND",
        help="rtstruct ct seg probability registration (default: what the result has, without probability)",
    )
    p.add_argument(
        "--structures",
        default="default",
        help="default, propagated, segmented, or a .seg.nrrd file, such as contours accepted in Slicer",
    )
    p.add_argument("--dicom-planning", help="folder with the planning CT's DICOM series; a registration names it")
    p.add_argument("--uid-prefix", default="2.25", help="new UIDs lie below it")
    p.add_argument("--uid-seed", help="any text: the same export then gets the same UIDs")
    job.add_events(p)

    collect.add(commands)
    dose.add(commands)
    plan.add(commands)
    commissioning.add(commands)

    p = commands.add_parser("demo", help="a job on an embedded digital patient")
    p.add_argument(
        "--job",
        default="predict",
        choices=["predict", "propagate"],
        help="MR of a digital limb to synthetic CT, or a digital pelvis to its next day",
    )
    p.add_argument("--output", default="demo-output")
    p.add_argument("--model", help="default: limb-t1-synct, or pelvis-ct-propagation-phantom")
    p.add_argument("--case", help="predict: folder with your own mr (and ct, if known) instead of the digital limb")
    p.add_argument("--scene", action="store_true", help="also write scene.mrb (needs slicer-core)")
    p.add_argument("--limb-seed", type=int, default=7, help="which digital patient")
    p.add_argument("--samples", type=int, default=20)
    p.add_argument("--device", default="auto")
    p.add_argument("--debug", action="store_true")
    p.add_argument("--progress", choices=["text", "json", "none"], default="text")
    return main


def _job(p):
    _common(p)
    p.add_argument(
        "--bias-field", default="auto", choices=["auto", "on", "off"], help="N4: auto corrects where it finds a field"
    )


def _common(p):
    p.add_argument(
        "--site", metavar="FILE", help="site.json of a commissioning: its intervals and limits in place of the card's"
    )
    p.add_argument("--samples", type=int, default=20, help="dropout samples (default 20; 1: one pass without dropout)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:n")
    job.add_result(p)


def main(arguments=None) -> int:
    """Runs a command line; errors become one line on standard error.

    Args:
        arguments: without the program's name; None: those of the process.

    Returns:
        The exit code.
    """
    prepare()
    output.prepare()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    as_events = (
        any(a == "json" and b == "--progress" for a, b in zip(arguments[1:], arguments))
        or "--progress=json" in arguments
    )
    try:
        args = parser().parse_args(arguments)
        empty = [name for name, value in vars(args).items() if "" in (value if isinstance(value, list) else [value])]
        if empty:
            raise InputError(
                f"--{empty[0].replace('_', '-')} is empty; a name that your shell does not know becomes this."
            )
        if args.command != "models":
            _quiet_itk(args.debug)
        return {
            "models": _models,
            "predict": _predict,
            "propagate": _propagate,
            "export": _export,
            "demo": _demo,
            **collect.COMMANDS,
            **dose.COMMANDS,
            "dose": _dose,
            "commission": _commissioning(commissioning.commission),
            "monitor": _commissioning(commissioning.monitor),
        }[args.command](args)
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in arguments:
            raise
        if isinstance(error, KeyboardInterrupt):  # before a command looks after signals itself
            error = Cancelled("Cancelled; nothing was written.")
        code = error.exit_code if isinstance(error, RTUncertaintyError) else 3 if _memory(error) else 1
        text = str(error) if isinstance(error, RTUncertaintyError) else f"{type(error).__name__}: {error}"
        text = " ".join(text.split())
        if code == 1:
            text += " (run again with --debug for the traceback)"
        if as_events:
            kept = getattr(error, "output", None)
            output_of = {"output": str(kept)} if kept is not None else {}
            say_event({"event": "error", "exit_code": code, "message": text, **output_of})
        say(f"rtuncertainty: {text}", error=True)
        return code


def _quiet_itk(debug: bool) -> None:
    """Keep ITK's warnings, several lines of C++ each, off standard error: what a user should know we say."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(debug)


def _memory(error: BaseException) -> bool:
    """Whether memory ran out; where torch was never loaded (`models`, `--help`), only Python's own error says so."""
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from ..sampling.inference import is_out_of_memory

    return is_out_of_memory(error)


def _models(args) -> int:
    from ..bundles import bundle

    cards, hidden = bundle.list_bundles(), bundle.hidden_bundles()
    if args.json:
        say(json.dumps(cards, indent=1))
    width = max((len(card["name"]) for card in cards), default=0)
    for card in cards if not args.json else []:
        for one in (card, *(c for c in hidden if c["name"] == card["name"])):
            unused = "" if one is card else "  (not used: see above)"
            say(f"{one['name']:{width}} {one['version']:8} {one['title']}  {one['folder']}{unused}")
    for line in bundle.missing_folders():
        say(line, error=True)
    for fault in bundle.broken_bundles().values():
        say(f"broken: {fault}", error=True)
    if not cards and not args.json:
        say("No models found; set RTU_MODELS to a folder of bundles.")
    return 0


def _predict(args) -> int:
    from ..jobs.prediction import predict_to_folder

    folder = predict_to_folder(
        args.input[0] if len(args.input) == 1 else args.input,
        args.model,
        args.output,
        progress=job.progress(args),
        scene=args.scene,
        report=args.report,
        samples=args.samples,
        seed=args.seed,
        device=args.device,
        bias_field=args.bias_field,
        site=args.site,
        reference=args.reference,
        keep_samples=args.keep_samples,
    )
    job.done(folder, args)
    return 0


def _propagate(args) -> int:
    from ..core.events import PROPAGATION
    from ..jobs.propagation import propagate_course, propagate_to_folder

    several = len(args.daily) > 1
    folder = (propagate_course if several else propagate_to_folder)(
        args.planning,
        args.structures,
        args.daily if several else args.daily[0],
        args.model,
        args.output,
        progress=job.progress(args, shares=PROPAGATION),
        scene=args.scene,
        report=args.report,
        samples=args.samples,
        seed=args.seed,
        device=args.device,
        rigid=args.rigid,
        refine=args.refine,
        symmetric=args.symmetric,
        site=args.site,
    )
    job.done(folder, args)
    return 0


def _export(args) -> int:
    from .. import dicom
    from ..dicom.structure_input import require_pydicom

    require_pydicom("'export'")
    progress = Progress(job.show(args.progress), job.cancel_on_signal(), shares=dicom.SHARES)
    done = dicom.export_result(
        args.result,
        args.dicom_reference,
        args.output,
        what=args.what,
        structures=args.structures,
        progress=progress,
        dicom_planning=args.dicom_planning,
        uid_prefix=args.uid_prefix,
        uid_seed=args.uid_seed,
    )
    job.done(done.folder.absolute(), args)
    if args.progress != "json":
        say("\n".join(dicom.summary(done)))
    return 0


def _dose(args) -> int:
    plans = plan.library()
    progress = Progress(job.show(args.progress), job.cancel_on_signal(), shares=plans.SHARES)
    folder = plan.run(args, progress)
    job.done(folder, args)
    if args.progress != "json":
        say("\n".join(plans.summary(folder)))
    return 0


def _commissioning(command):
    def run(args) -> int:
        folder = command(args, job.show(args.progress), job.cancel_on_signal())
        if folder is not None:
            job.done(folder, args)
        return 0

    return run


def _demo(args) -> int:
    from ..core.events import PROPAGATION
    from . import demo, demo_propagation

    if args.job == "propagate":
        if args.case:
            raise InputError("--case is for the job predict; for scans of your own use 'rtuncertainty propagate'.")
        progress = Progress(
            job.show(args.progress),
            job.cancel_on_signal(),
            ("scene", "report") if args.scene else ("report",),
            shares=PROPAGATION,
        )
        folder = demo_propagation.run(
            args.output,
            args.model or demo_propagation.MODEL,
            progress,
            scene=args.scene,
            seed=args.limb_seed,
            samples=args.samples,
            device=args.device,
        )
    else:
        progress = Progress(
            job.show(args.progress), job.cancel_on_signal(), ("scene", "report") if args.scene else ("report",)
        )
        folder = demo.run(
            args.output,
            args.model or "limb-t1-synct",
            progress,
            case=args.case,
            scene=args.scene,
            limb_seed=args.limb_seed,
            samples=args.samples,
            device=args.device,
        )
    if args.progress == "json":
        job.done(folder, args)
    return 0
