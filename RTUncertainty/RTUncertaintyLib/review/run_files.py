"""A run in the scene as files for the backend: its contours as they are now, nested contours, tables; nothing in the
scene changes.

From the nodes and not from the result folder, which may be gone: contours that were corrected by hand count, and runs
of saved scenes too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtuncertainty.results import Result

from ..mrml.segmentation import segment_id
from ..mrml.segmentation_export import segments_image
from ..mrml.volume_export import RAS_TO_LPS, UnusableVolume, ijk_to_world, in_lps, native_lps, parent_to_world
from ..runs.review_data import ReviewData, table_rows_of
from ..runs.run import Run
from ..widgets.text import _
from .report.content import there

MARGIN_MM = 20.0
"""Around nested contours, which the scene keeps without: a calibrated contour may be larger than all that were
sampled.
"""


@dataclass(frozen=True)
class Contour:
    """A structure's contour: its segmentation node and segment. `sampled`: whether the run's distribution is of this
    very path.
    """

    name: str
    node: object
    identifier: str
    sampled: bool = True


def contours(run: Run) -> list[Contour]:
    """The contour of each structure that counts: the accepted one of a propagation, else the proposed path's, else
    the run's only one.
    """
    found = []
    for structure in ReviewData.of_run(run).structures:
        node, sampled = run.contour(structure.name)
        if node is not None:
            found.append(Contour(structure.name, node, segment_id(node, structure.name), sampled))
    return found


def grid_of(run: Run):
    """The volume node whose voxels the run's contours have. Raises `UnusableVolume` when none is left."""
    images = [run.ct, *run.overlays.values(), run.input]
    node = next((n for n in images if there(run, n) and n.GetImageData() is not None), None)
    if node is None:
        raise UnusableVolume(_("{name} has no image left in the scene: load its result again.").format(name=run.name))
    return node


def contours_image(run: Run, chosen: list[Contour], native: bool = False):
    """Contours as a SimpleITK image with Slicer's header. native: on all voxels of the run's image as it was made,
    whatever transform it lies under now; else where they lie in the world, cropped. Raises `UnusableVolume`."""
    grid = grid_of(run)
    to_grid = np.linalg.inv(ijk_to_world(grid))
    segments = [(c.node, c.identifier, to_grid @ parent_to_world(c.node)) for c in chosen]
    return segments_image(segments, grid, run.name, whole=native, to_lps=native_lps(grid) if native else None)


def write_distributions(run: Run, names, folder: Path) -> Path | None:
    """Write nested contours and volumes of these structures as a result folder that `rtuncertainty dvh --bands` reads.

    None, and no folder, where the run has neither nested contours nor probabilities of any.
    """
    from ..runs.inside import inside_of, percent_of

    found = {name: node for name in names if (node := inside_of(run, name)) is not None}
    if not found:
        return None
    limits = _limits(run)
    inside = {
        name: in_lps(*_padded(percent_of(node), RAS_TO_LPS @ ijk_to_world(node), limits))
        for name, node in found.items()
    }
    table = run.tables.get("volume_distribution")
    rows = table_rows_of(table) if there(run, table) else None
    Result({}, {"inside": inside, "volume_distribution": rows or None}).write(folder, ".nrrd")
    return folder


def _limits(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """(world LPS to voxels of the run's image, its size): beyond it no contour was drawn."""
    grid = grid_of(run)
    return np.linalg.inv(RAS_TO_LPS @ ijk_to_world(grid)), np.array(grid.GetImageData().GetDimensions())


def _padded(array: np.ndarray, matrix: np.ndarray, limits) -> tuple[np.ndarray, np.ndarray]:
    """Voxels with a margin of zeros as far as the run's image reaches, and their matrix."""
    size, spacing = np.array(array.shape[::-1]), np.linalg.norm(matrix[:3, :3], axis=0)
    wanted = np.ceil(MARGIN_MM / spacing).astype(int)
    before, after = wanted.copy(), wanted.copy()
    to_grid = limits[0] @ matrix
    turn = np.rint(to_grid[:3, :3])
    if np.allclose(to_grid[:3, :3], np.eye(3), atol=1e-2) and (turn == np.eye(3)).all():
        first = np.rint(to_grid[:3, 3]).astype(int)
        before, after = (
            np.clip(w, 0, None) for w in (np.minimum(before, first), np.minimum(after, limits[1] - first - size))
        )
    matrix = matrix.copy()
    matrix[:3, 3] -= matrix[:3, :3] @ before
    return np.pad(array, [(b, a) for b, a in zip(before[::-1], after[::-1])]), matrix
