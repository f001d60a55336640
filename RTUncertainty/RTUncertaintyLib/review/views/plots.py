"""Plots of a run as chart nodes: distributions of volumes, a map along the slices, z-scores and errors against a
reference CT.

Table, series and chart are the run's: they lie in its folder, are filled anew when the plot is made again, and go with
the run.
"""

from __future__ import annotations

import numpy as np
import slicer
import vtk

from ...mrml.plots import BLUE, GREY, ORANGE, Plot, on_white
from ...mrml.segmentation import mask_on
from ...mrml.volumes import image_like
from ...runs.layout import before_plot
from ...runs.overlays import OVERLAYS
from ...runs.review_data import ReviewData
from ...runs.run import Run

BINS = 12
FEWEST = 50
"""Voxels of a bin below which its RMS says nothing."""
Z_LIMIT = 5.0


def volume_distributions(run: Run, names=None, level: float = 0.9):
    """Of each structure the share of the distribution (percent) below a volume (ml), and its interval at `level` as a
    thick bar (the bars lie one below the other, so that none hides another).

    `names`: which structures, all with a distribution when None. Calibrated volumes where the run has them. Returns the
    vtkMRMLPlotChartNode, None when no structure has a distribution.
    """
    plot = Plot(run, "volumes", "Volumes", "Volume (ml)", "Part of the distribution below (%)")
    data = ReviewData.of_run(run)
    chosen = [s for s in data.structures if (names is None or s.name in names) and len(s.distribution) > 1]
    for index, structure in enumerate(chosen):
        points, color, height = structure.distribution, on_white(structure.color), 80 - 60 * (index + 0.5) / len(chosen)
        calibrated = all(p.calibrated_ml is not None for p in points)
        volume = [p.calibrated_ml if calibrated else p.volume_ml for p in points]
        # the network's own distribution says so where no interval stands beside it
        own = not calibrated and all(i.lower_ml is None for i in structure.intervals.values())
        plot.line(
            structure.name + ", uncalibrated" * own,
            volume,
            [p.percentile for p in points],
            color,
            structure=structure.name,
        )
        interval = structure.interval(level)
        if interval is not None and interval.lower_ml is not None:
            calibration = "calibrated" if interval.calibrated else "not calibrated"
            plot.line(
                f"{structure.name}: {level:.0%} interval, {calibration}",
                [interval.lower_ml, interval.upper_ml],
                [height, height],
                color,
                width=5,
                dashed=not interval.calibrated,
                structure=structure.name,
            )
    return plot.done((0, 100))


def along_slices(run: Run, overlay_key: str, structure: str | None = None):
    """Mean and 95th percentile of a map inside the body, or one structure, in every axial slice, against its position
    in mm (S).

    Of a signed map (error, z-score, Jacobian) the mean and the mean distance from its middle. Returns the
    vtkMRMLPlotChartNode, None when the body (or the structure) has no voxel. Raises `KeyError` for a map that the run
    lacks.
    """
    node, overlay = run.overlays[overlay_key], OVERLAYS[overlay_key]
    axis, position = _slices(node)
    values = np.moveaxis(slicer.util.arrayFromVolume(node), axis, 0)
    inside = np.moveaxis(
        body_of(run, node) if structure is None else mask_on(run.main_segmentation, structure, node), axis, 0
    )
    where = f"in {structure}" if structure is not None else "in the body"
    mean, other = np.full(len(values), np.nan), np.full(len(values), np.nan)
    for index, (plane, within) in enumerate(zip(values, inside)):
        found = plane[within].astype(float)
        found = found[np.isfinite(found)]
        if found.size:
            mean[index] = found.mean()
            other[index] = np.abs(found - overlay.middle).mean() if overlay.signed else np.percentile(found, 95)
    there = np.isfinite(mean)
    unit = f" ({overlay.unit})" if overlay.unit else ""
    plot = Plot(
        run,
        f"slices.{overlay_key}",
        f"{overlay.name} along the slices",
        "Position, towards the head (mm)",
        f"{overlay.name} {where}{unit}",
    )
    if there.any():
        plot.line(f"mean {where}", position[there], mean[there], BLUE)
        second = f"mean distance from {overlay.middle:g}" if overlay.signed else "95th percentile"
        plot.line(second, position[there], other[there], ORANGE, dashed=True)
    return plot.done()


