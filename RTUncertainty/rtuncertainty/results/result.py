"""A result as a folder: what `predict` and `propagate` write, and what Slicer, the report, DICOM export and the dose
read.

Nothing else knows the folder's files. A `Result` holds its images and tables in memory, before it is written, or finds
them in the folder that it was read from; both answer the same questions.
"""

from __future__ import annotations

import datetime
import json
import platform
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .. import __version__
from ..core import geometry, image_io, structure_set
from ..core.errors import InputError
from ..deformation import read_transform, write_transform
from . import tables

FORMAT = 1
IMAGES = {
    "synct": "synct",
    "intrinsic_sd": "synct_intrinsic_sd",
    "parameter_sd": "synct_parameter_sd",
    "predictive_sd": "synct_predictive_sd",
    "entropy": "structures_entropy",
    "mutual_information": "structures_mutual_information",
    "distance": "structures_distance",
    "decoder_entropy": "structures_decoder_entropy",
    "body": "body",
    "reference": "reference_ct",
    "error": "error",
    "zscore": "zscore",
    "warped_planning": "warped_planning",
    "jacobian": "jacobian",
    "displacement_sd": "displacement_sd",
    "segmented_entropy": "segmented_entropy",
}
"""Key in the summary's "files" -> name of the image's file, without its suffix."""
PER_STRUCTURE = {
    "probabilities": "probability",
    "inside": "inside",
    "intrinsic_variance": "intrinsic_variance",
    "parameter_variance": "parameter_variance",
}
"""The same of images of which each structure has one: a probability (0 to 1), the percentage of the samples in which a
voxel lies inside, and the two parts of the variance of its lying inside (0 to 0.25).
"""
PER_SAMPLE = {"sample_synct": "sample_synct", "sample_structures": "sample_structures"}
"""The same of samples that were kept, numbered from "1": a synthetic CT, and its structures as `.seg.nrrd`."""
SEGMENTATIONS = ("structures", "propagated", "segmented")
"""Keys of `.seg.nrrd` files: structures by their default path, of a propagation also by either path."""
SDS = {
    "intrinsic_sd": "Intrinsic uncertainty (SD)",
    "parameter_sd": "Parameter uncertainty (SD)",
    "predictive_sd": "Predictive uncertainty (SD)",
}
"""Maps that a synthetic CT may lack: a model without dropout, or without a variance of its own, gives none."""
DEFORMATION_SD = "Uncertainty of the deformation (SD)"


