"""`python -m training prepare`: from images as they come to aligned, checked, network-ready cases.

Reads every layout of `data.layouts`, aligns the CT to the MR, derives the labels (by default {0 background, 1 bone,
2 gtv}), checks and scores each case, draws an overlay of each and drops what did not register.

Writes to `--out`: `cases/CASE.npz` (see `data.case`), `overlays/CASE.png`, `prepare.csv` (all scores, kept or dropped
and why) and `checks.csv` (what is wrong with which case). A case whose file is there already, made with the same
options, is not computed again, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import time
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core import geometry
from rtuncertainty.core.errors import InputError
from rtuncertainty.prediction import preprocess
from rtuncertainty.uncertainty import metrics

from ...core import parallel
from ...core.config import meant
from ...core.files import duration, make_folder, merged, write_csv
from .. import checks, layouts
from .. import labels as label_rules
from ..case import LABELS, Case, load_case, read_record, save_case
from ..checks import Finding
from ..labels import BONE_HU, bone_labels
from ..overlay import overlay

__all__ = [
    "BONE_HU",
    "LABELS",
    "Case",
    "Options",
    "bone_labels",
    "list_cases",
    "load_case",
    "overlay",
    "prepare_case",
    "run",
    "save_case",
]

# A pair is dropped when one of these fails after the registration. Chosen by looking at the overlays: shafts that fit
# have a cortical ratio (see registration.Score) of 0.2 to 0.5, epiphyses and pelves that fit up to 0.95 (their dense
# spongy bone is bright in MR), bones that are visibly off more than 1.
LIMITS = {"body_dice": (0.94, None), "cortical_ratio": (None, 1.0), "fat_ratio": (1.3, None), "folding": (None, 0.005)}
# seconds between two lines that tell the time left
TELL_EVERY = 20.0
# what files of an earlier version, which say nothing of it, were made with
EARLIER = {
    "spacing": [1.0, 1.0, None],
    "register": "deformable",
    "bias_field": "auto",
    "labels": [str(r) for r in label_rules.DEFAULT],
}


@dataclass(frozen=True)
class Options:
    """How cases are prepared.

    spacing: mm (x, y, z), None keeps the MR's own. register: "none", "rigid" or "deformable"; None is "none" for a
    layout whose pairs fit already, else "deformable". bias_field: see `preprocess`. labels: rules in words (see
    `data.labels.parse`), None for the layout's own. purpose: "synthesis" demands a CT, "segmentation" does not.
    ignore: names in LIMITS that drop no pair.
    """

    spacing: tuple = (1.0, 1.0, None)
    register: str | None = None
    bias_field: str = "auto"
    labels: tuple[str, ...] | None = None
    purpose: str = "synthesis"
    ignore: tuple[str, ...] = ()


def parse_spacing(words) -> tuple:
    """(x, y, z) in mm from one word (both in plane), two or three; "keep" is None. Raises `SystemExit` for others."""
    try:
        values = [None if w == "keep" else float(w) for w in words]
    except ValueError:
        values = []
    if not 1 <= len(values) <= 3 or not all(v is None or 0.05 <= v <= 20 for v in values):
        raise SystemExit(f"--spacing {' '.join(words)}: give one to three numbers of mm (x y z) or 'keep'.")
    return (*values, None) if len(values) == 2 else (values[0], values[0], None) if len(values) == 1 else tuple(values)


def list_cases(data: Path) -> list[layouts.Source]:
    """The cases in `data`, sorted by name. Raises `SystemExit` when there is none."""
    return layouts.find(data).sources


def why_dropped(scores: dict, ignore=()) -> str:
    """The limits that a pair's scores break, in words; empty when it may stay. A NaN (too little bone) passes."""
    out = []
    for name, (low, high) in LIMITS.items():
        value = scores.get(name, float("nan"))
        if name in ignore:
            continue
        if low is not None and value < low:
            out.append(f"{name} {value:.2f} < {low}")
        if high is not None and value > high:
            out.append(f"{name} {value:.2f} > {high}")
    return "; ".join(out)


