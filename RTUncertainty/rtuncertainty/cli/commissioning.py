"""The commands `commission` and `monitor` of the command line."""

from __future__ import annotations

from ..core.events import CancelToken, Progress
from . import job
from .output import say


def add(commands) -> None:
    """Add both to the parser's `commands`."""
    p = commands.add_parser(
        "commission", help="a model on a site's own patients: accuracy, intervals, limits, a document"
    )
    p.add_argument(
        "--model",
        help="name of a shipped model or folder of a bundle (default: that of the results in the patients' folders)",
    )
    p.add_argument(
        "--cases",
        required=True,
        metavar="DIR",
        help="a folder with a folder for each patient: image and reference (CT, contours), files or DICOM as they come",
    )
    p.add_argument(
        "--output",
        required=True,
        help="folder for site.json, commissioning.html, tables and results; called again, it goes on",
    )
    p.add_argument("--site-name", metavar="NAME", help="of the site, as the document calls it")
    p.add_argument("--person", metavar="NAME", help="who is responsible for the commissioning")
    p.add_argument("--samples", type=int, default=20, help="dropout samples (default 20)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:n")
    p.add_argument(
        "--bad-dice",
        type=float,
        default=0.85,
        metavar="DICE",
        help="contours below it are those that flags should catch",
    )
    p.add_argument("--list", action="store_true", help="only show what was found of each patient, and compute nothing")
    p.add_argument(
        "--pdf", action="store_true", help="also write commissioning.pdf (needs PySide6, or Slicer's Python)"
    )
    job.add_events(p)
    p = commands.add_parser("monitor", help="routine results against a site's commissioning: control charts, drift")
    p.add_argument("--site", required=True, metavar="FILE", help="site.json of the commissioning")
    p.add_argument(
        "--results",
        required=True,
        nargs="+",
        metavar="DIR",
        help="result folders, or folders that hold such; a review.csv of RT Review in one is read too",
    )
    p.add_argument("--output", help="folder for monitor.html and monitor.csv")
    p.add_argument("--test-case", action="store_true", help="also run the test case and compare its checksum")
    p.add_argument("--model", help="folder of the bundle, for --test-case (default: found by its name)")
    job.add_events(p)


def commission(args, listener, token: CancelToken):
    """Runs `commission`.

    Args:
        args: parsed.
        listener: of events.
        token: cancels.

    Returns:
        The output folder; None where the patients were only listed.

    Raises:
        InputError: as of `commissioning.commission`.
    """
    from ..bundles import bundle
    from ..commissioning import cases, document, run

    if args.list:
        card = cases.card_of_results(args.cases) if args.model is None else bundle.read_card(bundle.find(args.model))
        _table(cases.find(args.cases, card))
        return None
    if args.pdf:
        document.require_pdf()
    done = run.commission(
        args.model,
        args.cases,
        args.output,
        site_name=args.site_name or "",
        person=args.person or "",
        samples=args.samples,
        seed=args.seed,
        device=args.device,
        bad_dice=args.bad_dice,
        on_cases=None if args.progress == "json" else _table,
        progress=Progress(listener, token, shares=run.SHARES),
    )
    if args.pdf:
        document.write_pdf(done)
    if args.progress != "json":
        say(f"\n{done.advice.sentence}")
        for severity, text in done.advice.findings:
            say(f"  {severity}: {text}")
    return done.output


def _table(listed) -> None:
    """One line a patient."""
    width = max(len(c.name) for c in listed)
    for c in listed:
        what = "; ".join([*(f"no {m}" for m in c.missing), *c.odd]) or "; ".join(
            f"{role}: {item.name}" for role, item in c.items.items()
        )
        unused = f" (not used: {', '.join(c.unused)})" if c.unused else ""
        say(f"{c.name:{width}}  {'used    ' if c.usable else 'LEFT OUT'}  {what}{unused}")


def monitor(args, listener, token: CancelToken):
    """Runs `monitor`.

    Args:
        args: parsed.
        listener: of events.
        token: cancels.

    Returns:
        The output folder, or None.

    Raises:
        InputError: as of `commissioning.monitor`.
    """
    from ..commissioning import watch

    found = watch.monitor(
        args.site,
        args.results,
        args.output,
        test_case=args.test_case,
        model=args.model,
        progress=Progress(listener, token, shares=watch.SHARES),
    )
    if args.progress != "json":
        for severity, text in found.alarms:
            say(f"{severity}: {text}")
        if not any(severity in ("serious", "warning") for severity, _ in found.alarms):
            say(f"{len(found.points)} results: nothing has drifted since the commissioning.")
    return found.output
