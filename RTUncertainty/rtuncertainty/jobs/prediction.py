"""A whole run: predict, write beside, add scene and report, move into place."""

from __future__ import annotations

import tempfile
from pathlib import Path

import SimpleITK as sitk

from ..bundles import bundle
from ..core import image_io
from ..core.events import Progress
from ..prediction import channels
from ..prediction.as_result import as_result
from ..prediction.predict import predict
from ..results.result import require_space
from .finish import finish, require_scene_writer


def predict_to_folder(
    image, model, output, *, progress: Progress | None = None, scene=False, report=False, **options
) -> Path:
    """Run `predict` and write its result folder; returns its absolute path.

    `image` is a path, or of a model that sees several images what `prediction.channels.in_order` takes; `options` are
    those of `predict`. The folder appears whole or not at all.
    Raises what `predict` raises, and `InputError` for a folder that cannot be written.
    """
    progress = progress or Progress()
    output = Path(output).absolute()
    require_scene_writer(scene)
    card = bundle.read_card(bundle.find(model))
    with image_io.Staging(output) as staging:
        prediction = predict(
            image,
            card["folder"],
            progress=progress,
            before=lambda mr: require_space(mr, output, len(card["outputs"]["structures"])),
            **options,
        )
        progress.stage("write", 0.0, "Writing the results")
        result = as_result(prediction)
        del prediction
        first = channels.in_order(image, card)[0]
        with tempfile.TemporaryDirectory() as folder:
            if isinstance(first, sitk.Image):  # a part of an image of four dimensions
                sitk.WriteImage(first, f"{folder}/{channels.of_card(card)[0] or 'image'}.nrrd")
                first = f"{folder}/{channels.of_card(card)[0] or 'image'}.nrrd"
            finish(staging, result, first, progress, scene, report)
    return output
