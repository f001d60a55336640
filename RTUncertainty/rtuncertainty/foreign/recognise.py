"""What a folder of another tool holds, where no source.json says it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..core import image_io
from ..core.errors import InputError
from . import naming
from .segmentation import mask_files, stored
from .source import NAME, Source, table

TRANSFORMS = (".h5", ".hdf5", ".tfm")
IMAGES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
TOTAL = "TotalSegmentator"
WORDS = {"synct": "synthetic CTs", "segmentations": "segmentations", "probabilities": "probabilities"} | {
    "deformations": "deformations"
}


def recognise(given: list[Path], case: str | None, image: Path) -> Source:
    """What the files of some folders are.

    Args:
        given: folders, each with a member or several, or single files.
        case: the patient's name in folders that hold several; None: that of the input image, or the only one.
        image: path of the input image, which is no member where it lies in one of the folders.

    Returns:
        The files of all members.

    Raises:
        InputError: nothing that is known, or two kinds of results that cannot be told apart.
    """
    found = Source()
    forms = []
    for path in given:
        one = _folder(path, case, image) if path.is_dir() else _files([path], path)
        for key in ("synct", "segmentations", "probabilities", "deformations"):
            getattr(found, key).extend(getattr(one, key))
        found.tool, found.version = found.tool or one.tool, found.version or one.version
        forms.append(one.form)
    found.form = "; ".join(dict.fromkeys(filter(None, forms)))
    return found


def _folder(folder: Path, case: str | None, image: Path) -> Source:
    try:
        files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
        files = [p for p in files if not (image.exists() and p.samefile(image))]
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}).") from error
    images = {image_io.stem(p) for p in files if p.name.lower().endswith(IMAGES)}
    if (folder / naming.DATASET).is_file() or any(p.suffix == ".npz" and p.name[:-4] in images for p in files):
        return _nnunet(folder, files, case, image_io.stem(image))
    return _files(files, folder)


def _nnunet(folder: Path, files: list[Path], case: str | None, image: str) -> Source:
    """A folder that nnU-Net v2 predicted into: CASE.nii.gz, with --save_probabilities CASE.npz and CASE.pkl."""
    cases: dict[str, dict[str, Path]] = {}
    for path in files:
        if path.suffix == ".npz" or path.name.lower().endswith(IMAGES):
            kind = "probabilities" if path.suffix == ".npz" else "segmentations"
            cases.setdefault(path.name[:-4] if path.suffix == ".npz" else image_io.stem(path), {})[kind] = path
    if not cases:
        raise InputError(
            f"{folder}: holds a {naming.DATASET} of nnU-Net, but no prediction; give the folder of the predictions."
        )
    own = image[:-5] if image[-5:-4] == "_" and image[-4:].isdigit() else image
    wanted = case or (own if own in cases else next(iter(cases)) if len(cases) == 1 else None)
    if wanted not in cases:
        raise InputError(
            f"{folder}: holds {'no case ' + repr(case) if case else 'several cases'} ({', '.join(list(cases)[:5])}"
            f"{', …' if len(cases) > 5 else ''}); name the patient's with --case."
        )
    chosen = cases[wanted]
    dataset = ""
    if (folder / "plans.json").is_file():
        dataset = str(table(folder / "plans.json").get("dataset_name") or "")
    return Source(
        f"nnU-Net {dataset}".strip(),
        form="a folder of nnU-Net's predictions",
        segmentations=[chosen[k] for k in ["segmentations"] if k in chosen],
        probabilities=[chosen[k] for k in ["probabilities"] if k in chosen],
    )


def _files(files: list[Path], folder: Path) -> Source:
    """Files by what is in them; masks of structures only as a folder of nothing else."""
    found, masks, tables = Source(), [], []
    for path in files:
        kind = _kind(path)
        if kind == "mask":
            masks.append(path)
        elif kind:
            tables += [path] if kind == "segmentations" and naming.header_table(path) else []
            getattr(found, kind).append(path)
    if masks and (found.synct or found.segmentations or found.deformations or not folder.is_dir()):
        raise InputError(
            f"{masks[0]}: is a mask of 0 and 1, and nothing says of what; give a folder with a mask for each structure "
            f"and nothing else, or name it in a {NAME}."
        )
    if masks:
        if len(masks) < len(mask_files(folder)):
            raise InputError(f"{folder}: holds masks beside other images; move these away, the input too.")
        found.segmentations.append(folder)
    found.form = " and ".join(words for key, words in WORDS.items() if getattr(found, key))
    if masks or tables:
        found.tool, found.form, found.version = TOTAL, f"in the form of {TOTAL}", _version(files)
    if not found.files:
        raise InputError(
            f"{folder}: holds nothing that is known: synthetic CTs, .seg.nrrd, label images with names, masks as "
            f"{TOTAL} writes them, predictions of nnU-Net, or deformations; say in a {NAME} what its files are."
        )
    return found


def _version(files: list[Path]) -> str:
    """The version in what `TotalSegmentator --report` wrote, where it lies among the files."""
    for path in files:
        if path.suffix == ".json":
            try:
                said = json.loads(path.read_text(encoding="utf-8")).get("totalsegmentator_version")
            except (OSError, ValueError, AttributeError):
                continue
            if said:
                return str(said)
    return ""


def _kind(path: Path) -> str | None:
    """Key of `Source` to which a file belongs, "mask", or None for what is no image."""
    name = path.name.lower()
    if name.endswith(".seg.nrrd"):
        return "segmentations"
    if name.endswith(".npz"):
        return "probabilities"
    if name.endswith(TRANSFORMS):
        return "deformations"
    if not name.endswith(IMAGES):
        return None
    image = stored(path)
    if image.GetNumberOfComponentsPerPixel() == 3 and "vector of" in image.GetPixelIDTypeAsString():
        return "deformations"
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"{path}: has {image.GetNumberOfComponentsPerPixel()} values a voxel; say in a {NAME} what it is."
        )
    array = sitk.GetArrayViewFromImage(image)
    low, high = array.min(), array.max()
    if low < 0 or (array.dtype.kind == "f" and not np.array_equal(array, np.rint(array))):
        return "synct"  # whether it is one in HU is looked at when it is read
    if naming.of_labels(path, {}) is not None:
        return "segmentations"
    if high <= 1:
        return "mask"
    # labels without names, or an image that is no CT: who reads it says which
    return "segmentations" if array.dtype.kind == "u" or high < 256 else "synct"
