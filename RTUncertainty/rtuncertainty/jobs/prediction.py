"""A whole run: predict, write beside, add scene and report, move into place."""

from __future__ import annotations

import tempfile
from pathlib import Path

import SimpleITK as sitk

from ..bundles import bundle
from ..core import image_io
from ..core.events import Progress
from ..core.scans import acquisition
from ..prediction import channels
from ..prediction.as_result import as_result
from ..prediction.predict import predict
from ..results.result import require_space
from .finish import finish, require_scene_writer


def predict_to_folder(
    image, model, output, *, progress: Progress | None = None, scene=False, report=False, **options
) -> Path:
    """Runs `predict` and writes its result folder, which appears whole or not at all.

    Args:
        image: path of a file or DICOM folder; of a model that sees several images what `channels.in_order` takes.
        model: name or folder of a bundle.
        output: the result folder.
        progress: takes the stages; its token cancels.
        scene: whether `scene.mrb` is wanted.
        report: whether `report.html` is wanted.
        **options: of `predict`.

    Returns:
        The folder's absolute path.

    Raises:
        InputError: as of `predict`, and for a folder that cannot be written.
        OutOfMemoryError: as of `predict`.
        Cancelled: as of `predict`.
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
            scratch=staging.folder,
            before=lambda mr: require_space(
                mr, output, len(card["outputs"]["structures"]), options.get("keep_samples", 0)
            ),
            **options,
        )
        progress.stage("write", 0.0, "Writing the results")
        result = as_result(prediction)
        del prediction
        first = channels.in_order(image, card)[0]
        result.summary |= {"acquisition": facts} if (facts := acquisition.of(first)) else {}
        with tempfile.TemporaryDirectory() as folder:
            if isinstance(first, sitk.Image):  # a part of an image of four dimensions
                sitk.WriteImage(first, f"{folder}/{channels.of_card(card)[0] or 'image'}.nrrd")
                first = f"{folder}/{channels.of_card(card)[0] or 'image'}.nrrd"
            finish(staging, result, first, progress, scene, report)
    return output
