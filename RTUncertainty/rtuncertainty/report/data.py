"""What a report shows of a result: images as arrays in patient axes, structures, tables as rows."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..core import geometry, image_io
from ..core.errors import InputError
from .structures import Part, Structure
from .text import value

IMAGES = ("synct", "predictive_sd", "intrinsic_sd", "parameter_sd", "structures", "entropy", "body",
          "warped_planning", "jacobian", "displacement_sd", "segmented_entropy")
REFERENCE_IMAGES = ("reference", "error", "zscore")
TABLES = ("volumes", "flags", "metrics", "structure_table", "volume_distribution", "volume_intervals", "quality")
GRIDS = {"predict": ("synct", "body"), "propagate": ("warped_planning",)}
"""Of a job, the images that can stand for its grid."""
TISSUE_HU = -500.0
DVH, DVH_COLUMNS = "dvh_curves.csv", ("structure", "dose_gy", "volume_percent")
"""What `rtuncertainty dvh` writes beside its table, with lower_percent and upper_percent where there are bands."""
MOST_POINTS = 200


@dataclass
class Result:
    """A result in memory, of a folder or of a scene.

    `images` are arrays [z, y, x] with z to the head, y to the back and x to the patient's left (as nearly as the input's axes
    allow); `spacing` is (x, y, z) in mm; `tables` maps a name of `TABLES` to its rows. `patient`: what to print of the patient,
    nothing unless somebody gave it. `reviews`: rows (structure, decision, comment, reviewer, time). `dvh`: see `report_charts.dvh`.
    """

    folder: Path | None
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
        return self.summary.get("job") or "predict"

    @property
    def has_reference(self) -> bool:
        return "reference" in self.images

    @property
    def body(self) -> np.ndarray:
        return self.images["body"] > 0

    @property
    def flags(self) -> list[dict]:
        return self.tables.get("flags", [])

    def shown(self) -> list[Structure]:
        """The structures that have a voxel."""
        return [s for s in self.structures if s.mask is not None and s.mask.any()]


def load(folder, input_image=None, planning_structures=None) -> Result:
    """Read a result folder of `predict` or `propagate`.

    `input_image` is the MR or CT that was predicted from, or the daily CT (image or path); without it, the summary's input is
    looked for. `planning_structures` (path) are those that were propagated: they are drawn where the rigid alignment puts them.
    Raises `InputError` for a folder without a summary, a missing or unreadable file, or images on different grids.
    """
    folder = Path(folder)
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder} holds no summary.json, so it is not a result folder; "
                         "give one that predict or propagate wrote.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / 'summary.json'} cannot be read: {error}.") from error
    files, job = summary.get("files", {}), summary.get("job") or "predict"
    names = [k for k in IMAGES + REFERENCE_IMAGES if files.get(k) and not (job == "propagate" and k == "structures")]
    images = {key: _read(folder / files[key]) for key in names}
    standing = next((k for k in GRIDS.get(job, ()) if k in images), None)
    if standing is None or (job == "predict" and "body" not in images):
        missing = "body" if standing is not None else GRIDS.get(job, ("synct",))[0]
        raise InputError(f"{folder / 'summary.json'} names no file for '{missing}'; run {job} again.")
    grid = images[standing]
    given = _input(summary, input_image)
    if given is not None:
        images["input"] = given
    for key, image in images.items():
        if not geometry.same_grid(image, grid):
            raise InputError(f"{folder}: the image '{key}' is not on the grid of the result; run {job} again.")
    result = in_patient_axes(summary, images, folder)
    result.tables = {key: _rows(folder, files.get(key)) for key in TABLES}
    curves = _rows(folder, DVH if (folder / DVH).is_file() else None)
    inside = {n: Part.of(axial_array(_read(folder / f))) for n, f in (files.get("inside") or {}).items()}
    if job == "propagate":
        from .propagation import read_structures

        result.structures = read_structures(folder, summary, grid, inside, planning_structures)
    else:
        result.structures = labelled(summary, result.images.get("structures"), inside)
    result.dvh = dvh_curves(curves, result.structures)
    return result


def in_patient_axes(summary: dict, images: dict[str, sitk.Image], folder: Path | None = None) -> Result:
    """A result of images that lie on one grid; where there is no body mask, tissue of the CT counts as the body."""
    axial = geometry.to_axial(next(iter(images.values())))
    cosines = np.abs(np.array(axial.GetDirection()).reshape(3, 3).diagonal())
    arrays = {k: axial_array(i) for k, i in images.items()}
    if "body" not in arrays:
        ct = next((arrays[k] for k in ("input", "warped_planning", "synct") if k in arrays), None)
        arrays["body"] = np.ones(next(iter(arrays.values())).shape, np.uint8) if ct is None else (ct > TISSUE_HU).astype(np.uint8)
    return Result(folder, summary, arrays, axial.GetSpacing(), float(np.degrees(np.arccos(np.clip(cosines.min(), 0, 1)))))


def axial_array(image: sitk.Image) -> np.ndarray:
    """The voxels [z, y, x] in patient axes."""
    return sitk.GetArrayFromImage(geometry.to_axial(image))


def labelled(summary: dict, labels: np.ndarray | None, inside: dict[str, Part]) -> list[Structure]:
    """The structures of a summary in a label image [z, y, x], and their `inside` maps by name."""
    out = []
    for s in summary.get("structures", []):
        contours = {"structure": Part.of(labels == s["label"])} if labels is not None else {}
        out.append(Structure(s["name"], tuple(s.get("color") or (255, 255, 0)), contours, "structure", inside.get(s["name"]),
                             s.get("description") or ""))
    return out


def dvh_curves(rows: list[dict], structures: list[Structure]) -> list[dict]:
    """Rows of `DVH_COLUMNS` as curves (see `report_charts.dvh`), of no more than about `MOST_POINTS` points."""
    if not rows or any(c not in rows[0] for c in DVH_COLUMNS):
        return []
    colors, out = {s.name: s.color for s in structures}, []
    for name in dict.fromkeys(r["structure"] for r in rows):
        own = sorted((r for r in rows if r["structure"] == name), key=lambda r: value(r, "dose_gy"))
        own = own[::max(1, len(own) // MOST_POINTS)]
        band = {key: [value(r, f"{key}_percent") for r in own] for key in ("lower", "upper")}
        out.append({"name": name, "color": colors.get(name), "dose": [value(r, "dose_gy") for r in own], "volume": [value(r, "volume_percent") for r in own],
                    **{key: found if np.isfinite(found).all() else None for key, found in band.items()}})
    return out


def _read(path: Path) -> sitk.Image:
    if path.is_file():
        image_io.check_nifti(path)
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read; it is missing or damaged. Run the job again.") from error


def _input(summary: dict, given) -> sitk.Image | None:
    if isinstance(given, sitk.Image):
        return given
    if given is None:
        named = (summary.get("input") or summary.get("daily") or {}).get("path")
        if not named or not Path(named).is_absolute() or not Path(named).exists():
            return None
        given = named
    return image_io.read(given)


def _rows(folder: Path, name: str | None) -> list[dict]:
    if not name:
        return []
    try:
        with (folder / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"{folder / name} cannot be read; it is missing or damaged. Run the job again.") from error


def chosen_slices(result: Result) -> list[tuple[int, str]]:
    """Up to three axial slices to show, (index from the lowest, why), from the head downwards.

    The slice with the highest mean uncertainty in the body, the one in which the structures are largest (each
    relative to its own largest cross-section), and the middle of the body; one that falls within 3 % of the stack of
    another moves on to the next best, or to a third of the stack.
    """
    body, sd = result.body, result.images.get("predictive_sd")
    sd = doubt(result)[0] if sd is None else sd
    area = body.sum((1, 2)).astype(float)
    if not area.any():
        area[:] = 1
    count = len(area)
    apart = max(1, round(0.03 * count))
    mean_sd = (sd * body).sum((1, 2)) / np.maximum(area, 1) if sd is not None else np.full(count, -np.inf)
    # slices that show little of the body say little about it
    mean_sd = np.where(area >= 0.25 * area.max(), mean_sd, -np.inf)
    size = np.zeros(count)
    for s in result.shown():
        cross = s.mask.area()
        size += cross / cross.max()
    z = np.flatnonzero(area)
    middle = -np.abs(np.arange(count) - (z[0] + z[-1]) / 2)
    wanted = [(mean_sd, "highest mean uncertainty"), (middle, "middle of the body")]
    if size.any():
        wanted.insert(1, (size, "largest cross-section of the structures"))
    chosen: list[tuple[int, str]] = []
    for score, reason in wanted:
        score = np.array(score, float)
        for index, _ in chosen:
            score[max(0, index - apart):index + apart + 1] = -np.inf
        if np.isfinite(score).any():
            chosen.append((int(score.argmax()), reason))
    return sorted(chosen, reverse=True)


def cut_position(result: Result) -> tuple[int, int]:
    """Row (y) and column (x) of the coronal and sagittal cut: through the middle of the last structure that is
    present (the card lists the target last), else of the body."""
    shown = result.shown()
    part = shown[-1].mask if shown else Part.of(result.body)
    where = np.nonzero(part.voxels)
    if not len(where[0]):
        return part.shape[1] // 2, part.shape[2] // 2
    return int(np.median(where[1])) + part.box[1].start, int(np.median(where[2])) + part.box[2].start


def doubt(result: Result) -> tuple[np.ndarray | None, str]:
    """The map that says how uncertain the structures are, and its key: of a propagation the spread of the displacement, of a
    prediction the entropy, else the SD of the synthetic CT; (None, "") without any."""
    keys = ("displacement_sd", "segmented_entropy") if result.job == "propagate" else ("entropy", "predictive_sd")
    if result.job != "propagate" and "predictive_sd" in result.images and not result.shown():
        keys = ("predictive_sd",)
    key = next((k for k in keys if k in result.images), "")
    return result.images.get(key), key
