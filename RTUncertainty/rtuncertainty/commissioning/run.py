"""`commission`: a site's patients to its calibration, action limits, control limits and a document."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import SimpleITK as sitk

from ..bundles import bundle as bundles
from ..bundles import site as sites
from ..core import image_io
from ..core.errors import InputError
from ..core.events import PROPAGATION, CancelToken, Progress
from ..core.scans import acquisition
from ..dicom import structure_input
from ..results.result import Result, now, versions
from ..uncertainty.fit.quality import BAD
from . import advice, constancy, document, recalibrate
from . import cases as case_folders
from .cases import Case
from .evidence import Evidence, Reference, of_result

SHARES = {"read": 0.02, "network": 0.90, "fit": 0.05, "write": 0.03}
EVIDENCE = "evidence.json"


@dataclass
class Commissioned:
    """What a commissioning found.

    Attributes:
        card: of the model, with its own calibration.
        cases: all patients, with those that were refused.
        found: of each patient that was used.
        fitted: intervals and limits of the site.
        advice: what to do.
        site: what `site.json` says.
        pictures: patient → [(key, caption, PNG)].
        output: the folder.
    """

    card: dict
    cases: list[Case]
    found: list[Evidence]
    fitted: recalibrate.Recalibrated
    advice: advice.Advice
    site: dict
    pictures: dict[str, list[tuple[str, str, bytes]]] = field(default_factory=dict)
    output: Path | None = None


def commission(
    model,
    cases,
    output,
    *,
    site_name: str = "",
    person: str = "",
    samples: int = 20,
    seed: int = 0,
    device: str = "auto",
    bad_dice: float = BAD,
    on_cases=None,
    on_event=None,
    cancel: CancelToken | None = None,
    progress: Progress | None = None,
) -> Commissioned:
    """Commissions a model on a site's own patients, one after the other.

    What was done is kept: called again, it goes on.

    Args:
        model: name or folder of a bundle; None: of the results that lie in the patients' folders.
        cases: a folder with a folder for each patient, see `cases`.
        output: where `cases.csv`, `accuracy.csv`, `coverage.csv`, `limits.csv`, `site.json`, `commissioning.html` and a
            folder `results` with a result for each patient are written.
        site_name: of the site, as documents call it.
        person: who is responsible.
        samples: as of `predict`.
        seed: as of `predict`.
        device: as of `predict`.
        bad_dice: a contour below this Dice is one that flags should catch.
        on_cases: called with the patients (`Case`) before anything is computed.
        on_event: as of `predict`.
        cancel: as of `predict`.
        progress: as of `predict`.

    Returns:
        All that was found.

    Raises:
        InputError: no usable patient, or a model, folder or option that will not do.
        OutOfMemoryError: as of `predict`.
        Cancelled: what was done by then is kept.
    """
    progress = progress or Progress(on_event, cancel or CancelToken(), shares=SHARES)
    if not 0 < bad_dice < 1:
        raise InputError(f"bad Dice {bad_dice:g} is no number between 0 and 1.")
    progress.stage("read", 0.0, "Looking at the patients")
    card = case_folders.card_of_results(cases) if model is None else bundles.read_card(bundles.find(model))
    listed = case_folders.find(cases, card)
    if on_cases is not None:
        on_cases(listed)
    output = Path(output).absolute()
    _require_apart(output, Path(cases).absolute())
    image_io.write_file(output / "cases.csv", lambda p: p.write_text(document.case_table(listed), encoding="utf-8"))
    if not any(c.usable for c in listed):
        raise InputError(
            f"{cases}: none of the {len(listed)} patients can be used; {output / 'cases.csv'} says what each lacks."
        )
    options = {"samples": samples, "seed": seed}
    found, measured = _patients([c for c in listed if c.usable], card, output, options, device, progress)
    if not found:
        reasons = "; ".join(f"{c.name}: {c.odd[0]}" for c in listed if c.odd)
        raise InputError(f"{cases}: no patient could be used ({reasons[:300]}).")
    done = conclude(found, measured, card, site_name, person, bad_dice, progress)
    done.cases, done.output = listed, output
    if model is not None:
        progress.stage("fit", 0.8, "Running the test case")
        done.site["constancy"]["test_case"] = constancy.test_case(card, progress)
    done.site["options"] = options
    worst = document.worst(found)
    done.pictures = {name: _pictures(output / "results" / name) for name, _ in worst}
    progress.stage("write", 0.0, "Writing the document")
    with image_io.Staging(output) as staging:
        for name, content in document.files(done).items():
            staging.text(content, name)
        staging.text(json.dumps(done.site, indent=1, ensure_ascii=False, allow_nan=False), "site.json")
        staging.commit()
    progress.stage("write", 1.0, "Written")
    return done


def _require_apart(output: Path, cases: Path) -> None:
    if output == cases or cases in output.parents:
        raise InputError(f"{output}: lies in the folder of the patients; give a folder outside of {cases}.")


def _patients(usable: list[Case], card: dict, output: Path, options: dict, device: str, progress: Progress):
    """(evidence, `constancy.measured`) of each patient: what is there already is taken, the others are computed."""
    kept, todo = {}, []
    for case in usable:
        digest = case_folders.digest(case, card, options)
        there = _cached(output / "results" / case.name, digest)
        if there is not None:
            kept[case.name] = there
        else:
            todo.append((case, digest))
    if kept:
        progress.note(f"{len(kept)} of {len(usable)} patients were done before and are kept.")
    for number, (case, digest) in enumerate(todo):

        def told(event, number=number, case=case):
            if event["event"] == "progress":
                part = (number + event["overall"]) / len(todo)
                message = f"Patient {number + 1} of {len(todo)}, {case.name}: {event['message']}"
                progress.stage("network", min(part, 1.0), message)

        try:
            kept[case.name] = _one(case, card, output / "results" / case.name, digest, options, device, told, progress)
        except InputError as error:
            case.odd.append(str(error))
            progress.note(f"{case.name}: left out: {error}")
    names = [c.name for c in usable if c.name in kept]
    return [kept[n][0] for n in names], [kept[n][1] for n in names]


def _cached(folder: Path, digest: str):
    try:
        found, more = Evidence.of_json((folder / EVIDENCE).read_text(encoding="utf-8"))
        return (found, more["measured"]) if more["digest"] == digest else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _one(case: Case, card: dict, folder: Path, digest: str, options: dict, device: str, told, progress: Progress):
    """Computes a patient and writes result, pictures and evidence, the latter last."""
    from . import pictures

    inner = Progress(told, progress.cancel, shares=PROPAGATION if "deformation" in card["outputs"] else SHARES_ONE)
    with image_io.Staging(folder) as staging:
        result, reference, image = _result(case, card, options | {"device": device}, inner)
        found = of_result(case.name, result, reference, options["seed"])
        measured = constancy.measured(result)
        drawn = pictures.of_case(result, reference, image)
        if "result" not in case.items:
            result.write(staging)
        captions = []
        for number, figure in enumerate(drawn, 1):
            with staging.writing():
                (staging.folder / f"picture_{number}.png").write_bytes(figure.png)
            captions.append((figure.key, figure.caption))
        staging.text(found.as_json(digest=digest, measured=measured, pictures=captions), EVIDENCE)
        staging.commit()
    return found, measured


SHARES_ONE = {"read": 0.02, "preprocess": 0.06, "network": 0.80, "assemble": 0.12}


def _result(case: Case, card: dict, options: dict, progress: Progress) -> tuple[Result, Reference, sitk.Image | None]:
    """(the model's result, the reference, the image to show it on) of a patient."""
    if "result" in case.items:
        return _given(case, card)
    if "deformation" in card["outputs"]:
        from ..propagation.as_result import as_result as propagation_result
        from ..propagation.job import propagate

        with case.items["planning"].place() as planning, case.items["daily"].place() as daily:
            drawn = case.items["planning structures"].files[0]
            made = propagate(planning, drawn, daily, card["folder"], progress=progress, **options)
            result, image = propagation_result(made), image_io.read(daily)
            result.summary |= {"acquisition": acquisition.of(daily)}
            structures = _drawn(case.items["daily structures"].files[0], image)
        return result, Reference(None, structures), image
    from ..prediction.as_result import as_result as prediction_result
    from ..prediction.predict import predict

    roles = [role for role in case.items if role.startswith("image")]
    ct = None
    notes: list[str] = []
    with ExitStack() as stack:
        places = [stack.enter_context(case.items[r].place()) for r in roles]
        image = image_io.read(places[0], padded=True)
        given = places[0] if roles == ["image"] else {r.removeprefix("image "): p for r, p in zip(roles, places)}
        result = prediction_result(predict(given, card["folder"], progress=progress, **options))
        result.summary |= {"acquisition": acquisition.of(places[0])}
    if "reference" in case.items:
        with case.items["reference"].place() as place:
            ct = image_io.read(place)
        from ..bundles.compatibility import require_reference

        require_reference(ct, case.items["reference"].name)
        frames = [i.GetMetaData("frame_of_reference") for i in (image, ct) if i.HasMetaDataKey("frame_of_reference")]
        if len(set(frames)) > 1:
            notes.append("Image and reference state different frames of reference: were they aligned?")
    structures = _drawn(case.items["structures"].files[0], image, ct) if "structures" in case.items else {}
    return result, Reference(ct, structures, notes), image


def _given(case: Case, card: dict) -> tuple[Result, Reference, sitk.Image | None]:
    """The same of a result that is there."""
    result = Result.read(case.items["result"].files[0].parent)
    own, wanted = (sites.identity({"name": "?", "version": "?"} | c) for c in (result.card, card))
    if own != wanted:
        raise InputError(
            f"{case.items['result'].name}: is of {own['name']} {own['version']}, not of {wanted['name']} "
            f"{wanted['version']}"
            f"{', or of other weights' if own['version'] == wanted['version'] else ''}; give results of one model."
        )
    image = ct = None
    for role in ("image", "daily"):
        if role in case.items:
            with case.items[role].place() as place:
                image = image_io.read(place, padded=True)
    if "reference" in case.items:
        with case.items["reference"].place() as place:
            ct = image_io.read(place)
    drawn = next((case.items[r] for r in ("structures", "daily structures") if r in case.items), None)
    structures = {} if drawn is None else _drawn(drawn.files[0], result.grid() if image is None else image, ct)
    return result, Reference(ct, structures), image


def _drawn(path: Path, *grids: sitk.Image | None) -> dict:
    """Structures as they were drawn: an RTSTRUCT lies in the frame of reference of the image, or of its reference CT.

    Raises `InputError` where none of the images will do.
    """
    first: InputError | None = None
    for grid in (g for g in grids if g is not None):
        try:
            return structure_input.read(path, grid=grid, grid_name="the scan")
        except InputError as error:
            first = first or error
    raise first or InputError(f"{path}: there is no image that it could belong to.")


def conclude(
    found: list[Evidence],
    measured: list[dict],
    card: dict,
    site_name: str = "",
    person: str = "",
    bad_dice: float = BAD,
    progress: Progress | None = None,
) -> Commissioned:
    """What patients' evidence makes of a model, by whomever their results were computed.

    Args:
        found: of each patient, `evidence.of_result`.
        measured: of each patient, `constancy.measured`.
        card: of the model.
        site_name: as of `commission`.
        person: as of `commission`.
        bad_dice: as of `commission`.
        progress: takes the stages.

    Returns:
        Without output and pictures.
    """
    if progress is not None:
        progress.stage("fit", 0.0, "Fitting intervals and limits")
    fitted = recalibrate.fit(found, card, bad_dice)
    given = advice.give(found, fitted, card)
    site = {
        "kind": sites.KIND,
        "format": sites.FORMAT,
        "site": site_name or "not named",
        "person": person or "not named",
        "created": now(),
        "patients": len(found),
        "model": sites.identity(card),
        "calibration": {k: fitted.entries.get(k) for k in sites.ENTRIES},
        "constancy": constancy.baseline(measured, [e.acquisition for e in found]) | _bad(found, bad_dice),
        "recommendation": {"verdict": given.verdict, "sentence": given.sentence},
        "bad_dice": bad_dice,
        "versions": versions(),
        "intended_use": "Not a medical device. Research use only, not for clinical decisions.",
    }
    return Commissioned(card, [], found, fitted, given, site)


def _bad(found: list[Evidence], bad_dice: float) -> dict:
    """How many contours were bad, which is about how many reviewers will correct."""
    dice = [s["dice"] for e in found for s in e.structures.values() if s.get("dice") is not None]
    return {"bad_contours": {"bad": sum(d < bad_dice for d in dice), "contours": len(dice)}}


def _pictures(folder: Path) -> list[tuple[str, str, bytes]]:
    """The pictures of a patient that are kept beside the result."""
    try:
        captions = json.loads((folder / EVIDENCE).read_text(encoding="utf-8"))["pictures"]
        return [(*c, (folder / f"picture_{k}.png").read_bytes()) for k, c in enumerate(captions, 1)]
    except (OSError, ValueError, KeyError, TypeError):
        return []
