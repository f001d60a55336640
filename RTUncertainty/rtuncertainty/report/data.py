"""What a report shows: images as arrays in patient axes, structures with their contours, tables as rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..core import geometry, image_io, structure_set
from ..core.errors import InputError
from ..dicom import structure_input
from ..results import tables
from ..results.result import Result
from .structures import Part, Structure

IMAGES = (
    "synct",
    "predictive_sd",
    "intrinsic_sd",
    "parameter_sd",
    "entropy",
    "body",
    "warped_planning",
    "jacobian",
    "displacement_sd",
    "segmented_entropy",
    "reference",
    "error",
    "zscore",
)
GRIDS = {"predict": ("synct", "body"), "propagate": ("warped_planning",)}
"""Of a job, the images that can stand for its grid."""
TISSUE_HU = -500.0
DVH = "dvh_curves.csv"
"""What `rtuncertainty dvh` writes beside its table: structure, dose_gy, volume_percent, and with bands lower_percent
and upper_percent."""
MOST_POINTS = 200


@dataclass
class ReportData:
    """A result in memory, of a folder or of a scene.

    Attributes:
        summary: what `summary.json` says.
        images: key of `IMAGES` or "input" -> array [z, y, x], z to the head, y to the back, x to the patient's left (as
            nearly as the input's axes allow).
        spacing: (x, y, z), mm.
        oblique_degrees: how far the image planes are tilted against the patient's axes.
        structures: with all their contours.
        tables: key of `rtuncertainty.results.tables.COLUMNS` -> rows.
        patient: what to print of the patient; nothing unless somebody gave it.
        reviews: rows (structure, decision, comment, reviewer, time).
        dvh: curves, see `dvh_curves`.
    """

    summary: dict
    images: dict[str, np.ndarray]
    spacing: tuple[float, float, float]
    oblique_degrees: float = 0.0
    structures: list[Structure] = field(default_factory=list)
    tables: dict[str, list[dict]] = field(default_factory=dict)
    patient: dict[str, str] = field(default_factory=dict)
    reviews: list[dict] = field(default_factory=list)
    dvh: list[dict] = field(default_factory=list)

    @property
    def job(self) -> str:
        """ "predict" or "propagate"."""
        return self.summary.get("job") or "predict"

    @property
    def card(self) -> dict:
        """The model's card; empty for a review of somebody's own contours."""
        return self.summary.get("model") or {}

    @property
    def body(self) -> np.ndarray:
        """The body, bool [z, y, x]."""
        return self.images["body"] > 0

    def in_body(self, key: str) -> np.ndarray:
        """The finite values of an image in the body, or in all of it where no body was found.

        Args:
            key: of `images`.

        Returns:
            [n].
        """
        values = self.images[key][self.body] if self.body.any() else self.images[key]
        return values[np.isfinite(values)]

    def rows(self, key: str) -> list[dict]:
        """The rows of a table; none where the result has no such table."""
        return self.tables.get(key) or []

    def shown(self) -> list[Structure]:
        """The structures that have a voxel."""
        return [s for s in self.structures if s.mask is not None and s.mask.any()]

    def uncertainty(self) -> str:
        """The key of the map that says how uncertain the structures are; empty without any."""
        keys = ["displacement_sd", "segmented_entropy"] if self.job == "propagate" else ["entropy", "predictive_sd"]
        if self.job != "propagate" and not self.shown():
            keys.reverse()
        return next((k for k in keys if k in self.images), "")


def load(folder, input_image=None, planning_structures=None) -> ReportData:
    """A result folder of `predict` or `propagate` as what a report shows.

    Args:
        folder: the result.
        input_image: the MR or CT that was predicted from, or the daily CT (image or path); None: the summary's input is
            looked for.
        planning_structures: paths (structures, planning CT) of what was propagated, drawn where the rigid alignment
            puts it.

    Returns:
        The result in memory.

    Raises:
        InputError: no result folder, a missing or unreadable file, or images on different grids.
    """
    source = Result.read(folder)
    grid_key = next((k for k in GRIDS.get(source.job, ("synct",)) if source.has(k)), None)
    source.require(
        *([grid_key] if grid_key else GRIDS.get(source.job, ("synct",))[:1]),
        *(["body"] if source.job == "predict" else []),
    )
    images = {key: source.image(key) for key in IMAGES if source.has(key)}
    given = _input(source.summary, input_image)
    if given is not None:
        images["input"] = given
    grid = images[grid_key]
    for key, image in images.items():
        if not geometry.same_grid(image, grid):
            raise InputError(f"{folder}: the image '{key}' is not on the grid of the result; run {source.job} again.")
    data = in_patient_axes(source.summary, images)
    data.tables = {key: source.table(key) for key in tables.COLUMNS}
    inside = {name: Part.of(axial_array(source.image("inside", name))) for name in source.of_structures("inside")}
    if source.job == "propagate":
        data.structures = _propagated(source, grid, inside, planning_structures)
    else:
        labels, drawn = None, {}
        if source.has("structures"):
            reader = sitk.ImageFileReader()
            reader.SetFileName(str(source.path("structures")))
            reader.ReadImageInformation()
            # structures with parts lie in several layers
            if reader.GetNumberOfComponents() > 1:
                drawn = source.structures()
            else:
                labels = axial_array(source.image("structures"))
        data.structures = [
            Structure(
                s["name"],
                color_of(s),
                {"structure": Part.of(axial_array(drawn[s["name"]].mask) > 0)}
                if s["name"] in drawn
                else {}
                if labels is None
                else {"structure": Part.of(labels == s["label"])},
                "structure",
                inside.get(s["name"]),
                s.get("description") or "",
            )
            for s in source.summary.get("structures") or []
        ]
    curves = Path(folder) / DVH
    data.dvh = dvh_curves(tables.read(curves) if curves.is_file() else [], data.structures)
    return data


def in_patient_axes(summary: dict, images: dict[str, sitk.Image]) -> ReportData:
    """A report's data of images that lie on one grid; where there is no body mask, tissue of the CT counts as the body.

    Args:
        summary: what `summary.json` says.
        images: by key.

    Returns:
        Arrays in patient axes.
    """
    axial = geometry.to_axial(next(iter(images.values())))
    cosines = np.abs(np.array(axial.GetDirection()).reshape(3, 3).diagonal())
    arrays = {k: axial_array(i) for k, i in images.items()}
    if "body" not in arrays:
        ct = next((arrays[k] for k in ("input", "warped_planning", "synct") if k in arrays), None)
        arrays["body"] = (
            np.ones(next(iter(arrays.values())).shape, np.uint8) if ct is None else (ct > TISSUE_HU).astype(np.uint8)
        )
    return ReportData(summary, arrays, axial.GetSpacing(), float(np.degrees(np.arccos(np.clip(cosines.min(), 0, 1)))))


def axial_array(image: sitk.Image) -> np.ndarray:
    """The voxels [z, y, x] in patient axes."""
    return sitk.GetArrayFromImage(geometry.to_axial(image))


def color_of(structure: dict) -> tuple[int, int, int]:
    """The colour of a structure of a summary, red, green, blue in 0..255."""
    return tuple(max(0, min(255, int(c))) for c in (structure.get("color") or (255, 255, 0))[:3])


def value(row: dict | None, key: str) -> float:
    """A number of a row.

    Args:
        row: of texts or numbers, or None.
        key: the column.

    Returns:
        NaN where there is none.
    """
    try:
        return float((row or {})[key])
    except (KeyError, TypeError, ValueError):
        return math.nan


def dvh_curves(rows: list[dict], structures: list[Structure]) -> list[dict]:
    """The rows of `DVH` as curves of at most about `MOST_POINTS` points.

    Args:
        rows: of the table.
        structures: whose colours the curves have.

    Returns:
        Of each structure a dict: name, color (or None), dose (Gy), volume (%), lower and upper (%, None without a
        band).
    """
    colors, out = {s.name: s.color for s in structures}, []
    for name in dict.fromkeys(r.get("structure") for r in rows):
        own = sorted((r for r in rows if r.get("structure") == name), key=lambda r: value(r, "dose_gy"))
        own = own[:: max(1, len(own) // MOST_POINTS)]
        column = {
            key: [value(r, key) for r in own] for key in ("dose_gy", "volume_percent", "lower_percent", "upper_percent")
        }
        if np.isfinite(column["dose_gy"] + column["volume_percent"]).all():
            lower, upper = (
                column[k] if np.isfinite(column[k]).all() else None for k in ("lower_percent", "upper_percent")
            )
            out.append(
                {
                    "name": name,
                    "color": colors.get(name),
                    "dose": column["dose_gy"],
                    "volume": column["volume_percent"],
                    "lower": lower,
                    "upper": upper,
                }
            )
    return out


def rigid(summary: dict) -> sitk.Transform:
    """The rigid alignment of a propagation, from daily to planning points (LPS, mm); the identity without one."""
    known = summary.get("rigid") or {}
    transform = sitk.Euler3DTransform()
    if all(k in known for k in ("angles_degrees", "translation_mm", "centre_mm")):
        transform.SetCenter([float(v) for v in known["centre_mm"]])
        transform.SetRotation(*(math.radians(float(v)) for v in known["angles_degrees"]))
        transform.SetTranslation([float(v) for v in known["translation_mm"]])
    return transform


def _propagated(source: Result, grid: sitk.Image, inside: dict[str, Part], planning) -> list[Structure]:
    """The structures of a propagation by all paths; planning structures are left out when they cannot be read any
    more."""
    masks = {
        path: {n: s.mask for n, s in source.structures(path).items()}
        for path in ("propagated", "segmented")
        if source.has(path)
    }
    out = []
    try:
        moved = {
            n: sitk.Resample(s.mask, grid, rigid(source.summary), sitk.sitkNearestNeighbor, 0)
            for n, s in _planning(planning).items()
        }
    except InputError:
        moved = {}  # the result is whole without them
    for s in source.summary.get("structures") or []:
        name = s["name"]
        own = {path: found[name] for path, found in masks.items() if name in found}
        planned = moved.get(s.get("planning_name") or name, moved.get(name))
        own |= {"planning": planned} if planned is not None else {}
        contours = {
            path: Part.of(axial_array(mask) > 0) for path, mask in own.items() if geometry.same_grid(mask, grid)
        }
        out.append(Structure(name, color_of(s), contours, s.get("default") or "propagated", inside.get(name)))
    return out


def _planning(given) -> dict[str, structure_set.Structure]:
    """The planning structures of (structures, planning CT); contours of an RTSTRUCT need the CT that they were drawn
    on."""
    if given is None:
        return {}
    structures, ct = given
    return structure_input.read(
        structures, grid=image_io.read(ct) if ct is not None and structure_input.may_hold_dicom(structures) else None
    )


def _input(summary: dict, given) -> sitk.Image | None:
    if isinstance(given, sitk.Image):
        return given
    if given is None:
        named = (summary.get("input") or summary.get("daily") or {}).get("path")
        if not named or not Path(named).is_absolute() or not Path(named).exists():
            return None
        given = named
    return image_io.read(given)
