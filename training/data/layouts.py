"""Where the images of each patient are: the layouts in which public and own data come, read as they come."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from rtuncertainty.core import image_io

from . import dicom
from . import labels as label_rules
from .reading import HDF5

# task, region, centre, number: 1PA001 (2023), 1ABA002 (2025)
SYNTHRAD_NAME = re.compile(r"[12](?:[BP]|AB|HN|TH)[A-F]\d{3}")
WANTED = "a folder per case with mr.nii.gz and ct.nii.gz, SynthRAD, nnU-Net, Learn2Reg, left atrium (.h5) or DICOM"


@dataclass(frozen=True)
class Source:
    """The images of one case: paths, or objects with `read()` (see `reading`). `problem` says why it cannot be used."""

    name: str
    mr: Any = None
    ct: Any = None
    mask: Any = None
    labels: dict = field(default_factory=dict)  # name -> image
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Dataset:
    """All cases of a folder. `registered`: whether the layout promises MR and CT that fit; `rules`: its classes."""

    layout: str
    sources: list[Source]
    registered: bool = False
    rules: tuple = label_rules.DEFAULT


def find_image(folder: Path, stem: str) -> Path | None:
    """The image `stem` with any suffix of `image_io.SUFFIXES` in `folder`, or None."""
    return next((folder / (stem + s) for s in image_io.SUFFIXES if (folder / (stem + s)).is_file()), None)


def find(data: Path, layout: str | None = None, mr_series: str | None = None) -> Dataset:
    """The cases in `data`, sorted by name; the first of `LAYOUTS` that is found there, or the one that is named.

    `mr_series`: text in the description of the DICOM series to take. Raises `SystemExit` when there is no case.
    """
    if layout is not None and layout not in LAYOUTS:
        raise SystemExit(f"--layout {layout}: give one of {', '.join(LAYOUTS)}.")
    if not data.is_dir():
        raise SystemExit(f"{data}: no such folder; give the folder of the cases with --data.")
    for name in [layout] if layout else LAYOUTS:
        found = LAYOUTS[name](data, mr_series) if name == "dicom" else LAYOUTS[name](data, layout is not None)
        if found and found.sources:
            return replace(found, sources=_unique(sorted(found.sources, key=lambda s: s.name)))
    raise SystemExit(
        f"{data}: no case was found in it{' as ' + layout if layout else ''}; known are {WANTED} (see "
        "training/README.md)."
    )


def _unique(sources: list[Source]) -> list[Source]:
    """Cases of the same name are numbered: their files must not overwrite each other."""
    seen: dict[str, int] = {}
    out = []
    for s in sources:
        seen[s.name] = seen.get(s.name, 0) + 1
        out.append(s if seen[s.name] == 1 else replace(s, name=f"{s.name}_{seen[s.name]}"))
    return out


def _levels(data: Path, depth: int = 4):
    """The folder itself, then those in it, then those in them, each as a sorted list."""
    level = [data]
    for _ in range(depth):
        yield level
        level = sorted(f for folder in level for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))


def _first_level(data: Path, is_case) -> list[Path]:
    """The case folders of the highest level that has any."""
    return next((found for level in _levels(data) if (found := [f for f in level if is_case(f)])), [])


def _dataset_jsons(data: Path) -> list[Path]:
    return [
        p
        for level in _levels(data, 2)
        for folder in level
        for p in sorted(folder.glob("*.json"))
        if p.name.endswith("dataset.json")
    ]


def learn2reg(data: Path, named: bool) -> Dataset | None:
    """Learn2Reg: `*_dataset.json` with pairs of `fixed` and `moving`, one an MR and one a CT, with or without
    labels.
    """
    for path in _dataset_jsons(data):
        content = label_rules.read_json(path)
        pairs = [p for value in content.values() for p in _pairs_in(value)]
        if not pairs:
            continue
        modality, given = content.get("modality", {}), content.get("labels") or {}
        entries = {e["image"]: e for e in content.get("training", []) if isinstance(e, dict) and "image" in e}
        sources = {(p["fixed"], p["moving"]): _pair(path.parent, p, modality, entries) for p in pairs}
        if given and all(isinstance(v, dict) for v in given.values()):  # a table per modality
            given = next((v for k, v in given.items() if str(modality.get(k)).upper().startswith("MR")), {})
        named_there = [r for r in label_rules.from_mapping(given) if r.name != "bone"]
        return Dataset("learn2reg", list(sources.values()), False, (label_rules.DEFAULT[0], *named_there))
    return None


def _pairs_in(value) -> list[dict]:
    if isinstance(value, dict):  # {"0": [pairs], ...}
        return [p for group in value.values() if isinstance(group, list) for p in _pairs_in(group)]
    return (
        [p for p in value if isinstance(p, dict) and {"fixed", "moving"} <= set(p)] if isinstance(value, list) else []
    )


def _pair(root: Path, pair: dict, modality: dict, entries: dict) -> Source:
    """One pair of Learn2Reg; which is which is told by the channel in the file's name, or else by the values."""
    found = {}
    for role in ("fixed", "moving"):
        image = root / pair[role]
        channel = re.search(r"_(\d{4})\.", image.name)
        kind = str(modality.get(str(int(channel[1])), "")) if channel and len(set(modality.values())) > 1 else ""
        if not kind and image.is_file():
            kind = "CT" if _is_ct(image) else "MR"
        found.setdefault("ct" if kind.upper().startswith("CT") else "mr", pair[role])
    if len(found) < 2:
        name = "_to_".join(image_io.stem(pair[role]) for role in ("moving", "fixed"))
        return Source(name, problem=f"{pair['fixed']} and {pair['moving']} are both {next(iter(found)).upper()}")
    name = "_to_".join(dict.fromkeys(re.sub(r"_\d{4}$", "", image_io.stem(found[k])) for k in ("ct", "mr")))
    beside = {}
    for kind in ("label", "mask"):
        place = entries.get(found["mr"], {}).get(kind) or found["mr"].replace("imagesTr", f"{kind}sTr")
        if place != found["mr"] and (root / place).is_file():
            beside[kind] = root / place
    labels = {"label": beside["label"]} if "label" in beside else {}
    return Source(name, root / found["mr"], root / found["ct"], beside.get("mask"), labels)


