"""What a result folder of ours holds that DICOM has an object for."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path

import SimpleITK as sitk

from rtuncertainty.core import image_io, structure_set
from rtuncertainty.deformation import read_transform
from rtuncertainty.core.errors import InputError
from rtuncertainty.core.structure_set import Structure

# sets of structures by the name of the choice, as the summary's "files" call them
SETS = {"default": "structures", "propagated": "propagated", "segmented": "segmented"}


@dataclass
class Result:
    """A result folder and its summary."""

    folder: Path
    summary: dict

    @property
    def propagated(self) -> bool:
        return self.summary.get("job") == "propagate"

    def has(self, key: str) -> bool:
        """Whether the result names such a file or files."""
        return bool(self.summary["files"].get(key))

    def grid(self) -> sitk.Image:
        """An empty image with the geometry of the scan that the result describes."""
        name = next((self.summary["files"][k] for k in ("synct", "warped_planning", "structures", "body") if self.has(k)), None)
        if name is None:
            raise InputError(f"{self.folder}: its summary names no image; run the job again.")
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(self._path(name)))
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            raise InputError(f"{self.folder / name}: cannot be read as an image; run the job again.") from None
        grid = sitk.Image(reader.GetSize()[:3], sitk.sitkUInt8)
        grid.SetSpacing(reader.GetSpacing()[:3])
        grid.SetOrigin(reader.GetOrigin()[:3])
        grid.SetDirection(reader.GetDirection())
        return grid

    def _path(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise InputError(f"{path}: is missing, though the summary names it; run the job again.")
        return path

    def _image(self, name: str) -> sitk.Image:
        """As written, with its own pixel type: unlike `image_io.read`, an image of one value is fine."""
        return image_io.read_stored(self._path(name), f"{self.folder / name}: cannot be read as an image; run the job again.")

    def image(self) -> tuple[sitk.Image, str] | None:
        """The CT of the result and what it is; None where there is none."""
        for key, what in (("synct", "synthetic CT"), ("warped_planning", "deformed planning CT")):
            if self.has(key):
                return self._image(self.summary["files"][key]), what
        return None

    def structures(self, which: str, grid: sitk.Image, tell) -> tuple[list[Structure], dict[str, str]]:
        """(structures, for the names of some what is known of their volume).

        which: default, propagated, segmented or a file, as `structure_set.read` takes it with `grid` and `tell`.
        """
        if which not in SETS:
            return list(structure_set.read(which, grid=grid, tell=tell, grid_name="the reference series").values()), {}
        if not self.has(SETS[which]):
            raise InputError(f"{self.folder}: has no {'' if which == 'default' else which + ' '}structures.")
        found = structure_set.read(self.folder / self.summary["files"][SETS[which]], empty=True).values()
        roles = {s["name"]: s.get("role") or "" for s in self.summary.get("structures") or []}
        return [replace(s, role=s.role or roles.get(s.name, "")) for s in found], self._volumes() if which == "default" else {}

    def probabilities(self) -> list[Structure]:
        """The probability images of the structures (values 0 to 1), with the names, colours and codes of these."""
        named = {s["name"]: s for s in self.summary.get("structures") or []}
        files = self.summary["files"].get("probabilities") or {}
        return [Structure(n, self._image(f), tuple(named[n]["color"]), named[n].get("code")) for n, f in files.items() if n in named]

    def transform(self) -> sitk.Image:
        """The displacement field, daily to planning points."""
        if not self.has("transform"):
            raise InputError(f"{self.folder}: holds no deformation; only results of 'propagate' do.")
        return read_transform(self.folder / self.summary["files"]["transform"])

    def _volumes(self) -> dict[str, str]:
        if not self.has("volumes"):
            return {}
        try:
            with open(self.folder / self.summary["files"]["volumes"], newline="", encoding="utf-8") as file:
                return {r["structure"]: f"Volume {float(r['volume_ml']):.1f} ml, {float(r['level']):.0%} interval {float(r['lower_ml']):.1f} to "
                        f"{float(r['upper_ml']):.1f} ml{'' if r['calibrated'] == 'yes' else ', not calibrated'}." for r in csv.DictReader(file)}
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{self.folder / self.summary['files']['volumes']}: cannot be read as a table of volumes; run the job again.") from error


def read_result(folder) -> Result:
    """Raises `InputError` for a folder that is no result."""
    folder = Path(folder)
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        whole = isinstance(summary["files"], dict) and summary["model"]["name"] and summary["model"]["version"]
    except FileNotFoundError:
        raise InputError(f"{folder}: is no result folder, it has no summary.json; give the output of 'predict' or 'propagate'.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / 'summary.json'}: cannot be read as the summary of a result.") from error
    if not whole:
        raise InputError(f"{folder / 'summary.json'}: names no files or no model; run the job again.")
    return Result(folder, summary)