def prepare_case(
    source: layouts.Source, options: Options, rules=label_rules.DEFAULT
) -> tuple[Case, dict, list[Finding]]:
    """Align, label and preprocess one patient; with its scores (before_* and after) and what the checks found.

    `options.register` is one of `registration.KINDS`. Raises `checks.BadCase` when the checks forbid to use it.
    """
    from . import registration

    images, found = checks.inspect(source, rules, options.purpose == "synthesis", options.register == "none")
    mr = preprocess.without_padding(geometry.to_axial(images.mr))
    lowest = float(sitk.GetArrayViewFromImage(mr).min())
    if (sitk.GetArrayViewFromImage(mr) < 0).mean() > 0.01:  # a z-score or the like: bodies are found above zero
        mr = mr - lowest
        found.append(Finding("note", "shifted", f"the MR has negative values; {-lowest:.4g} was added to it"))
    ready = preprocess.preprocess(mr, options.spacing, options.bias_field, source.name)
    grid = ready.image
    body = sitk.GetArrayFromImage(ready.body) > 0
    if images.ct is not None:
        aligned = registration.align(mr, geometry.to_axial(images.ct), options.register)
        ct = sitk.GetArrayFromImage(geometry.resample(aligned.ct, grid, background=-1000.0))
        measured, ct_body = aligned.valid, metrics.reference_body(ct, grid.GetSpacing())
        scores = {f"before_{k}": v for k, v in aligned.before.table().items() if k not in ("folding", "shift_mm")}
        scores.update(aligned.after.table())
    else:
        ct, ct_body, scores, measured = None, None, {}, geometry.like(registration.field_of_view(mr), mr, np.uint8)
    valid = sitk.GetArrayFromImage(geometry.resample(measured, grid, "nearest")) > 0
    if images.mask is not None:
        mask = sitk.GetArrayFromImage(geometry.resample(geometry.to_axial(images.mask), grid, "nearest")) > 0
        found += checks.check_mask(mask, body)
        valid &= mask
    labels, ignored = label_rules.draw(rules, images.labels, grid, ct, body if ct_body is None else body | ct_body)
    case = Case(
        source.name,
        sitk.GetArrayFromImage(grid),
        ct,
        labels,
        body,
        valid & ~ignored,
        grid.GetSpacing(),
        label_rules.classes(rules),
        ct_body,
    )
    found += [f for f in checks.check_case(case) if f.level == "error"]
    if any(f.level == "error" for f in found):
        raise checks.BadCase(found)
    return case, scores, found


def run(
    data: Path,
    out: Path,
    only=None,
    layout: str | None = None,
    options: Options = Options(),
    mr_series: str | None = None,
    processes: int = 1,
) -> list[dict]:
    """Prepare every case in `data` into `out`; returns their rows of prepare.csv. See the module's docstring.

    `only`: names of cases, the others' rows stay; `processes`: that share the cases; `layout` and `mr_series`: see
    `layouts.find`. Raises `SystemExit` in one line for what concerns all cases: no case, wrong options, a place that
    cannot be written to, a full disk.
    """
    for name in options.ignore:
        if name not in LIMITS:
            raise SystemExit(f"--ignore-limit: '{name}' is not one of {', '.join(LIMITS)}{meant(name, LIMITS)}.")
    try:
        return _run(data, out, only, layouts.find(data, layout, mr_series), options, processes)
    except InputError as error:
        raise SystemExit(str(error)) from error


def _settle(dataset: layouts.Dataset, only, options: Options) -> tuple[list, Options, tuple]:
    """The sources to prepare, the options with their defaults filled in, and the rules for the labels."""
    sources = [s for s in dataset.sources if not only or s.name in only]
    unknown = sorted(set(only or ()) - {s.name for s in sources})
    if unknown:
        raise SystemExit(
            f"--only: no case is named {', '.join(unknown)}; there are "
            f"{', '.join(s.name for s in dataset.sources[:8])}, …"
        )
    rules = dataset.rules if options.labels is None else label_rules.parse_all(options.labels)
    if sources and all(s.mr is None and s.ct is not None for s in sources):
        raise SystemExit(
            f"the {len(sources)} cases are CTs without an MR: 'python -m training organs' prepares them, to segment."
        )
    there = sorted({n for s in dataset.sources for n in s.labels})
    lost = (
        [r.file for r in rules if r.file and r.file != "ct" and r.file not in there]
        if options.labels is not None
        else []
    )
    if lost:
        raise SystemExit(
            f"--label: no case has a label image {', '.join(lost)}; there are {', '.join(there) or 'none'}."
        )
    if (
        options.purpose == "synthesis"
        and not any(s.ct is not None for s in sources)
        and not any(s.problem for s in sources)
    ):
        raise SystemExit(
            f"none of the {len(sources)} cases has a CT: they are not for synthesis; --for segmentation takes them."
        )
    register = options.register or ("none" if dataset.registered else "deformable")
    return sources, replace(options, register=register), rules