@dataclass
class Result:
    """One result of `predict` or `propagate`.

    Attributes:
        summary: what `summary.json` says; `write` fills in its "files".
        content: key -> what the file of that key holds, in memory: a `SimpleITK.Image` (`IMAGES`, `SEGMENTATIONS` with
            Slicer's header, "transform": the displacement field in mm, daily to planning points), {structure: image}
            (`PER_STRUCTURE`), the rows of a table (`tables.COLUMNS`), or as "samples" an iterable of {key of
            `PER_SAMPLE`: image}, each written before the next is asked for. None: there is none. Empty for a result
            that was read.
        folder: where it was read from.
    """

    summary: dict
    content: dict = field(default_factory=dict)
    folder: Path | None = None

    # -- reading and writing

    @classmethod
    def read(cls, folder, job: str | None = None) -> Result:
        """A result folder, of this version or an earlier one. Its summary is read now, its files when they are asked
        for.

        Args:
            folder: what `predict` or `propagate` wrote.
            job: "predict" or "propagate", where only that will do.

        Returns:
            The result.

        Raises:
            InputError: it is no result folder, of another format or job, or its summary names a file outside of it.
        """
        folder, wanted = Path(folder), f"give the folder that {job or 'predict or propagate'} wrote"
        if not folder.is_dir():
            raise InputError(f"{folder}: there is no such folder; {wanted}.")
        file = folder / "summary.json"
        if not file.is_file():
            raise InputError(
                f"{folder}: is no result folder, it has no summary.json; {wanted}. What another tool wrote "
                "(TotalSegmentator, nnU-Net, a synthetic CT) becomes one by 'rtuncertainty collect'."
            )
        try:
            summary = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(summary, dict):
                raise ValueError("it is no table of names and values")
            if summary.get("format", FORMAT) != FORMAT:
                raise InputError(
                    f"{file}: has format {summary['format']}, this version reads format {FORMAT}; update RTUncertainty."
                )
            if not isinstance(summary.get("files"), dict):
                raise ValueError("it names no files")
            if not all(isinstance(summary["files"].get(key) or {}, dict) for key in (*PER_STRUCTURE, *PER_SAMPLE)):
                raise ValueError("it names one file where each structure has one")
        except (OSError, ValueError) as error:
            raise InputError(
                f"{file}: cannot be read as the summary of a result ({str(error).splitlines()[0]}); run the job again."
            ) from error
        result = cls(summary, folder=folder)
        if job is not None and result.job != job:
            raise InputError(f"{file}: is a result of the job '{result.job}', not of '{job}'; {wanted}.")
        for value in summary["files"].values():
            for name in value.values() if isinstance(value, dict) else [value] if value else []:
                result._inside(name)
        return result

    def write(self, to, suffix: str = ".nii.gz") -> None:
        """Write all files and the summary, which names them; afterwards this is the result in that folder, and the
        memory is free.

        Args:
            to: a folder, written whole or not at all; or `image_io.Staging`, whose user commits it.
            suffix: of the images' files; ".nrrd" keeps their place in space to the last digit.

        Raises:
            InputError: the place cannot be written to, or this is a result that lies in a folder already.
        """
        if self.folder is not None and not self.content:  # its summary alone would be written, over its own files, too
            raise InputError(f"{self.folder}: this result lies there already; copy that folder.")
        if not isinstance(to, image_io.Staging):
            with image_io.Staging(to) as staging:
                self.write(staging, suffix)
                staging.commit()
            self.folder = staging.output
            return
        staging, files = to, {}
        for key, value in self.content.items():
            if value is None:
                continue
            if key in PER_STRUCTURE:
                files[key] = {n: f"{f}{suffix}" for n, f in file_names(PER_STRUCTURE[key], value).items()}
                for name, image in value.items():
                    staging.image(image, files[key][name])
            elif key == "samples":
                for number, sample in enumerate(value, 1):
                    for part, image in sample.items():
                        file = f"{PER_SAMPLE[part]}_{number:02}{'.seg.nrrd' if part == 'sample_structures' else suffix}"
                        files.setdefault(part, {})[str(number)] = file
                        staging.image(image, file)
            elif key in tables.COLUMNS:
                files[key] = tables.FILES[key]
                staging.text(tables.text(tables.COLUMNS[key], value), files[key])
            elif key == "transform":
                files[key] = "transform.h5"
                with staging.writing():
                    write_transform(value, staging.folder / files[key])
            else:
                files[key] = f"{key}.seg.nrrd" if key in SEGMENTATIONS else f"{IMAGES[key]}{suffix}"
                staging.image(value, files[key])
        self.summary["files"] = files
        write_summary(self.summary, staging)
        self.content, self.folder = {}, staging.folder

    # -- what it says

    @property
    def job(self) -> str:
        """ "predict" or "propagate"; results of early versions do not say."""
        return str(self.summary.get("job") or ("propagate" if self.has("transform") else "predict"))

    @property
    def name(self) -> str:
        """Name of the run, such as 'limb-t1-synct on mr'."""
        return str(self.summary.get("name") or (self.folder.name if self.folder else self.job))

    @property
    def card(self) -> dict:
        """The model's card; empty when unknown."""
        model = self.summary.get("model")
        return model if isinstance(model, dict) else {}

    @property
    def level(self) -> float:
        """The nominal level of the intervals in volumes.csv."""
        return float(self.summary.get("level") or 0.9)

    @property
    def notes(self) -> list[str]:
        """The notes of the run, and which maps its model gives none of."""
        return [*map(str, self.summary.get("notes") or []), *self.missing_sds()]

    def missing_sds(self) -> list[str]:
        """A sentence for each SD that a synthetic CT or a deformation lacks. That is no SD of 0: it is not known."""
        if self.has("synct"):
            missing = [title for key, title in SDS.items() if not self.has(key)]
        else:
            missing = [DEFORMATION_SD] * (self.has("transform") and not self.has("displacement_sd"))
        single = (self.summary.get("options") or {}).get("samples") == 1
        return [f"{title}: {'a single pass' if single else 'this model'} gives none." for title in missing]

    @property
    def report(self) -> Path | None:
        """The report, where the result was read from a folder that has one."""
        file = self.folder / "report.html" if self.folder is not None else None
        return file if file is not None and file.is_file() else None

    def input_name(self, key: str = "input") -> str:
        """Name of an input.

        Args:
            key: "input" of a prediction, "planning", "daily" or "structures_input" of a propagation.

        Returns:
            The name; the key where it is not known.
        """
        return str((self.summary.get(key) or {}).get("name") or key)

    # -- what it holds

    def has(self, key: str) -> bool:
        """Whether there is such a file, or are such files.

        Args:
            key: of `IMAGES`, `SEGMENTATIONS`, `PER_STRUCTURE`, `tables.COLUMNS`, or "transform".

        Returns:
            True or False.
        """
        return self.content.get(key) is not None if self.folder is None else bool(self.summary["files"].get(key))

    def of_structures(self, key: str) -> list[str]:
        """The structures that have an image of `key` (`PER_STRUCTURE`)."""
        return list((self.content if self.folder is None else self.summary["files"]).get(key) or {})

    @property
    def samples(self) -> int:
        """How many samples were kept; 0 for a result that was not read from a folder."""
        return max((len(self.summary.get("files", {}).get(key) or {}) for key in PER_SAMPLE), default=0)

    def require(self, *keys: str) -> None:
        """Raises unless the result has some files.

        Args:
            *keys: as of `has`.

        Raises:
            InputError: names those that it has not.
        """
        missing = [key for key in keys if not self.has(key)]
        if missing:
            raise InputError(
                f"{self.folder / 'summary.json'}: names no file for {', '.join(missing)}; run the job again."
            )

    def require_files(self) -> None:
        """Raises unless all files are there.

        Raises:
            InputError: names those that are not.
        """
        named = [
            n for v in self.summary["files"].values() for n in (v.values() if isinstance(v, dict) else [v] if v else [])
        ]
        absent = [name for name in named if not (self.folder / name).is_file()]
        if absent:
            raise InputError(
                f"{self.folder}: the result lacks {', '.join(absent)}; copy the whole folder or run the job again."
            )

    def path(self, key: str, structure: str | None = None) -> Path:
        """The file of a key.

        Args:
            key: as of `has`.
            structure: whose file, where each has one.

        Returns:
            A file that exists.

        Raises:
            InputError: it is not there.
        """
        self.require(key)
        value = self.summary["files"][key]
        path = self._inside(value if structure is None else value[structure])
        if not path.is_file():
            raise InputError(
                f"{path}: is missing, though the summary names it; copy the whole folder or run the job again."
            )
        return path

    def image(self, key: str, structure: str | None = None) -> sitk.Image:
        """An image as it was written, with its own pixel type.

        Args:
            key: of `IMAGES` or `PER_STRUCTURE`.
            structure: whose image, where each has one.

        Returns:
            3-D scalar.

        Raises:
            InputError: there is none, or its file is missing, cannot be read, or is no 3-D scalar image.
        """
        if self.folder is None:
            return self.content[key] if structure is None else self.content[key][structure]
        return read_image(self.path(key, structure))

    def table(self, key: str) -> list[dict[str, str]]:
        """The rows of a table.

        Args:
            key: of `tables.COLUMNS`.

        Returns:
            Texts by column; no row where the result has no such table.

        Raises:
            InputError: the file is missing or cannot be read.
        """
        if self.folder is None:
            return self.content.get(key) or []
        return tables.read(self.path(key), tables.COLUMNS[key]) if self.has(key) else []

    def structures(self, key: str = "structures", sample: str | None = None) -> dict[str, structure_set.Structure]:
        """The structures of a segmentation, with colour, code and role; some may be empty.

        Args:
            key: of `SEGMENTATIONS`, or "sample_structures".
            sample: number of the sample, for the latter.

        Returns:
            {name: structure}.

        Raises:
            InputError: the file is missing or cannot be read.
        """
        given = self.content[key] if self.folder is None else self.path(key, sample)
        found = structure_set.read(given, empty=True)
        roles = {s["name"]: s.get("role") or "" for s in self.summary.get("structures") or []}
        for s in found.values():
            s.role = s.role or roles.get(s.name, "")
        return found

    def transform(self) -> sitk.Image:
        """The displacement field.

        Returns:
            mm, daily to planning points.

        Raises:
            InputError: there is none.
        """
        if not self.has("transform"):
            raise InputError(f"{self.folder}: holds no deformation; only results of 'propagate' do.")
        return self.content["transform"] if self.folder is None else read_transform(self.path("transform"))

    def grid(self) -> sitk.Image:
        """An empty image with the geometry of the scan that the result describes.

        Returns:
            uint8.

        Raises:
            InputError: there is no image, or it cannot be read.
        """
        key = next((k for k in ("synct", "warped_planning", "structures", "body") if self.has(k)), None)
        if key is None:
            raise InputError(f"{self.folder}: its summary names no image; run the job again.")
        if self.folder is None:
            return geometry.like(np.zeros(self.content[key].GetSize()[::-1], np.uint8), self.content[key])
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(self.path(key)))
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            raise InputError(f"{self.path(key)}: cannot be read as an image; run the job again.") from None
        grid = sitk.Image(reader.GetSize()[:3], sitk.sitkUInt8)
        grid.SetSpacing(reader.GetSpacing()[:3])
        grid.SetOrigin(reader.GetOrigin()[:3])
        grid.SetDirection(reader.GetDirection())
        return grid

    def _inside(self, name) -> Path:
        """The path of a file that the summary names; refused when it leads out of the folder, a link included."""
        try:
            path = self.folder / name
            inside = path.resolve().parent == self.folder.resolve()
        except (TypeError, ValueError, OSError, RuntimeError):  # no name at all, or a link to itself
            inside = False
        if not inside:
            raise InputError(f"{self.folder / 'summary.json'}: names the file {name!r} outside its own folder.")
        return path