def _is_ct(path: Path) -> bool:
    try:
        return image_io.looks_like_ct(sitk.ReadImage(str(path), sitk.sitkFloat32))
    except RuntimeError:
        return False  # the checks will say what is wrong with it


def nnunet(data: Path, named: bool) -> Dataset | None:
    """nnU-Net v2 (and v1): channels `imagesTr/CASE_0000`, `labelsTr/CASE`; a CT is a channel of that name or labels
    in HU.
    """
    found = [p for p in _dataset_jsons(data) if (p.parent / "imagesTr").is_dir()]
    if not found:
        return None
    if len(found) > 1:
        raise SystemExit(
            f"{data} holds several data sets ({', '.join(p.parent.name for p in found)}); give one of them with --data."
        )
    root, content = found[0].parent, label_rules.read_json(found[0])
    channels = {
        int(k): str(v) for k, v in (content.get("channel_names") or content.get("modality") or {0: "MR"}).items()
    }
    ct = next((k for k, v in channels.items() if v.upper().startswith("CT")), None)
    mr = next((k for k in channels if k != ct), None)
    cases: dict[str, dict[int, Path]] = {}
    for path in sorted((root / "imagesTr").iterdir()):
        match = re.fullmatch(r"(.+)_(\d{4})", image_io.stem(path))
        if match and path.name.lower().endswith(image_io.SUFFIXES):
            cases.setdefault(match[1], {})[int(match[2])] = path
    labels = {case: find_image(root / "labelsTr", case) for case in cases}
    first = next((p for p in labels.values() if p), None)
    in_hu = ct is None and first is not None and _is_ct(first)
    others = [v for k, v in channels.items() if k not in (ct, mr)]
    notes = (
        (f"the MR is channel {mr}, {channels[mr]}; not used: {', '.join(others)}",) if others and mr is not None else ()
    )
    sources = []
    for case, files in cases.items():
        label = {"label": labels[case]} if labels[case] and not in_hu else {}
        problem = (
            ""
            if mr in files
            else "dataset.json names no channel but CT"
            if mr is None
            else f"imagesTr/{case}_{mr:04d} is missing"
        )
        sources.append(
            Source(case, files.get(mr), labels[case] if in_hu else files.get(ct), None, label, notes, (), problem)
        )
    rules = label_rules.from_mapping(content.get("labels") or {})
    if ct is not None or in_hu:
        rules = (label_rules.DEFAULT[0], *([] if in_hu else [r for r in rules if r.name != "bone"]))
    return Dataset("nnunet", sources, True, rules)