def _run(data: Path, out: Path, only, dataset: layouts.Dataset, options: Options, processes: int) -> list[dict]:
    sources, options, rules = _settle(dataset, only, options)
    print(
        f"{data}: {len(sources)} cases, layout {dataset.layout}; registration: {options.register}; "
        f"classes: {', '.join(n for n in label_rules.classes(rules) if n != label_rules.BACKGROUND) or 'none'}",
        flush=True,
    )
    for sub in ("cases", "overlays"):
        make_folder(out / sub)
    rows, findings = [], {}
    started = reported = time.monotonic()
    work = _prepared, sources, processes, out, options, rules, dataset.layout == "dicom"
    made = parallel.over(*work, apart=options.register != "none" and any(s.ct is not None for s in sources))
    for number, (source, (row, found, lines)) in enumerate(zip(sources, made), 1):
        rows.append(row)
        findings[source.name] = found
        print("\n".join(lines), flush=True)
        now = time.monotonic()
        if now - reported > TELL_EVERY and number < len(sources):
            reported, left = now, (now - started) / number * (len(sources) - number)
            print(f"{number} of {len(sources)} cases, about {duration(left)} left", flush=True)
    found = checks.rows(findings)
    if only:  # what is known of the others stays
        rows, found = merged(out / "prepare.csv", rows), merged(out / "checks.csv", found, {s.name for s in sources})
    write_csv(out / "prepare.csv", rows)
    write_csv(out / "checks.csv", found, list(checks.COLUMNS))
    print(checks.summary(findings), flush=True)
    return [r for r in rows if r["case"] in findings]


def _prepared(
    source: layouts.Source, out: Path, options: Options, rules, notes: bool
) -> tuple[dict, list[Finding], list[str]]:
    """(row of prepare.csv, what the checks found, lines to print) of one case, whose file and overlay are made."""
    path = out / "cases" / f"{source.name}.npz"
    try:
        case, scores, found = _cached_or_made(source, path, options, rules)
    except checks.BadCase as bad:
        row = {"case": source.name, "kept": "no", "why": str(bad)}
        return row, bad.findings, [f"{source.name}: dropped, {bad}"]
    why = why_dropped(scores, options.ignore)
    found = [*found, *checks.check_case(case)]
    if why and options.register != "none":
        found.append(Finding("error", "registration", why))
    elif why:  # nobody registered them here: what the limits say is only a hint
        found.append(Finding("warning", "registration", why))
        why = ""
    fit = {"body Dice": "body_dice", "cortical": "cortical_ratio", "fat": "fat_ratio"} if scores else {}
    title = "   ".join(
        [source.name, *(f"{k} {scores[v]:.3g}" for k, v in fit.items()), f"DROPPED: {why}" if why else "kept"]
    )
    overlay(case, out / "overlays" / f"{source.name}.png", title)
    row = {"case": source.name, "kept": "no" if why else "yes", "why": why} | {
        k: round(v, 4) for k, v in scores.items()
    }
    reported = "".join(f"  {k} {scores[v]:.3g}" for k, v in fit.items()) + (
        f"  moved {scores['shift_mm']:.1f} mm" if scores else ""
    )
    lines = [f"{source.name}: {'dropped, ' + why if why else 'kept'}{reported}"]
    return row, found, lines + [f"  {note}" for note in source.notes if notes]


def _cached_or_made(source: layouts.Source, path: Path, options: Options, rules) -> tuple[Case, dict, list[Finding]]:
    """A case from its file when that was made with these options, else made and saved. Raises `checks.BadCase`."""
    register = options.register if source.ct is not None else "none"
    wanted = {
        "spacing": list(options.spacing),
        "register": register,
        "bias_field": options.bias_field,
        "labels": [str(r) for r in rules],
    }
    record = read_record(path)
    if (
        record
        and (record["options"] or EARLIER) == wanted
        and (source.ct is not None or options.purpose == "segmentation")
    ):
        if record["findings"] is None:
            _, found = checks.inspect(source, rules, options.purpose == "synthesis", options.register == "none")
        else:
            found = [Finding(*f) for f in record["findings"]]
        return load_case(path), record["scores"], found
    if path.exists():
        print(f"{source.name}: prepared before with other options, or damaged; it is prepared again", flush=True)
    try:
        case, scores, found = prepare_case(source, options, rules)
    except checks.BadCase:
        raise
    except Exception as error:  # one bad case must not end the night's run: it is listed with its reason
        why = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}".splitlines()[0]
        raise checks.BadCase([Finding("error", "failed", why)]) from error
    save_case(case, path, scores, wanted, [list(astuple(f)) for f in found])
    return load_case(path), scores, found
