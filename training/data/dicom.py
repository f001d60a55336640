"""The MR and the CT among the DICOM series below a folder, found by their tags; nothing is guessed from names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core.errors import InputError

TAGS = {
    "modality": "0008|0060",
    "description": "0008|103e",
    "type": "0008|0008",
    "number": "0020|0011",
    "patient": "0010|0020",
    "position": "0020|0032",
    "orientation": "0020|0037",
}


@dataclass(frozen=True)
class Series:
    """One DICOM series: its `files` in the order of their slices, and in `problem` why it is no volume, if it is
    none.
    """

    files: tuple[str, ...]
    modality: str = ""
    description: str = ""
    number: int = 0
    patient: str = ""
    voxels: int = 0
    problem: str = ""

    def __str__(self) -> str:
        return (
            f"series {self.number} '{self.description}' ({len(self.files)} "
            f"{'file' if len(self.files) == 1 else 'files'})"
        )

    def read(self) -> sitk.Image:
        """The volume in the patient's coordinates; CT in HU. Raises `InputError`."""
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(list(self.files))
        try:
            image = sitk.ReadImage(self.files[0]) if len(self.files) == 1 else reader.Execute()
        except RuntimeError as error:
            raise InputError(
                f"{self} in {Path(self.files[0]).parent} cannot be read: {str(error).splitlines()[-1]}"
            ) from error
        image = sitk.Cast(image, sitk.sitkFloat32)
        image.SetMetaData("modality", self.modality)
        return image


def scan(folder: Path) -> list[Series]:
    """Every DICOM series in `folder` and below, by number."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # of every file that is no DICOM
    try:
        found = []
        for place, _, files in os.walk(folder, followlinks=True):
            if files:
                for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(place):
                    found.append(_describe(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(place, uid)))
        return sorted(found, key=lambda s: (s.number, s.files))
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def choose(series: list[Series], modality: str, text: str | None = None) -> tuple[Series | None, str]:
    """The series of a modality to take, and a line that says which it is and why the others are not.

    Of those that are whole volumes and whose description contains `text` (if given, case does not matter), the one
    with the most voxels; a draw goes to the lowest series number.
    """
    of = [s for s in series if s.modality == modality]
    problem = {
        s: s.problem or ("" if not text or text.lower() in s.description.lower() else f"not '{text}'") for s in of
    }
    usable = [s for s in of if not problem[s]]
    best = max(usable, key=lambda s: (s.voxels, -s.number), default=None)
    if not of:
        return None, f"{modality}: no series"
    others = [f"{s} ({problem[s] or 'no more voxels'})" for s in of if s is not best]
    return best, f"{modality}: {best or 'none'}" + (f"; passed over: {', '.join(others)}" if others else "")


def _describe(files) -> Series:
    headers = []
    for name in files:
        reader = sitk.ImageFileReader()
        reader.SetFileName(name)
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            return Series(tuple(files), problem="no images")  # a plan, structures, or damage
        header = {k: reader.GetMetaData(t).strip() if reader.HasMetaDataKey(t) else "" for k, t in TAGS.items()}
        headers.append(header | {"size": reader.GetSize(), "file": name})
    headers, problem = _sorted(headers)
    first = headers[0]
    number = int(first["number"]) if first["number"].lstrip("-").isdigit() else 0
    voxels = sum(int(np.prod(h["size"])) for h in headers)
    return Series(
        tuple(h["file"] for h in headers),
        first["modality"],
        first["description"],
        number,
        first["patient"],
        voxels,
        problem,
    )


def _sorted(headers: list[dict]) -> tuple[list[dict], str]:
    """The slices from one end to the other, and why they do not make a volume (empty when they do)."""
    if any("LOCALIZER" in h["type"].upper() for h in headers):
        return headers, "a localiser"
    if len(headers) == 1:
        size = headers[0]["size"]  # of an enhanced, multi-frame image
        return headers, "" if len(size) == 3 and size[2] > 2 else "a single slice"
    if len({(h["size"], h["orientation"]) for h in headers}) > 1:
        return headers, "slices of different sizes or directions"
    try:
        axes = np.array(headers[0]["orientation"].split("\\"), float).reshape(2, 3)
        positions = np.array([h["position"].split("\\") for h in headers], float).reshape(-1, 3)
    except ValueError:
        return headers, "no positions of the slices"
    normal = np.cross(*axes)
    order = np.argsort(positions @ normal, kind="stable")
    steps = np.diff(positions[order], axis=0)
    along = steps @ normal
    step = float(np.median(along))
    headers = [headers[i] for i in order]
    if along.min() < 0.01:
        return headers, "several images at one position: echoes, phases or weightings"
    if np.abs(along - step).max() > 0.05 * step:
        return headers, f"slices are missing: steps of {along.min():.2f} to {along.max():.2f} mm"
    if np.linalg.norm(steps - along[:, None] * normal, axis=1).max() > 0.05 * step:
        return headers, "a tilted gantry"
    return headers, ""
