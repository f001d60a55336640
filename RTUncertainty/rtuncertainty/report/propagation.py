"""What the report says of a propagation: agreement of the two paths, likeness of the scans, folding, planning against daily volumes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..core import geometry, image_io, structure_set
from ..dicom import structure_input
from . import charts
from . import data
from . import text as words
from ..core.errors import InputError
from .charts import number
from .structures import Part, Structure
from .text import text, value

LIGHTS = {"red": ("serious", "Red", "expect to correct it"), "amber": ("warning", "Amber", "look at it"), "green": ("none", "Green", "the paths agree")}


def read_structures(folder: Path, summary: dict, grid: sitk.Image, inside: dict[str, Part], planning=None) -> list[Structure]:
    """The structures of a result folder on its grid, with their `inside` maps by name; the planning ones, when given as paths
    (structures, planning CT), where the rigid alignment puts them. They are left out when they cannot be read any more."""
    files = summary.get("files", {})
    found = {path: structure_set.read(folder / files[path], empty=True) for path in ("propagated", "segmented") if files.get(path)}
    moved, drawn = rigid(summary), {}
    try:
        given = _planning(*planning) if planning is not None else {}
    except InputError:
        given = {}  # the result is whole without them
    for name, s in given.items():
        drawn[name] = sitk.Resample(s.mask, grid, moved, sitk.sitkNearestNeighbor, 0)
    out = []
    for s in summary.get("structures", []):
        masks = {path: sets[s["name"]].mask for path, sets in found.items() if s["name"] in sets}
        drawn_here = drawn.get(s.get("planning_name") or s["name"], drawn.get(s["name"]))
        if drawn_here is not None:
            masks["planning"] = drawn_here
        contours = {path: Part.of(data.axial_array(mask) > 0) for path, mask in masks.items() if geometry.same_grid(mask, grid)}
        out.append(Structure(s["name"], tuple(s.get("color") or (255, 255, 0)), contours, s.get("default") or "propagated", inside.get(s["name"])))
    return out


def _planning(structures, ct) -> dict[str, structure_set.Structure]:
    """The planning structures; the contours of an RTSTRUCT need the CT that they were drawn on."""
    grid = image_io.read(ct) if ct is not None and structure_input.may_hold_dicom(structures) else None
    return structure_input.read(structures, grid=grid)


def rigid(summary: dict) -> sitk.Transform:
    """The rigid alignment that a summary tells of, from daily to planning points (LPS, mm); the identity without one."""
    told = summary.get("rigid") or {}
    transform = sitk.Euler3DTransform()
    if all(k in told for k in ("angles_degrees", "translation_mm", "centre_mm")):
        transform.SetCenter([float(v) for v in told["centre_mm"]])
        transform.SetRotation(*(math.radians(float(v)) for v in told["angles_degrees"]))
        transform.SetTranslation([float(v) for v in told["translation_mm"]])
    return transform


def agreement(result: data.Result) -> list[str]:
    """Every structure in a row, worst light first: how far its two contours agree, and how its volume changed."""
    rows = result.tables.get("structure_table", [])
    if not rows:
        return []
    order = {light: i for i, light in enumerate(LIGHTS)}
    colours = {s.name: s.color for s in result.structures}
    out = ["<h2>Structures on the daily scan</h2>",
           "<table class='structures'><tr><th>Structure</th><th>Agreement</th><th class='n'>Dice</th><th class='n'>Distance (mm)</th>"
           "<th class='n'>Spread (mm)</th><th class='n'>Planning (ml)</th><th class='n'>Daily (ml)</th>"
           "<th class='n'>Change</th><th>Path</th></tr>"]
    for row in sorted(rows, key=lambda r: order.get(r.get("light", ""), len(order))):
        name, path = row.get("structure", ""), row.get("default") or "propagated"
        kind, light, _ = LIGHTS.get(row.get("light", ""), ("info", row.get("light") or "–", ""))
        planned, daily = value(row, "planning_ml"), value(row, f"{path}_ml")
        change = f"{100 * (daily / planned - 1):+.0f} %".replace("-", "−") if planned > 0 and math.isfinite(daily) else "–"
        change = "0 %" if change in ("−0 %", "+0 %") else change
        swatch = f"<span class='swatch' style='background:{words.colour({'color': colours.get(name)})}'></span>"
        cells = [f"<td><span class='name'>{swatch}<b>{text(name)}</b></span></td>", f"<td class='{kind}'><b class='level'>{text(light)}</b></td>"]
        cells += [f"<td class='n'>{number(value(row, k))}</td>" for k in ("dice", "msd_mm", f"{path}_sd_mm")]
        cells += [f"<td class='n'>{number(planned)}</td>", f"<td class='n'>{number(daily)}</td>",
                  f"<td class='n'>{change}</td>", f"<td>{text(path)}</td>"]
        out.append(f"<tr>{''.join(cells)}</tr>")
    told = ("Dice and distance (mean, of the surfaces) compare the propagated contour with the one that the model draws by itself; a dash: the model "
            "does not draw it. Spread: sampled SD of the surface's position. "
            + ", ".join(f"{light}: {meaning}" for _, light, meaning in LIGHTS.values()) + ".")
    return [out[0], "".join(out[1:]) + "</table>", f"<p class='soft'>{told}</p>"]


def scans(result: data.Result) -> list[str]:
    """How alike the scans are before and after, whether the deformation folds, and how much tissue changes its volume."""
    summary = result.summary
    rows = []
    alike = summary.get("similarity") or {}
    told = [f"{number(float(alike[k]))} {label}" for k, label in (("before", "as they lay"), ("rigid", "after rigid alignment"), ("after", "after deformation"))
            if isinstance(alike.get(k), (int, float))]
    if told:
        rows.append(("Likeness of the scans", f"correlation {'; '.join(told)} (1: the same)"))
    moved = summary.get("rigid") or {}
    if moved.get("translation_mm") and moved.get("angles_degrees"):
        shift, angles = (", ".join(number(float(v)) for v in moved[k]) for k in ("translation_mm", "angles_degrees"))
        rows.append(("Rigid alignment", f"from the daily to the planning CT, shift {shift} mm to the left, back and head; rotation {angles}° about these axes"))
    folding = summary.get("folding")
    if isinstance(folding, (int, float)):
        rows.append(("Folding", f"<b>{100 * folding:.2g} % of the body</b>: there the deformation is not possible" if folding > 0 else
                     "none: no tissue is turned inside out"))
    known = summary.get("jacobian") or {}
    if all(isinstance(known.get(k), (int, float)) for k in ("mean", "sd", "min", "max")):
        rows.append(("Jacobian in the body", f"mean {number(known['mean'])}, SD {number(known['sd'])}, from {number(known['min'])} to "
                     f"{number(known['max'])} (1: no change of volume; 0.5: half of it is left)"))
    if "displacement_sd" in result.images and result.body.any():
        inside = result.images["displacement_sd"][result.body]
        rows.append(("SD of the displacement", f"in the body: mean {number(float(inside.mean()))} mm, 5 % above "
                     f"{number(float(np.percentile(inside, 95)))} mm"))
    if not rows:
        return []
    return ["<h2>The two scans and the deformation</h2>", words.facts(rows), *_course(result)]


def _course(result: data.Result) -> list[str]:
    """The spread of the deformation along the slices."""
    if "displacement_sd" not in result.images or not result.body.any():
        return []
    area = result.body.sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        curve = np.where(area > 0, (result.images["displacement_sd"] * result.body).sum((1, 2)) / area, np.nan)
    return [charts.along_slices({"displacement": curve}, [i for i, _ in data.chosen_slices(result)], "mm")]
