"""`python -m training scans`: a hospital's scans, a structure drawn in few of them, become what learning from few
labels is trained on.

Every scan is brought onto the voxels and into the scale in which `predict` will show it to the network
(`rtuncertainty.prediction.preprocess.for_card`), and cropped to the body where `predict` does so. Writes
`scans/NAME.npz`, `overlays/NAME.png`, prepare.csv, checks.csv and scans.json.

The order is that of `train_order.txt` or `train.list` in the data, else that of the SHA-256 of the images: no one's
choice, whatever the patients are called, and not the order in which they came. Scans in which the structure was drawn
come first: a config with `labelled: 8` learns from the labels of the first eight that do not validate, and takes all
others as unlabelled. Of the patients with labels some validate, by name or by number; all their scans are kept from
training.
"""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core import geometry, image_io
from rtuncertainty.core.ct import UNIT
from rtuncertainty.core.errors import InputError
from rtuncertainty.prediction import preprocess
from rtuncertainty.prediction.predict import bounding_box

from ...core.files import make_folder, replaced, write_csv
from .. import checks, scan, scan_folders
from .. import labels as label_rules
from ..case import Case
from ..checks import BadCase, Finding
from ..overlay import overlay
from ..scan_folders import ScanSource
from .patients import SHOWN_HU

ORDER = ("train_order.txt", "train.list")
SETTINGS = "scans.json"
NORMALISATION = {"body": preprocess.IN_BODY, "image": preprocess.WHOLE_IMAGE, "hu": preprocess.HOUNSFIELD}
# the part of a structure that may lie beyond the image, or beyond the body that was found
BEYOND = 0.1
# voxels "kept" may differ so much from scan to scan
UNEVEN = 1.15


@dataclass(frozen=True)
class Options:
    """How scans are prepared.

    structure: NAME or NAME=WHAT (`data.scan_folders.parse`). spacing: mm (x, y, z), None keeps the scans' own.
    normalisation: a key of `NORMALISATION`, None for "hu" in CT and "body" in MR. modality: MR or CT, None for what the
    first scan is. bias_field: see `preprocess`.
    image, series: see `data.scan_folders.find`. validation: names of patients or their number, None for a fifth of
    those with labels.
    """

    structure: str
    spacing: tuple = (None, None, None)
    normalisation: str | None = None
    modality: str | None = None
    bias_field: str = "auto"
    image: str | None = None
    series: str | None = None
    validation: tuple[str, ...] | int | None = None


def stated_order(data: Path) -> list[str]:
    """The names in the data's own list of scans; none where there is no list."""
    file = next(
        (
            p
            for folder in (data, *sorted(f for f in data.iterdir() if f.is_dir()))
            for p in (folder / n for n in ORDER)
            if p.is_file()
        ),
        None,
    )
    return file.read_text(encoding="utf-8").split() if file else []


def run(data: Path, out: Path, options: Options) -> list[dict]:
    """Prepare the scans of `data` (layouts of `data.scan_folders.find`); returns the rows of prepare.csv.

    Columns: case, kept (yes | no), why (not), patient, order (1, 2, … of those kept), labelled (yes | no), set (train |
    validation), and the structure's volume in ml. A scan whose file was made with these options of these files is not
    made again. A scan that cannot be used gets a row that says why. Raises `SystemExit` in one line for what concerns
    all scans.
    """
    try:
        return _run(data, out, options)
    except InputError as error:
        raise SystemExit(str(error)) from error