def zscore_histogram(run: Run):
    """The z-scores of a run against its reference CT as a density from −5 to 5, beside that of perfect error bars, N(0,
    1).

    What lies beyond counts at the ends. Returns the vtkMRMLPlotChartNode, None for a run without a reference.
    """
    z = _compared(run, "zscore")
    if z is None or not z.size:
        return None
    edges = np.linspace(-Z_LIMIT, Z_LIMIT, 51)
    density = np.histogram(np.clip(z, -Z_LIMIT + 1e-3, Z_LIMIT - 1e-3), edges)[0] / (z.size * (edges[1] - edges[0]))
    plot = Plot(
        run,
        "zscore",
        f"z-scores: mean {z.mean():.2f}, SD {z.std():.2f} ({z.size} voxels)",
        "z-score: (synthetic CT − CT) / predictive SD",
        "Density",
    )
    steps = np.repeat(edges, 2)[1:-1]  # a stair, as a histogram is drawn
    plot.line("this image", steps, np.repeat(density, 2), BLUE)
    at = np.linspace(-Z_LIMIT, Z_LIMIT, 201)
    plot.line("perfect error bars, N(0, 1)", at, np.exp(-0.5 * at**2) / np.sqrt(2 * np.pi), ORANGE, dashed=True)
    return plot.done()


def error_against_sd(run: Run):
    """RMS error against the mean predictive SD (HU) in bins of equal numbers of voxels, and the line on which error
    bars are right.

    Returns the vtkMRMLPlotChartNode, None for a run without a reference or predictive SD.
    """
    error, sd = _compared(run, "error"), _compared(run, "predictive", "error")
    if error is None or sd is None or error.size < FEWEST:
        return None
    order = np.argsort(sd, kind="stable")
    parts = np.array_split(order, min(BINS, max(1, error.size // FEWEST)))
    predicted = np.array([sd[p].mean() for p in parts])
    found = np.array([np.sqrt(np.mean(error[p] ** 2)) for p in parts])
    plot = Plot(run, "error", "Error against predictive SD", "Predictive SD (HU)", "RMS error (HU)")
    plot.line("voxels with about this SD", predicted, found, BLUE, markers=True)
    top = float(max(predicted.max(), found.max()))
    plot.line("error bars that are right", [0.0, top], [0.0, top], GREY, dashed=True)
    return plot.done()


def show_chart(chart) -> None:
    """Show a chart in the application, in a layout with a plot view. Without the application's views nothing
    changes.
    """
    scene = chart.GetScene()
    module = getattr(getattr(slicer, "modules", None), "plots", None)
    if scene is None or scene is not slicer.mrmlScene or module is None:
        return
    before_plot(scene)
    module.logic().ShowChartInLayout(chart)


def body_of(run: Run, node) -> np.ndarray:
    """The body (bool) on the voxels of one of the run's maps: where a prediction has a spread, else tissue of the
    run's CT, else all.
    """
    shape = slicer.util.arrayFromVolume(node).shape
    for key in ("predictive", "entropy"):
        known = run.overlays.get(key)
        if known is not None and known.GetScene() is run.scene and slicer.util.arrayFromVolume(known).shape == shape:
            inside = slicer.util.arrayFromVolume(known) > 0
            if inside.any():
                return inside
    from .regions import body_of as tissue_of

    tissue = tissue_of(run, node)
    return np.ones(shape, bool) if tissue is None else tissue


def _slices(node) -> tuple[int, np.ndarray]:
    """Which axis of the array [k, j, i] runs from the feet to the head, and where its slices lie (mm, S, at the
    image's centre).
    """
    direction = np.array(image_like(np.zeros((1, 1, 1), np.uint8), node).GetDirection()).reshape(3, 3)
    along = int(np.abs(direction[2]).argmax())  # of i, j, k
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    size = node.GetImageData().GetDimensions()
    middle = [(n - 1) / 2 for n in size]
    position = []
    for index in range(size[along]):
        middle[along] = index
        position.append(matrix.MultiplyPoint((*middle, 1.0))[2])
    return 2 - along, np.array(position)


def _compared(run: Run, key: str, where: str | None = None) -> np.ndarray | None:
    """The values of a map in the body, where the map `where` (itself when None) was compared: it is exactly 0
    elsewhere.
    """
    node, other = run.overlays.get(key), run.overlays.get(where or key)
    if node is None or other is None or node.GetScene() is not run.scene or other.GetScene() is not run.scene:
        return None
    values, reference = (slicer.util.arrayFromVolume(n).astype(float) for n in (node, other))
    return values[body_of(run, node) & (reference != 0) & np.isfinite(reference) & np.isfinite(values)]
