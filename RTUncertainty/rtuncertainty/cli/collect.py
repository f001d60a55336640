"""The command `collect` of the command line."""

from __future__ import annotations

from . import job


def add(commands) -> None:
    """Add the command to the parser's `commands`."""
    p = commands.add_parser("collect", help="results of another tool (TotalSegmentator, nnU-Net, …) as a result folder")
    p.add_argument("--input", help="the image that the model saw, or the daily scan (default: as source.json says)")
    p.add_argument(
        "--from",
        dest="sources",
        required=True,
        nargs="+",
        metavar="DIR",
        help="what the tool wrote: a folder, or one for each member of an ensemble",
    )
    p.add_argument("--source", metavar="FILE", help="source.json (default: that in the first folder, if there is one)")
    p.add_argument("--modality", choices=["CT", "MR"], help="of the input (default: by its tag or values)")
    p.add_argument("--case", metavar="NAME", help="the patient's name, in folders that hold several")
    p.add_argument("--planning", help="of deformations: the planning scan")
    p.add_argument(
        "--structures", help="of deformations: what was drawn on the planning scan (.seg.nrrd, RTSTRUCT or label image)"
    )
    p.add_argument(
        "--site", metavar="FILE", help="site.json of a commissioning of this tool: its intervals and limits count"
    )
    job.add_result(p)
    p.add_argument("--output", required=True, help="folder for the results")


def collect(args) -> int:
    """Runs `collect`; prints the folder, or events.

    Args:
        args: parsed.

    Returns:
        The exit code, 0.

    Raises:
        InputError: what `foreign.collect` raises.
    """
    from ..foreign.job import SHARES
    from ..jobs.collect import collect_to_folder

    folder = collect_to_folder(
        args.input,
        args.sources,
        args.output,
        progress=job.progress(args, shares=SHARES),
        scene=args.scene,
        report=args.report,
        source=args.source,
        modality=args.modality,
        case=args.case,
        planning=args.planning,
        planning_structures=args.structures,
        site=args.site,
    )
    job.done(folder, args)
    return 0


COMMANDS = {"collect": collect}
