"""A result folder of `rtuncertainty predict`, checked as a whole before anything is made of it."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

import SimpleITK as sitk

from rtuncertainty.core.errors import InputError

FORMAT = 1
IMAGES = ("synct", "intrinsic_sd", "parameter_sd", "predictive_sd", "entropy", "mutual_information", "body",
          "reference", "error", "zscore")
REQUIRED_IMAGES = ("synct", "intrinsic_sd", "parameter_sd", "predictive_sd")
TABLES = {
    "volumes": ("structure", "volume_ml", "lower_ml", "upper_ml", "level", "calibrated"),
    "flags": ("subject", "severity", "flag", "reason"),
    "metrics": ("region", "metric", "value", "unit"),
    "volume_distribution": ("structure", "percentile", "volume_ml", "calibrated_ml"),
    "volume_intervals": ("structure", "level", "lower_ml", "upper_ml", "calibrated", "cases", "note"),
    "quality": ("structure", "expected_dice", "dice_lower", "dice_upper", "calibrated", "surface_entropy"),
}
REVIEW_TABLES = ("volume_distribution", "volume_intervals", "quality")
"""Tables that results of any job have, but those of older versions."""


@dataclass(frozen=True)
class ResultFolder:
    """The folder, its `summary.json` and where its files lie.

    `images`, `probabilities`, `inside` and `tables` map a key of the summary (a structure's name for probabilities and inside)
    to a file.
    """

    path: Path
    summary: dict
    images: dict[str, Path]
    probabilities: dict[str, Path]
    structures: Path | None
    tables: dict[str, Path]
    inside: dict[str, Path] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the run, such as 'limb-t1-synct on mr'."""
        return str(self.summary["name"])

    @property
    def input_name(self) -> str:
        """Name of the image that was put in."""
        return str(self.summary.get("input", {}).get("name") or "input")


def open_result(folder) -> ResultFolder:
    """Read `summary.json` and check that every file it names is there.

    Raises `rtuncertainty.core.errors.InputError` in one line when `folder` is no result, has an unknown format or lacks a file.
    """
    path = Path(folder)
    summary = read_summary(path, "predict")
    named = summary["files"]
    probabilities = named.get("probabilities") or {}
    # a model that only segments makes no synthetic CT
    required = REQUIRED_IMAGES if named.get("synct") or not named.get("structures") else ("body",)
    missing = [key for key in required if not named.get(key)]
    if missing:
        raise InputError(f"{path / 'summary.json'}: names no file for {', '.join(missing)}; run the model again.")
    result = ResultFolder(
        path=path,
        summary=summary,
        images={key: inside(path, named[key]) for key in IMAGES if named.get(key)},
        probabilities={name: inside(path, file) for name, file in probabilities.items()},
        structures=inside(path, named["structures"]) if named.get("structures") else None,
        tables={key: inside(path, named[key]) for key in TABLES if named.get(key)},
        inside=inside_files(path, named),
    )
    files = [*result.images.values(), *result.probabilities.values(), *result.tables.values(), *result.inside.values()]
    require_files(path, files + ([result.structures] if result.structures else []))
    return result


def read_summary(path: Path, job: str | None = None) -> dict:
    """`summary.json` of the folder `path`, which must be a result of `job` (of any when None), with the keys that every result has.

    Raises `InputError` otherwise.
    """
    wanted = f"give the folder that `rtuncertainty {job or 'predict'}` wrote"
    if not path.is_dir():
        raise InputError(f"{path}: there is no such folder; {wanted}.")
    file = path / "summary.json"
    if not file.is_file():
        raise InputError(f"{path}: this is not a result folder, it has no summary.json; {wanted}.")
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({_first_line(error)}); run the model again.") from error
    if not isinstance(summary, dict) or "format" not in summary:
        raise InputError(f"{file}: is not the summary of a result; {wanted}.")
    if summary["format"] != FORMAT:
        raise InputError(f"{file}: has format {summary['format']}, this version reads format {FORMAT}; update RTUncertainty.")
    if summary.get("job") != job and job is not None:
        raise InputError(f"{file}: is a result of the job {summary.get('job')!r}, not of {job!r}.")
    if not isinstance(summary.get("files"), dict) or not summary.get("name"):
        raise InputError(f"{file}: lacks 'files' or 'name'; run the model again.")
    return summary


def require_files(path: Path, files) -> None:
    """Raises `InputError` that names those of `files` that are not there."""
    absent = [f.name for f in files if not f.is_file()]
    if absent:
        raise InputError(f"{path}: the result lacks {', '.join(absent)}; copy the whole folder or run the model again.")


def inside(folder: Path, name: str) -> Path:
    """`folder / name`, refused when it leads out of the folder."""
    if Path(name).name != name:
        raise InputError(f"{folder / 'summary.json'}: names the file {name!r} outside its own folder.")
    return folder / name


def inside_files(folder: Path, named: dict) -> dict[str, Path]:
    """Structure -> image of the share of samples (percent) in which a voxel lies inside it; empty in results of older versions."""
    return {name: inside(folder, file) for name, file in (named.get("inside") or {}).items()}


def read_image(file: Path) -> sitk.Image:
    """A 3-D scalar image. Raises `InputError` when it cannot be read or is not one."""
    try:
        image = sitk.ReadImage(str(file))
    except RuntimeError as error:
        raise InputError(f"{file}: cannot be read as an image; it is damaged or no image file.") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{file}: is not a 3-D scalar image.")
    return image


def read_table(file: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a CSV file that has at least `columns`. Raises `InputError` otherwise."""
    try:
        with open(file, newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
            found = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read as a table ({_first_line(error)}).") from error
    absent = [c for c in columns if c not in found]
    if absent:
        raise InputError(f"{file}: lacks the columns {', '.join(absent)}; run the model again.")
    return rows


def _first_line(error: Exception) -> str:
    """The first line of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