def _run(data, out, options):
    rule = scan_folders.parse(options.structure)
    sources = scan_folders.find(data, options.image, options.modality, options.series)
    modality = options.modality or _modality(sources)
    scale = NORMALISATION[options.normalisation or ("hu" if modality == "CT" else "body")]
    if scale == preprocess.HOUNSFIELD and modality != "CT":
        raise InputError("--normalisation hu: only a CT has HU; take body or image.")
    wanted = {
        "spacing_mm": list(options.spacing),
        "normalisation": scale,
        "structure": str(rule),
        "modality": modality,
        "bias_field": options.bias_field,
    }
    print(f"{data}: {len(sources)} scans, {modality}, {scale}; {rule.name}", flush=True)
    for sub in ("scans", "overlays"):
        make_folder(out / sub)
    rows, findings, facts, seen = [], {}, {}, {}
    stated = stated_order(data)
    for source in in_order(sources, stated):
        path = out / "scans" / f"{source.name}.npz"
        try:
            found, known = _cached_or_made(source, path, rule, wanted)
            twin = seen.setdefault(known["digest"], source.name)
            if twin != source.name:
                raise BadCase([*found, Finding("error", "twice", f"the same image as {twin}")])
        except BadCase as bad:
            findings[source.name] = bad.findings
            rows.append({"case": source.name, "kept": "no", "why": str(bad), "patient": source.patient})
            print(f"{source.name}: left out, {bad}", flush=True)
            continue
        findings[source.name], facts[source.name] = found, known
        draw(path, out / "overlays" / f"{source.name}.png", scale)
        rows.append(
            {
                "case": source.name,
                "kept": "yes",
                "why": "",
                "patient": source.patient,
                "labelled": "yes" if known["ml"] else "no",
                f"{rule.name}_ml": known["ml"] or "",
            }
        )
        description = f"{known['ml']} ml" if known["ml"] else "without labels"
        print(f"{source.name}: {' × '.join(map(str, known['voxels']))} voxels, {description}", flush=True)
    _require_one_size([f["spacing_mm"] for f in facts.values()], options.spacing)
    digests = {r["case"]: facts[r["case"]]["digest"] for r in rows if r["case"] in facts}
    rows = arranged(by_content(rows, stated, digests), options.validation, rule.name)
    settings = wanted | {
        "structure": rule.name,
        "rule": str(rule),
        "images": {r["case"]: facts[r["case"]] for r in rows if r["kept"] == "yes"},
    }
    with replaced(out / SETTINGS) as temporary:
        temporary.write_text(json.dumps(settings, indent=1), encoding="utf-8")
    write_csv(
        out / "prepare.csv", rows, ["case", "kept", "why", "patient", "order", "labelled", "set", f"{rule.name}_ml"]
    )
    write_csv(out / "checks.csv", checks.rows(findings), list(checks.COLUMNS))
    print(checks.summary(findings), flush=True)
    return rows


def _modality(sources: list[ScanSource]) -> str:
    """That of the first scan that can be read."""
    for source in sources:
        try:
            return "CT" if image_io.looks_like_ct(scan_folders.read_image(source)) else "MR"
        except (InputError, AttributeError):
            continue
    raise InputError(
        f"none of the {len(sources)} scans can be read: {sources[0].name}: {sources[0].problem or 'see above'}."
    )


def in_order(sources: list[ScanSource], stated: list[str]) -> list[ScanSource]:
    """As `stated` (names of scans or patients), then by the SHA-256 of the patient's name. Raises `InputError` for
    two of one name.
    """
    names = [s.name for s in sources]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InputError(f"two scans are named {twice[0]}; rename a folder.")
    place = {name: k for k, name in reversed(list(enumerate(stated)))}

    def key(s):
        return (
            min(place.get(s.name, len(stated)), place.get(s.patient, len(stated))),
            hashlib.sha256(s.patient.encode()).hexdigest(),
            s.name,
        )

    return sorted(sources, key=key)


def by_content(rows: list[dict], stated: list[str], digests: dict[str, str]) -> list[dict]:
    """The rows as `stated` (names of scans or patients), then by the least of the `digests` of a patient's scans: no
    one's choice, whatever the patients are called. Rows without a digest come last.
    """
    place = {name: k for k, name in reversed(list(enumerate(stated)))}
    least: dict[str, str] = {}
    for r in rows:
        digest = digests.get(r["case"], "~")
        least[r["patient"]] = min(digest, least.get(r["patient"], digest))

    def key(r):
        at = min(place.get(r["case"], len(stated)), place.get(r["patient"], len(stated)))
        return at, least[r["patient"]], r["case"]

    return sorted(rows, key=key)


def draw(path: Path, picture: Path, scale: str) -> None:
    """The overlay of a prepared scan, where there is none that is younger."""
    if picture.exists() and picture.stat().st_mtime_ns >= path.stat().st_mtime_ns:
        return
    made = scan.load(path)
    labels = np.zeros(made.image.shape, np.uint8) if made.labels is None else made.labels
    unit = UNIT / SHOWN_HU if scale == preprocess.HOUNSFIELD else 1.0
    body = np.ones(labels.shape, bool)
    drawn = ", ".join(n for n, v in made.classes.items() if v and (labels == v).any()) or "without labels"
    shown = Case(made.name, made.image * unit, None, labels, body, body, made.spacing, made.classes)
    overlay(shown, picture, f"{made.name}   {drawn}")


