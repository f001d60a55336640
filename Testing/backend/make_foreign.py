"""Small results in the very forms that other tools write: NIfTI with TotalSegmentator's label table, nnU-Net v2's .npz
and .pkl, synthetic CTs, deformations. The patient is a box of tissue in air with a liver, a spleen and a bone.
"""

from __future__ import annotations

import gzip
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import SimpleITK as sitk

SIZE = (24, 20, 16)
SPACING = (2.0, 2.5, 3.0)
ORIGIN = (-20.0, 15.0, 100.0)
NAMES = ("liver", "spleen", "rib_left_1")
VALUES = (60.0, 45.0, 700.0)


def image(array: np.ndarray, direction=None) -> sitk.Image:
    """An image of [z, y, x] on the patient's grid."""
    made = sitk.GetImageFromArray(array)
    made.SetSpacing(SPACING)
    made.SetOrigin(ORIGIN)
    if direction is not None:
        made.SetDirection(np.asarray(direction, float).ravel().tolist())
    return made


def labels(shift: int = 0, grow: int = 0) -> np.ndarray:
    """uint8 [z, y, x]: 1 liver, 2 spleen, 3 rib; `shift` moves all along x, `grow` widens the liver at its end."""
    out = np.zeros(SIZE[::-1], np.uint8)
    out[4:12, 5:14, 4 + shift : 11 + grow + shift] = 1
    out[5:10, 7:12, 14 + shift : 18 + shift] = 2
    out[6:9, 15:17, 6 + shift : 16 + shift] = 3
    return out


def ct(noise: float = 5.0, seed: int = 0, shift: int = 0, bone: float = 0.0) -> np.ndarray:
    """float32 HU [z, y, x]."""
    hu = np.full(SIZE[::-1], -1000.0, np.float32)
    hu[1:-1, 2:-2, 2:-2] = -90
    for k, value in enumerate(VALUES, 1):
        hu[labels(shift) == k] = value + (bone if k == 3 else 0)
    return hu + np.random.default_rng(seed).normal(0, noise, hu.shape).astype(np.float32)


def write(array: np.ndarray, path, direction=None) -> Path:
    """Write [z, y, x] as an image file; folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image(array, direction), str(path))
    return path


def total_folder(folder, array=None, names=NAMES) -> Path:
    """TotalSegmentator's folder: a uint8 mask a structure."""
    array = labels() if array is None else array
    for k, name in enumerate(names, 1):
        write((array == k).astype(np.uint8), Path(folder) / f"{name}.nii.gz")
    return Path(folder)


def total_multilabel(path, array=None, names=NAMES) -> Path:
    """`TotalSegmentator --ml`: one label image with Caret's table in an extension of its NIfTI-1 header, as
    `nifti_ext_header.py` of the tool writes it.
    """
    path = write(labels() if array is None else array, path)
    with gzip.open(path, "rb") as file:
        data = file.read()
    rows = "".join(
        f'<Label Key="{k}" Red="1.0" Green="0.0" Blue="0.0" Alpha="1"><![CDATA[{name}]]></Label>\n'
        for k, name in enumerate(names, 1)
    )
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension>  <Date><![CDATA[2013-07-14T05:45:09]]></Date>   '
        f'<VolumeInformation Index="0">   <LabelTable>\n{rows}\n  </LabelTable>  <StudyMetaDataLinkSet>  '
        "</StudyMetaDataLinkSet>  <VolumeType><![CDATA[Label]]></VolumeType>   </VolumeInformation></CaretExtension>"
        "\n              "
    ).encode()
    xml += b"\0" * (-(len(xml) + 8) % 16)
    header = bytearray(data[:348])
    header[108:112] = struct.pack("<f", 352.0 + len(xml) + 8)  # vox_offset
    extension = struct.pack("<4B2i", 1, 0, 0, 0, len(xml) + 8, 0)
    with gzip.open(path, "wb") as file:
        file.write(bytes(header) + extension + xml + data[352:])
    return path


def seg_nrrd(path, array=None, names=NAMES) -> Path:
    """Slicer's `.seg.nrrd`."""
    from rtuncertainty.core.structure_set import Structure, as_segmentation

    array = labels() if array is None else array
    masks = [image((array == k).astype(np.uint8)) for k in range(1, len(names) + 1)]
    made = as_segmentation([Structure(n, m, (200, 50 * k, 30)) for k, (n, m) in enumerate(zip(names, masks))])
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(made, str(path))
    return Path(path)


def probabilities(array: np.ndarray, certain: float = 0.9, classes: int = 3) -> np.ndarray:
    """A softmax [class, z, y, x] whose likeliest class is the label, with this probability."""
    out = np.full((classes + 1, *array.shape), (1 - certain) / classes, np.float32)
    for k in range(classes + 1):
        out[k][array == k] = certain
    return out


def properties(grid: sitk.Image) -> dict:
    """What nnU-Net v2 pickles of an image that SimpleITK read."""
    return {
        "sitk_stuff": {
            "spacing": grid.GetSpacing(),
            "origin": grid.GetOrigin(),
            "direction": grid.GetDirection(),
        },
        "spacing": list(grid.GetSpacing()[::-1]),
        "shape_before_cropping": tuple(grid.GetSize()[::-1]),
        "bbox_used_for_cropping": [[np.int64(0), int(n)] for n in grid.GetSize()[::-1]],
        "shape_after_cropping_and_before_resampling": tuple(grid.GetSize()[::-1]),
    }


def npz(path, values: np.ndarray, known: dict | None = None) -> Path:
    """nnU-Net's .npz, and the .pkl beside it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, probabilities=values)
    if known is not None:
        path.with_suffix(".pkl").write_bytes(pickle.dumps(known))
    return path


def dataset(folder, entries: dict | None = None, name: str = "Dataset123_Abdomen") -> None:
    """nnU-Net's dataset.json and plans.json, which it copies beside its predictions."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    said = {
        "channel_names": {"0": "CT"},
        "labels": entries or {"background": 0} | {n: k for k, n in enumerate(NAMES, 1)},
    }
    (Path(folder) / "dataset.json").write_text(json.dumps(said | {"numTraining": 30, "file_ending": ".nii.gz"}))
    (Path(folder) / "plans.json").write_text(json.dumps({"dataset_name": name, "plans_name": "nnUNetPlans"}))


def fold(folder, array: np.ndarray, certain: float = 0.9, case: str = "case_01") -> Path:
    """A folder into which a fold of nnU-Net v2 predicted with --save_probabilities."""
    dataset(folder)
    write(array, Path(folder) / f"{case}.nii.gz")
    npz(Path(folder) / f"{case}.npz", probabilities(array, certain), properties(image(array)))
    return Path(folder)


def field(path, shift_mm, nifti: bool = True) -> Path:
    """A displacement field that is the same everywhere, (x, y, z) in mm, as NIfTI (intent 1007) or transform.h5."""
    array = np.broadcast_to(np.asarray(shift_mm, float), (*SIZE[::-1], 3))
    made = sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=True)
    made.CopyInformation(image(np.zeros(SIZE[::-1], np.uint8)))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if nifti:
        sitk.WriteImage(made, str(path))
    else:
        sitk.WriteTransform(sitk.DisplacementFieldTransform(made), str(path))
    return Path(path)
