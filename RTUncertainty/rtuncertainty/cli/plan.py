"""The command `dose` of the command line, and how it finds what computes doses: the package
`rtuncertainty.dose.plan` beside this one, by name, only then.
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path

from ..core.errors import InputError
from . import job

REMEDY = (
    "run 'pip install --no-deps pydosert' and 'pip install \"pydantic-settings>=2.11\"' (its other dependencies "
    "are not used here)"
)


def add(commands) -> None:
    """Add `dose` to the parser's `commands`."""
    p = commands.add_parser(
        "dose", help="dose of a simple plan on a CT, a synthetic CT and samples of it (needs pydosert)"
    )
    p.add_argument(
        "--ct", required=True, help="CT that the plan is made on: NIfTI, NRRD, MHA or a folder with one DICOM series"
    )
    p.add_argument(
        "--structures",
        required=True,
        help=".seg.nrrd, DICOM RTSTRUCT, or a label image with its names in a .json beside it; any grid",
    )
    p.add_argument(
        "--target",
        metavar="NAME",
        help="structure to treat (default: the only one, or the first called PTV, CTV, GTV …)",
    )
    p.add_argument(
        "--synct",
        help="folder that predict wrote, or a synthetic CT as an image (then without bands), in the CT's frame",
    )
    p.add_argument(
        "--plan",
        metavar="JSON",
        help="plan: modality, beams, isocentre, prescription_gy … (default: the simple plan of --modality)",
    )
    p.add_argument(
        "--modality",
        choices=["photon", "proton"],
        help="of the default plan: four photon fields of 10 MV (default), or two proton fields",
    )
    p.add_argument(
        "--density",
        metavar="CSV",
        help="your scanner's table: hu, density (g/cm³) and where known electron_density, stopping_power",
    )
    p.add_argument(
        "--samples", type=int, default=20, help="samples of the synthetic CT for bands of 5-95 %% (default 20; 0: none)"
    )
    p.add_argument(
        "--kept-samples",
        action="store_true",
        help="instead of --samples, those that predict --keep-samples wrote into the folder of --synct",
    )
    p.add_argument(
        "--correlation-mm",
        type=float,
        metavar="MM",
        help="distance over which the synthetic CT's errors go together (default: as measured on "
        "validation patients; inf: everywhere)",
    )
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:n")
    p.add_argument("--output", required=True, help="folder for the doses and tables")
    job.add_events(p)


def library():
    """What computes doses.

    Returns:
        The package `rtuncertainty.dose.plan`.

    Raises:
        InputError: it or pydosert is missing; says what to install.
    """
    for name, remedy in (("pydosert", REMEDY), ("rtuncertainty.dose.plan", "install RTUncertainty again")):
        try:
            found = importlib.import_module(name)
        except ImportError as error:
            missing = getattr(error, "name", None) or name
            raise InputError(f"'dose' needs {missing if missing.startswith('pydantic') else name}: {remedy}.") from None
    return found


def run(args, progress) -> Path:
    """Runs `dose`.

    Args:
        args: parsed.
        progress: takes the stages; its token cancels.

    Returns:
        The folder.

    Raises:
        InputError: options that do not go with each other, and what `dose_to_folder` raises.
    """
    from ..report import dose_page
    from ..sampling.inference import choose_device

    if args.plan and args.modality:
        raise InputError("--modality is for the default plan; a plan file says its own, leave one of the two out.")
    given = {} if args.correlation_mm is None else {"correlation_mm": args.correlation_mm}
    if args.correlation_mm is not None and (math.isnan(args.correlation_mm) or args.correlation_mm < 0):
        raise InputError(f"--correlation-mm is {args.correlation_mm:g}; give 0 or more, or inf.")
    return library().dose_to_folder(
        args.ct,
        args.structures,
        args.output,
        synct=args.synct,
        plan=args.plan,
        modality=args.modality or "photon",
        density=args.density,
        target=args.target,
        samples=args.samples,
        kept=args.kept_samples,
        seed=args.seed,
        device=choose_device(args.device),
        page=dose_page.page,
        progress=progress,
        **given,
    )