def arranged(rows: list[dict], validation, structure: str) -> list[dict]:
    """The rows with `order` and `set`: labelled ones first, then unlabelled ones, then those left out.

    validation: as in `Options`; by number, the last labelled patients of the order validate. Raises `InputError` where
    too few patients have labels.
    """
    kept = [r for r in rows if r["kept"] == "yes"]
    patients = list(dict.fromkeys(r["patient"] for r in kept if r["labelled"] == "yes"))
    if len(patients) < 2:
        raise InputError(
            f"{structure} is there in {len(patients)} usable patients; two are needed, one to learn from and one to "
            "validate on "
            "(see above what was left out, and what was drawn instead)."
        )
    if isinstance(validation, int) or validation is None:
        count = max(1, round(len(patients) / 5)) if validation is None else validation
        if not 1 <= count < len(patients):
            raise InputError(
                f"--validation {count}: {len(patients)} patients have labels; 1 to {len(patients) - 1} of them can "
                "validate."
            )
        chosen = set(patients[-count:])
    else:
        chosen = {r["patient"] for r in kept if {r["case"], r["patient"]} & set(validation) and r["labelled"] == "yes"}
        known = {n for r in kept if r["patient"] in chosen for n in (r["case"], r["patient"])}
        if set(validation) - known:
            raise InputError(
                f"--validation: {', '.join(sorted(set(validation) - known))} is no patient with labels; there are "
                f"{', '.join(patients)}."
            )
        if not set(patients) - chosen:
            raise InputError("--validation: all patients with labels validate, so none is left to learn from.")
    out = []
    for row in sorted(kept, key=lambda r: r["labelled"] != "yes"):
        held = row["patient"] in chosen
        if held and row["labelled"] != "yes":
            out.append(row | {"kept": "no", "why": "its patient validates, by another scan"})
        else:
            out.append(row | {"set": "validation" if held else "train"})
    used = [r for r in out if r["kept"] == "yes"]
    for number, row in enumerate(used, 1):
        row["order"] = number
    return [*used, *(r for r in out if r["kept"] == "no"), *(r for r in rows if r["kept"] == "no")]


def _require_one_size(found: list, asked) -> None:
    """Raise `InputError` where spacings that were kept differ from scan to scan: a network sees voxels of one size."""
    if not found:
        raise InputError("no scan can be used; see above why.")
    spacings = np.array(found)
    uneven = [a is None and spacings[:, k].max() > UNEVEN * spacings[:, k].min() for k, a in enumerate(asked)]
    if any(uneven):
        middle = " ".join(f"{v:.3g}" for v in np.median(spacings, 0))
        low, high = (" × ".join(f"{v:.3g}" for v in f(spacings, 0)) for f in (np.min, np.max))
        raise InputError(
            f"the scans' voxels are of {low} to {high} mm; bring them onto one size: --spacing {middle} is their "
            "median."
        )


def _cached_or_made(source: ScanSource, path: Path, rule, wanted: dict) -> tuple[list[Finding], dict]:
    """(findings, facts) of a scan's file, which is made where it is not there. Raises `BadCase`."""
    options = wanted | {"files": _fingerprint(source)}
    if scan.options_of(path) == options:
        facts = scan.facts_of(path)
        return [Finding(*f) for f in facts["findings"]], facts
    try:
        made, found, facts = prepared(source, rule, wanted)
    except BadCase:
        path.unlink(missing_ok=True)  # of an earlier time: it is no longer what the data say
        raise
    except Exception as error:  # one bad scan must not end the run: it is listed with its reason
        path.unlink(missing_ok=True)
        why = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}".splitlines()[0]
        raise BadCase([Finding("error", "failed", why)]) from error
    facts["findings"] = [list(astuple(f)) for f in found]
    scan.save(
        made, path, options, facts, scan.CT_STEPS if wanted["normalisation"] == preprocess.HOUNSFIELD else scan.STEPS
    )
    return found, facts


