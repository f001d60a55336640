"""Another tool's results as a result folder: collect, write beside, add scene and report, move into place."""

from __future__ import annotations

from pathlib import Path

from ..core import image_io
from ..core.events import Progress
from ..foreign.job import SHARES, collect
from ..results.result import require_space
from .finish import finish, require_scene_writer


def collect_to_folder(
    image, sources, output, *, progress: Progress | None = None, scene=False, report=False, **options
) -> Path:
    """Runs `collect` and writes its result folder, which appears whole or not at all.

    Args:
        image: as of `collect`.
        sources: as of `collect`.
        output: the result folder.
        progress: takes the stages; its token cancels.
        scene: whether `scene.mrb` is wanted.
        report: whether `report.html` is wanted.
        **options: of `collect`.

    Returns:
        The folder's absolute path.

    Raises:
        InputError: as of `collect`, and for a folder that cannot be written.
        Cancelled: the user cancelled.
    """
    progress = progress or Progress(shares=SHARES)
    output = Path(output).absolute()
    require_scene_writer(scene)
    with image_io.Staging(output) as staging:
        seen: list[Path] = []
        result = collect(image, sources, progress=progress, seen=seen.append, **options)
        count = len(result.summary["structures"])
        require_space(result.grid(), output, count, result.summary["options"]["members"])
        progress.stage("write", 0.0, "Writing the results")
        planned = options.get("planning_structures"), options.get("planning")
        finish(staging, result, seen[0], progress, scene, report, planned if planned[0] is not None else None)
    return output
