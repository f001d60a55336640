"""A whole propagation: propagate, write beside, add scene and report, move into place."""

from __future__ import annotations

from pathlib import Path

from ..bundles import bundle
from ..core import image_io
from ..core.events import PROPAGATION, Progress
from ..core.scans import acquisition
from ..propagation.as_result import as_result
from ..propagation.job import ANY_REGION, propagate
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
        result.summary |= {"acquisition": facts} if (facts := acquisition.of(daily)) else {}
        del found
        finish(staging, result, daily, progress, scene, report, (structures, planning))
    return output
