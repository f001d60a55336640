"""A whole propagation: propagate, write beside, add scene and report, move into place."""

from __future__ import annotations

from pathlib import Path

from ..bundles import bundle
from ..core import image_io
from ..core.events import PROPAGATION, Progress
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
    """Run `propagate` and write its result folder; returns its absolute path.

    The inputs are paths; `model` None: registration alone. `options` are those of `propagate`. The folder appears whole
    or not at all.
    Raises what `propagate` raises, and `InputError` for a folder that cannot be written.
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