def synthrad(data: Path, named: bool) -> Dataset | None:
    """SynthRAD2023 and 2025: `[Task1/REGION/]1PA001/{mr,ct,mask}`, registered rigidly and on one grid by its makers."""
    found = _first_level(data, lambda f: find_image(f, "mr") and (named or SYNTHRAD_NAME.fullmatch(f.name)))
    sources = [Source(f.name, find_image(f, "mr"), find_image(f, "ct"), find_image(f, "mask")) for f in found]
    return Dataset("synthrad", sources, True)


def left_atrium(data: Path, named: bool) -> Dataset | None:
    """The left-atrium scans as UA-MT and its successors pass them on: `ID/mri_norm2.h5` with image and label, no CT."""
    found = _first_level(data, lambda f: (f / "mri_norm2.h5").is_file())
    note = "voxels of 0.625 mm and axial slices are assumed: the file states neither"
    sources = [
        Source(
            f.name, HDF5(f / "mri_norm2.h5", "image"), labels={"la": HDF5(f / "mri_norm2.h5", "label")}, notes=(note,)
        )
        for f in found
    ]
    return Dataset("left_atrium", sources, False, (label_rules.Rule("la", "la"),))


def plain(data: Path, named: bool) -> Dataset | None:
    """A folder per case with `mr`, `ct` and any number of label images; without any CT each label image is a class."""
    sources = []
    for folder in _first_level(data, lambda f: find_image(f, "mr")):
        stems = {image_io.stem(p): p for p in sorted(folder.iterdir()) if p.name.lower().endswith(image_io.SUFFIXES)}
        others = {k: v for k, v in stems.items() if k not in ("mr", "ct")}
        sources.append(Source(folder.resolve().name, find_image(folder, "mr"), find_image(folder, "ct"), None, others))
    rules = label_rules.DEFAULT
    if not any(s.ct for s in sources):
        rules = tuple(label_rules.Rule(n, n) for n in sorted({n for s in sources for n in s.labels}))
    return Dataset("plain", sources, False, rules)


def dicom_study(data: Path, mr_series: str | None = None) -> Dataset | None:
    """DICOM: each folder in `data` is a patient; where none has both, `data` itself, if MR and CT name one patient."""
    found: dict[Path, list] = {}
    for series in dicom.scan(data):
        below = Path(series.files[0]).relative_to(data).parts
        found.setdefault(data / below[0] if len(below) > 1 else data, []).append(series)
    if not any({"MR", "CT"} <= {s.modality for s in series} for series in found.values()):
        every = [s for series in found.values() for s in series]
        patients = [{s.patient for s in every if s.modality == m} for m in ("MR", "CT")]
        if patients[0] & patients[1]:
            found = {data: every}
    sources = []
    for folder, series in found.items():
        if not any(s.modality == "MR" for s in series):
            continue
        (mr, choice), (ct, choice_ct) = dicom.choose(series, "MR", mr_series), dicom.choose(series, "CT")
        other = mr is not None and ct is not None and mr.patient != ct.patient
        warnings = (f"MR and CT carry different patient IDs ({mr.patient}, {ct.patient})",) if other else ()
        sources.append(
            Source(
                folder.resolve().name,
                mr,
                ct,
                None,
                {},
                (choice, choice_ct),
                warnings,
                "" if mr else f"no usable MR ({choice})",
            )
        )
    return Dataset("dicom", sources)


# in this order: what is named more strictly comes first
LAYOUTS = {
    "learn2reg": learn2reg,
    "nnunet": nnunet,
    "synthrad": synthrad,
    "left_atrium": left_atrium,
    "plain": plain,
    "dicom": dicom_study,
}
