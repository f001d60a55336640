"""The commands `dvh` and `gamma` of the command line."""

from __future__ import annotations

from . import job
from .output import say


def add(commands) -> None:
    """Add both commands to the parser's `commands`."""
    p = commands.add_parser("dvh", help="dose-volume histograms of structures, with bands of uncertain ones")
    p.add_argument("--dose", required=True, help="dose: RTDOSE, or NRRD, NIfTI, MHA in Gy")
    p.add_argument(
        "--structures",
        required=True,
        help=".seg.nrrd, DICOM RTSTRUCT, or a label image with its names in a .json beside it; any grid",
    )
    p.add_argument(
        "--output", required=True, help="table of numbers, dvh.csv; the curves go beside it, to dvh_curves.csv"
    )
    p.add_argument(
        "--bands", metavar="DIR", help="folder that predict or propagate wrote: its inside_ images become 5-95 %% bands"
    )
    p.add_argument(
        "--scan", help="the scan that the structures were drawn on: thickness of those with contours in one plane only"
    )
    p.add_argument(
        "--kept-samples",
        action="store_true",
        help="bands over the samples that predict --keep-samples wrote into the folder of --bands",
    )
    p.add_argument(
        "--prescription", type=float, metavar="GY", help="also tell doses in percent of it, and V95, V100, V107"
    )
    p.add_argument(
        "--progress", choices=["text", "json", "none"], default="text", help="json: one event a line on standard output"
    )
    _common(p)

    p = commands.add_parser("gamma", help="gamma index of two doses")
    p.add_argument("--reference", required=True, help="dose: RTDOSE, or NRRD, NIfTI, MHA in Gy")
    p.add_argument("--evaluated", required=True, help="dose to compare with it; any grid in the same frame")
    p.add_argument(
        "--dose-percent",
        type=float,
        default=2.0,
        help="tolerance in percent of the reference's largest dose (default 2)",
    )
    p.add_argument("--distance-mm", type=float, default=2.0, help="distance to agreement (default 2)")
    p.add_argument(
        "--cutoff",
        type=float,
        default=10.0,
        help="leave out what is below this percentage of the largest dose (default 10)",
    )
    p.add_argument("--local", action="store_true", help="tolerance in percent of each voxel's own dose")
    p.add_argument("--max-gamma", type=float, default=2.0, help="gamma is not followed beyond this (default 2)")
    p.add_argument("--output", help="image of gamma, for example gamma.nrrd; -1 where it was not evaluated")
    _common(p)


def _common(p):
    p.add_argument("--dose-unit", choices=["Gy", "cGy"], help="of image files (default Gy); an RTDOSE brings its own")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:n")
    job.add_debug(p)


def _note(message: str) -> None:
    say(f"note: {message}", error=True)


def dvh(args) -> int:
    """Runs `dvh`; prints the paths of both tables, or events.

    Args:
        args: parsed.

    Returns:
        The exit code, 0.

    Raises:
        InputError: what `dose` raises.
    """
    from ..core.events import Progress
    from ..dose.job import SHARES, dvh_to_files
    from ..sampling.inference import choose_device

    events = args.progress == "json"
    progress = Progress(job.show("json" if events else "none"), job.cancel_on_signal(), shares=SHARES)
    paths = dvh_to_files(
        args.dose,
        args.structures,
        args.output,
        band_folder=args.bands,
        scan=args.scan,
        kept_samples=args.kept_samples,
        unit=args.dose_unit,
        prescription=args.prescription,
        device=choose_device(args.device),
        note=progress.note if events else _note,
        progress=progress,
    )
    if events:
        job.done(paths[0], args)
    else:
        say("\n".join(map(str, paths)))
    return 0


def gamma(args) -> int:
    """Runs `gamma`; prints the pass rate in one line.

    Args:
        args: parsed.

    Returns:
        The exit code, 0.

    Raises:
        InputError: what `dose` raises.
    """
    from ..dose.job import gamma_to_file
    from ..sampling.inference import choose_device

    found = gamma_to_file(
        args.reference,
        args.evaluated,
        args.output,
        unit=args.dose_unit,
        note=_note,
        device=choose_device(args.device),
        dose_percent=args.dose_percent,
        distance_mm=args.distance_mm,
        cutoff=args.cutoff,
        local=args.local,
        max_gamma=args.max_gamma,
    )
    if found.outside:
        _note(
            f"{found.outside} voxels above the cut-off lie beyond the evaluated dose, or so near to its end that "
            "whether they pass cannot be known; they do not count."
        )
    say(
        f"{found.pass_rate():.2f} % of {found.evaluated} voxels pass {args.dose_percent:g} %/{args.distance_mm:g} mm "
        f"({'local' if args.local else 'global'}, cut-off {args.cutoff:g} %); mean gamma {found.mean():.3f}"
    )
    if args.output:
        say(args.output)
    return 0


COMMANDS = {"dvh": dvh, "gamma": gamma}