def read_image(path) -> sitk.Image:
    """An image as it is stored; unlike with `image_io.read`, one that is the same everywhere is fine.

    Args:
        path: of the file.

    Returns:
        3-D scalar.

    Raises:
        InputError: it is damaged or no such image.
    """
    image = image_io.read_stored(path, f"{path}: cannot be read as an image; it is damaged or no image file.")
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{path}: is not a 3-D scalar image.")
    return image


def file_names(prefix: str, structures) -> dict[str, str]:
    """Names of files for images of structures; names that clinics give may hold what no file name may.

    Args:
        prefix: of each.
        structures: names.

    Returns:
        {structure: name of its file, without a suffix}.
    """
    out: dict[str, str] = {}
    for name in structures:
        # a file name has 255 bytes, a letter up to four
        safe, count = re.sub(r"[^\w.-]+", "_", name)[:50], 1
        file = f"{prefix}_{safe}"
        # on some disks upper and lower case are one
        while file.lower() in {f.lower() for f in out.values()}:
            count += 1
            file = f"{prefix}_{safe}_{count}"
        out[name] = file
    return out


def require_space(image: sitk.Image, output, structures: int, samples: int = 0) -> None:
    """Raises when a disk cannot hold a result; about 3 bytes a voxel and map.

    Args:
        image: that is described.
        output: the place.
        structures: how many there will be.
        samples: that are kept; what the network drew of all is there at the same time.

    Raises:
        InputError: there is too little room.
    """
    needed = image.GetNumberOfPixels() * (3 * (9 + structures) + structures + samples * (4 * (2 + structures) + 3))
    place = next(p for p in [Path(output).absolute(), *Path(output).absolute().parents] if p.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise InputError(
            f"{output}: the results need about {needed / 1e6:.0f} MB, but only {free / 1e6:.0f} MB are free "
            "on that disk; free some or choose another folder."
        )


def now() -> str:
    """The time to the second, with its zone, ISO 8601."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def versions() -> dict:
    """Of this package and of what it computes with."""
    import scipy
    import torch

    return {
        "rtuncertainty": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "SimpleITK": sitk.Version_VersionString(),
        "python": platform.python_version(),
    }


def write_summary(summary: dict, staging: image_io.Staging) -> None:
    """Writes `summary.json`; a folder with one is a result.

    Args:
        summary: what JSON can hold.
        staging: of the folder.

    Raises:
        InputError: it cannot be written.
    """
    staging.text(json.dumps(summary, indent=1, ensure_ascii=False), "summary.json")