def _fingerprint(source: ScanSource) -> str:
    """Changes when a file of the scan does, or a structure is added."""
    files = [
        p
        for place in (source.image, *source.drawn.values())
        for p in (getattr(place, "files", None) or [getattr(place, "path", place)])
        if p is not None
    ]
    description = [
        (str(p), Path(p).stat().st_size, Path(p).stat().st_mtime_ns) for p in files if isinstance(p, (str, Path))
    ]
    said = [description, [str(r) for r in source.rules]] if source.rules else description
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def prepared(source: ScanSource, rule, options: dict) -> tuple[scan.Scan, list[Finding], dict]:
    """(scan, what the checks found, facts). options: spacing_mm, normalisation, modality, bias_field. Raises `BadCase`
    or `InputError`.

    Facts: ml of the structure as drawn (0: not drawn), voxels and spacing_mm of the prepared scan, own_spacing_mm and
    own_voxels of the axial image as it came, and a digest of its values.
    """
    found = [Finding("note", "source", n) for n in source.notes]
    if source.problem:
        raise BadCase([*found, Finding("error", "source", source.problem)])
    image = scan_folders.read_image(source)
    found += checks.check_ct(image) if options["modality"] == "CT" else checks.check_mr(image)
    found += [
        *checks.check_spacing(image, options["modality"]),
        *checks.check_header(source.image, options["modality"]),
    ]
    mask = scan_folders.read_structure(
        source, rule, image, lambda note: found.append(Finding("note", "structures", note))
    )
    if mask is not None:
        geometry.require_overlap(mask, image, rule.name, "the image")
        if not geometry.same_grid(geometry.to_axial(mask), geometry.to_axial(image)):
            found.append(Finding("warning", "grid", f"{rule.name} is on another grid than the image; it is resampled"))
    if any(f.level == "error" for f in found):
        raise BadCase(found)
    ready = preprocess.for_card(image, {"name": source.name, "input": options}, options["bias_field"], source.name)
    made = placed(
        source.name, ready, mask, label_rules.classes([rule]), options["normalisation"] != preprocess.WHOLE_IMAGE
    )
    ml = (
        round(float(np.count_nonzero(sitk.GetArrayViewFromImage(mask)) * np.prod(mask.GetSpacing()) / 1000), 2)
        if mask is not None
        else 0
    )
    if ml:
        inside = (made.labels > 0) & made.body if made.body is not None else made.labels > 0
        left = float(inside.sum() * np.prod(made.spacing) / 1000)
        if left < (1 - BEYOND) * ml:
            where = "image" if made.body is None else "body that was found in the image"
            raise BadCase(
                [
                    *found,
                    Finding(
                        "error",
                        "beyond",
                        f"{left:.1f} of the {ml:.1f} ml of {rule.name} lie in the {where}, on voxels of "
                        f"{' × '.join(f'{s:.3g}' for s in made.spacing)} mm",
                    ),
                ]
            )
    axial = geometry.to_axial(image)
    return (
        made,
        found,
        {
            "ml": ml,
            "voxels": list(made.image.shape[::-1]),
            "spacing_mm": [float(s) for s in made.spacing],
            "own_spacing_mm": list(axial.GetSpacing()),
            "own_voxels": list(axial.GetSize()),
            "digest": hashlib.sha256(sitk.GetArrayViewFromImage(image).tobytes()).hexdigest()[:16],
        },
    )


def placed(name: str, ready: preprocess.Preprocessed, mask: sitk.Image | None, classes: dict, crop: bool) -> scan.Scan:
    """A preprocessed image with its structure (None: nobody drew) as a scan; `crop`: to the body's box, as `predict`
    does.
    """
    labels = (
        None
        if mask is None
        else sitk.GetArrayFromImage(geometry.resample(geometry.to_axial(mask), ready.image, "nearest")) > 0
    )
    image, body = sitk.GetArrayFromImage(ready.image), sitk.GetArrayFromImage(ready.body) > 0
    box = bounding_box(body) if crop else (slice(None),) * 3
    return scan.Scan(
        name,
        image[box],
        None if labels is None else labels[box].astype(np.uint8),
        ready.image.GetSpacing(),
        classes,
        body[box] if crop else None,
    )


def settings_of(prepared: Path) -> dict | None:
    """What scans.json says of prepared scans; None for those of the challenge, which have none."""
    file = prepared / SETTINGS
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def rows_in_order(table: Path) -> list[dict]:
    """The rows of prepare.csv that are kept, in their order. Raises `SystemExit` where it is missing."""
    if not table.exists():
        raise SystemExit(f"{table} is missing: run 'python -m training scans' (or left_atrium) first.")
    with open(table, newline="", encoding="utf-8") as f:
        return sorted((r for r in csv.DictReader(f) if r["kept"] == "yes"), key=lambda r: int(r["order"]))
