"""A whole propagation: propagate, write beside, add scene and report, move into place; and one for each of several
daily scans."""

from __future__ import annotations

from pathlib import Path

from ..bundles import bundle
from ..core import image_io
from ..core.errors import InputError
from ..core.events import PROPAGATION, Progress
from ..propagation.as_result import as_result
from ..propagation.job import ANY_REGION, propagate
from ..report import course
from ..results.result import require_space
from .finish import finish, require_scene_writer


def propagate_to_folder(
    planning,
    structures,
    daily,
    model,
    output,
    *,
    progress: Progress | None = None,
    scene=False,
    report=False,
    **options,
) -> Path:
    """Runs `propagate` and writes its result folder, which appears whole or not at all.

    Args:
        planning: path of a scan.
        structures: path of what holds them, as of `propagate`.
        daily: path of a scan.
        model: name or folder of a bundle; None: registration alone.
        output: the result folder.
        progress: takes the stages; its token cancels.
        scene: whether `scene.mrb` is wanted.
        report: whether `report.html` is wanted.
        **options: of `propagate`.

    Returns:
        The folder's absolute path.

    Raises:
        InputError: as of `propagate`, and for a folder that cannot be written.
        OutOfMemoryError: as of `propagate`.
        Cancelled: as of `propagate`.
    """
    progress = progress or Progress(shares=PROPAGATION)
    output = Path(output).absolute()
    require_scene_writer(scene)
    card = bundle.read_card(bundle.find(ANY_REGION if model is None else model))
    with image_io.Staging(output) as staging:
        found = propagate(
            planning,
            structures,
            daily,
            card["folder"],
            progress=progress,
            before=lambda image: require_space(image, output, 6),
            **options,
        )
        progress.stage("write", 0.0, "Writing the results")
        result = as_result(found)
        del found
        finish(staging, result, daily, progress, scene, report, (structures, planning))
    return output


def propagate_course(
    planning, structures, dailies, model, output, *, progress: Progress | None = None, **options
) -> Path:
    """Runs `propagate_to_folder` for each of several daily scans: day_01, day_02, … in one folder, with course.csv and
    course.html over the days (`report.course`).

    A scan that will not do is left out; the others are done, and are in the course, when its error is raised.

    Args:
        planning: path of a scan.
        structures: path of what holds them.
        dailies: paths of the daily scans, in the order of the days.
        model: name or folder of a bundle; None: registration alone.
        output: the folder of the course.
        progress: takes the stages of one after the other; its token cancels.
        **options: of `propagate_to_folder`.

    Returns:
        The folder's absolute path.

    Raises:
        InputError: a scan is given twice, or will not do: which, and why.
        OutOfMemoryError: as of `propagate`.
        Cancelled: as of `propagate`; what was finished is in the course.
    """
    progress, output = progress or Progress(shares=PROPAGATION), Path(output).absolute()
    if len({Path(d).absolute() for d in dailies}) < len(dailies):
        raise InputError("a daily scan is given twice; give --daily once for each.")
    days: dict[int, Path] = {}
    failed: list[tuple[int, InputError]] = []
    try:
        for number, daily in enumerate(dailies, 1):
            folder = output / f"day_{number:02d}"
            part = Progress(
                _of_day(progress.listener, number, len(dailies)),
                progress.cancel,
                progress.extra,
                shares=progress.shares,
            )
            try:
                days[number] = propagate_to_folder(planning, structures, daily, model, folder, progress=part, **options)
            except InputError as error:
                failed.append((number, error))
    finally:
        if days:
            course.write(days, output)
    if failed:
        number, first = failed[0]
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        done = f" {output} has the other {len(days)}." if days else ""
        raise InputError(f"daily scan {number}{more}: {first}{done}") from first
    return output


def _of_day(listener, number: int, count: int):
    """The events of one scan as a part of those of all."""

    def told(event: dict) -> None:
        if event["event"] == "progress":
            event = event | {
                "overall": round((number - 1 + event["overall"]) / count, 4),
                "seconds_left": None,
                "message": f"Daily scan {number} of {count}. {event['message']}",
            }
        listener(event)

    return None if listener is None else told
