"""What is wrong with a case: checks of its files, of each image, of the pair and of what was made of it.

An error takes a case out; a warning is listed and the case stays; a note says what was done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core import geometry, image_io
from rtuncertainty.core.errors import InputError

from . import labels as label_rules
from . import reading
from .case import Case

METAL_HU = 3000.0
COLUMNS = ("case", "level", "check", "message")
LEVELS = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One row of checks.csv but for the case: how bad it is (see `LEVELS`), what kind, and what was found."""

    level: str
    check: str
    message: str


class BadCase(Exception):
    """A case that cannot be used; `findings` holds why."""

    def __init__(self, findings: list[Finding]):
        self.findings = findings
        super().__init__("; ".join(f.message for f in findings if f.level == "error"))


@dataclass
class Images:
    """What was read of a case, float32, each on its own grid; None or absent where the case does not have it."""

    mr: sitk.Image
    ct: sitk.Image | None = None
    mask: sitk.Image | None = None
    labels: dict = field(default_factory=dict)


def inspect(source, rules=(), need_ct: bool = True, registered: bool = True) -> tuple[Images, list[Finding]]:
    """Read and check the images of a `layouts.Source`, and of its label images those that `rules` ask for.

    `registered`: whether the pair is taken as it lies, so that another grid is worth a warning. Raises `BadCase`.
    """
    found = [Finding("note", "source", n) for n in source.notes] + [
        Finding("warning", "source", w) for w in source.warnings
    ]
    if source.problem:
        raise BadCase([*found, Finding("error", "source", source.problem)])
    if need_ct and source.ct is None:
        raise BadCase([*found, Finding("error", "no CT", "no CT: not for synthesis (--for segmentation takes it)")])

    def get(place, reader=reading.read):
        try:
            return reader(place)
        except InputError as error:
            found.append(Finding("error", "file", str(error)))

    mr = get(source.mr)
    ct = get(source.ct) if source.ct is not None else None
    mask = get(source.mask, reading.read_label) if source.mask is not None else None
    files = set()
    for rule in rules:
        if rule.file != "ct":
            try:
                files.add(label_rules.file_of(rule, source.labels))
            except InputError as error:
                found.append(Finding("error", "label", str(error)))
    images = Images(mr, ct, mask, {f: get(source.labels[f], reading.read_label) for f in sorted(files - {None})})
    if not any(f.level == "error" for f in found):
        if ct is not None and image_io.looks_like_ct(mr) and not image_io.looks_like_ct(ct):
            swapped = f"MR and CT are swapped: {source.mr} is a CT in HU, {source.ct} is none; exchange their names"
            raise BadCase([*found, Finding("error", "swapped", swapped)])
        found += [*check_mr(mr), *check_spacing(mr, "MR"), *check_header(source.mr, "MR")]
        if ct is not None:
            found += [
                *check_ct(ct),
                *check_spacing(ct, "CT"),
                *check_header(source.ct, "CT"),
                *check_pair(mr, ct, registered),
            ]
        for name, image in images.labels.items():
            found += check_label(image, mr, name)
    if any(f.level == "error" for f in found):
        raise BadCase(found)
    return images, found


def check_mr(image: sitk.Image) -> list[Finding]:
    """Whether an image may be an MR by its values."""
    array = sitk.GetArrayViewFromImage(image)
    if image_io.looks_like_ct(image):
        return [
            Finding(
                "error",
                "modality",
                f"the MR looks like a CT in HU (values from {array.min():.0f} to {array.max():.0f})",
            )
        ]
    out = []
    if array.min() < -200 and (array < 0).mean() > 0.01:
        out.append(Finding("warning", "modality", f"the MR has negative values down to {array.min():.0f}: is it a CT?"))
    if len(np.unique(array[:: max(1, array.shape[0] // 8)])) < 9:
        out.append(Finding("warning", "modality", "the MR has fewer than nine different values: is it a label image?"))
    return out


def check_ct(image: sitk.Image) -> list[Finding]:
    """Whether an image may be a CT in HU by its values, and whether they are cut off or hold metal."""
    array = sitk.GetArrayViewFromImage(image)
    low, high = float(array.min()), float(array.max())
    matter = array[array > -500]
    # soft tissue is near 0; stored values that were not rescaled have it near 1000, an MR anywhere
    soft = float(((matter > -200) & (matter < 300)).mean()) if matter.size else 0.0
    if low > -200 or soft < 0.2 or image.HasMetaDataKey("modality") and image.GetMetaData("modality") != "CT":
        p1, p99 = np.percentile(array, [1, 99])
        return [
            Finding(
                "error",
                "modality",
                f"the CT is not in HU (values from {low:.4g} to {high:.4g}, 1st and 99th percentile "
                f"{p1:.4g} and {p99:.4g}): air should be near -1000, soft tissue near 0",
            )
        ]
    out = []
    if high > METAL_HU:
        count = int((array > METAL_HU).sum())
        out.append(
            Finding("warning", "metal", f"the CT holds metal: {count} voxels above {METAL_HU:.0f} HU, up to {high:.0f}")
        )
    elif (array == high).sum() > max(50, 5 * ((array < high) & (array > high - 10)).sum()):
        out.append(
            Finding("warning", "clipped", f"the CT is cut off at {high:.0f} HU ({int((array == high).sum())} voxels)")
        )
    if low > -900:
        out.append(Finding("warning", "clipped", f"the CT holds no air: its lowest value is {low:.0f} HU"))
    return out


def check_spacing(image: sitk.Image, name: str) -> list[Finding]:
    """Whether the voxels have a size that scanners make."""
    spacing = image.GetSpacing()
    if min(spacing) < 0.1 or max(spacing) > 12 or max(spacing) / min(spacing) > 20:
        size = " x ".join(f"{s:.4g}" for s in spacing)
        return [Finding("warning", "spacing", f"the {name} has voxels of {size} mm: are these mm?")]
    return []


def check_header(place, name: str) -> list[Finding]:
    """Whether a NIfTI file says where in space it lies."""
    header = reading.nifti_header(place) if isinstance(place, Path) else None
    if header and not header[1]:
        return [
            Finding("warning", "header", f"the {name}'s file does not state its orientation (neither qform nor sform)")
        ]
    return []


def check_pair(mr: sitk.Image, ct: sitk.Image, registered: bool) -> list[Finding]:
    """Whether MR and CT lie in the same place, and on the same grid."""
    try:
        geometry.require_overlap(ct, mr, "CT", "MR")
    except InputError as error:
        return [Finding("error", "overlap", str(error))]
    if geometry.same_grid(geometry.to_axial(mr), geometry.to_axial(ct)):
        return []
    return [
        Finding("warning" if registered else "note", "grid", "the CT is on another grid than the MR; it is resampled")
    ]


def check_label(image: sitk.Image, mr: sitk.Image, name: str, of: str = "MR") -> list[Finding]:
    """Whether a label image has labels, and where the MR (or CT, see `of`) is."""
    if not (sitk.GetArrayViewFromImage(image) > 0).any():
        return [Finding("warning", "empty label", f"the label image '{name}' is empty")]
    try:
        geometry.require_overlap(image, mr, "label image", of)
    except InputError:
        return [Finding("warning", "overlap", f"the label image '{name}' and the {of} do not overlap in space")]
    if not geometry.same_grid(geometry.to_axial(mr), geometry.to_axial(image)):
        example = f"the label image '{name}' is on another grid than the {of}; it is resampled"
        return [Finding("warning", "grid", example)]
    return []


def check_mask(mask: np.ndarray, body: np.ndarray) -> list[Finding]:
    """Whether a given mask covers the body, both bool [z, y, x]."""
    if not (mask & body).any():
        return [Finding("error", "mask", "the mask covers nothing of the body" if mask.any() else "the mask is empty")]
    covered = float(mask[body].mean())
    if covered < 0.8:
        return [Finding("warning", "mask", f"the mask covers {100 * covered:.0f} % of the body")]
    return []


def check_case(case: Case) -> list[Finding]:
    """Whether a prepared case has something to learn from, and all of its classes."""
    if not case.region.any():
        return [
            Finding(
                "error",
                "coverage",
                "there is no voxel of the body that "
                + ("both MR and CT show" if case.ct is not None else "the MR shows"),
            )
        ]
    out = []
    covered = float(case.valid[case.body].mean())
    if covered < 0.5:
        out.append(
            Finding(
                "warning",
                "coverage",
                f"only {100 * covered:.0f} % of the body can be used (measured by all images, in the mask)",
            )
        )
    have = present(case)
    return out + [
        Finding("warning", "class missing", f"the class {n} is missing")
        for n in case.classes
        if n != label_rules.BACKGROUND and n not in have
    ]


def present(case: Case) -> list[str]:
    """Names of the classes of a case that have a voxel where a loss or a score looks; the background is not counted."""
    found = set(np.unique(case.labels[case.region]).tolist())
    return [n for n, v in case.classes.items() if v in found and n != label_rules.BACKGROUND]


def fold_warnings(labels: dict[str, list], training: list[str], validation: list[str], classes=None) -> list[str]:
    """A line for each class that one side of a split lacks; none for a good split.

    `labels`: case -> names of the classes in it (see `present`); `training` and `validation`: names of cases, each in
    `labels`; `classes`: all classes that a network is to learn, by default those that occur.
    """
    names = list(classes if classes is not None else dict.fromkeys(n for case in labels.values() for n in case))
    out = []
    for name in names:
        if name == label_rules.BACKGROUND:
            continue
        learnt, judged = (sum(name in labels[c] for c in side) for side in (training, validation))
        if not learnt:
            out.append(
                f"class {name}: in none of the {len(training)} training cases, so it cannot be learnt; "
                "take another fold, fewer folds, or leave the class out."
            )
        if not judged:
            out.append(
                f"class {name}: in none of the {len(validation)} validation cases, so its scores are empty; "
                "take another fold or fewer folds."
            )
    return out


def rows(findings: dict[str, list[Finding]]) -> list[dict]:
    """The rows of checks.csv (`COLUMNS`), the worst first within a case. `findings`: case -> what was found."""
    return [
        dict(zip(COLUMNS, (case, f.level, f.check, f.message)))
        for case, found in findings.items()
        for f in sorted(found, key=lambda f: LEVELS.index(f.level))
    ]


def summary(findings: dict[str, list[Finding]]) -> str:
    """Errors and warnings, kind by kind, in a few lines."""
    lines = []
    for level in LEVELS[:2]:
        kinds = dict.fromkeys(f.check for found in findings.values() for f in found if f.level == level)
        for kind in kinds:
            cases = {
                c: f.message for c, found in findings.items() for f in found if (f.level, f.check) == (level, kind)
            }
            names = ", ".join(list(cases)[:8]) + (f" and {len(cases) - 8} more" if len(cases) > 8 else "")
            example = (
                next(iter(cases.values())) if len(set(cases.values())) == 1 else f"e.g. {next(iter(cases.values()))}"
            )
            lines.append(f"  {level:8}{kind:14}{len(cases):3}: {names} ({example})")
    bad = sum(any(f.level == "error" for f in found) for found in findings.values())
    return "\n".join([f"checks: {len(findings)} cases, {bad} with errors", *lines])
