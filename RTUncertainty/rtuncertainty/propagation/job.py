"""`propagate`: planning CT and structures to a daily CT: deformation, contours from two paths, and their spread
(Elmahdy 2021).
"""

from __future__ import annotations

import SimpleITK as sitk

from ..bundles import bundle as bundles
from ..bundles import compatibility, input_quality
from ..bundles import site as sites
from ..bundles.card import REGISTRATION
from ..core import geometry, image_io, structure_names
from ..core.ct import normalised
from ..core.errors import InputError, OutOfMemoryError
from ..core.events import PROPAGATION, CancelToken, Progress
from ..core.options import require_sampling
from ..core.structure_set import Structure
from ..dicom import structure_input
from ..uncertainty import flags
from . import pair as pairs
from .result import Propagation

REFINE = ("off", "fast", "full")
# the card that is taken without a model: registration alone
ANY_REGION = "registration"
# of a structure, outside of the planning scan, that is told; masks on other voxels differ by the corners of a few
BEYOND = 0.002
# voxels of the working grid that a search needs along each axis
FEWEST = 8


def propagate(
    planning,
    structures,
    daily,
    bundle=None,
    *,
    samples: int = 20,
    seed: int = 0,
    device: str = "auto",
    rigid: str = "on",
    refine: str | None = None,
    symmetric: str = "on",
    site=None,
    on_event=None,
    cancel: CancelToken | None = None,
    progress: Progress | None = None,
    before=None,
) -> Propagation:
    """Propagates planning structures to a daily CT (Elmahdy 2021). Writes nothing.

    Args:
        planning: CT in HU (`SimpleITK.Image`, or a path to a file or DICOM folder), on any grid.
        structures: of the planning CT, as `dicom.structure_input.read` takes them.
        daily: CT in HU, as `planning`.
        bundle: name or folder; None: registration alone, of any region, where the two may also be MRs of one kind (see
            `registration`).
        samples: T ≥ 2; 1: a single pass without dropout, which has no uncertainty.
        seed: of the dropout masks.
        device: auto, cpu, cuda, cuda:n.
        rigid: on, or off for scans that are aligned.
        refine: off, fast, full (see `refine`); None: fast with a network and full without.
        symmetric: on, so that swapping the scans gives the inverse and a scan and itself stand still (see `symmetric`),
            or off, the network as published in half the time.
        site: as of `predict`.
        on_event: as of `predict`.
        cancel: as of `predict`.
        progress: as of `predict`.
        before: called with the checked daily CT before anything costly begins.

    Returns:
        Images on the grid of the daily CT; HU, mm, nats, ml.

    Raises:
        InputError: an image, structures, a model or an option that will not do.
        OutOfMemoryError: the smallest tiles on the CPU do not fit.
        Cancelled: `cancel` was set.
    """
    progress = progress or Progress(on_event, cancel or CancelToken(), shares=PROPAGATION)
    progress.stage("read", 0.0, "Reading scans, structures and model")
    card = sites.applied(bundles.read_card(bundles.find(ANY_REGION if bundle is None else bundle)), site)
    alone = card["architecture"]["name"] == REGISTRATION
    if refine is None:
        refine = bundles.refinement(card)
    _require_options(rigid, refine, symmetric)
    require_sampling(samples, seed)
    (plan, plan_name), (day, day_name) = (
        _image(image, name, progress.note) for image, name in ((planning, "the planning CT"), (daily, "the daily CT"))
    )
    if "deformation" not in card["outputs"]:
        raise InputError(f"model '{card['name']}' is for {card['task']}; choose one that propagates structures.")
    scans = {"planning CT": compatibility.Scan.of(plan), "daily CT": compatibility.Scan.of(day)}
    for scan, name in zip(scans.values(), (plan_name, day_name)):
        compatibility.require(card, scan, name)
    # what the scans are compared by; MRs are brought into the range of a CT
    shown = (plan, day)
    if alone:
        card["input"]["modality"] = pairs.kind_of_pair(plan, day, (plan_name, day_name))
        if card["input"]["modality"] == "MR":
            shown = (pairs.like_ct(plan, plan_name), pairs.like_ct(day, day_name))
    given = structure_input.read(structures, grid=plan, tell=progress.note, grid_name=plan_name)
    if rigid == "off":
        geometry.require_overlap(day, plan, day_name, plan_name)
    if before is not None:
        before(day)
    given, raised = _usable(given, plan, day, (plan_name, day_name), progress)
    for name, scan in scans.items():
        for words in compatibility.warnings(card, scan):
            raised.append(flags.Flag(name, "warning", "unlike the training data", words))
            progress.note(f"{name}: {words}")

    from ..sampling import inference  # torch is needed from here on

    where = inference.choose_device(device)
    networks = bundles.load(card["folder"], where)[1]
    if sites.sentence(card):
        progress.note(sites.sentence(card))
    card = _card_of_run(card, samples, refine, progress)
    deforms = bundles.deforms(card)

    progress.stage("align", 0.0, "Aligning the scans rigidly" if rigid == "on" else "Bringing the scans onto one grid")
    organs = {s["name"]: s for s in card["outputs"]["structures"]}
    known = structure_names.match(given, list(organs))
    axial = {n: geometry.to_axial(s.mask) for n, s in given.items()}
    pair = pairs.make_pair(
        geometry.to_axial(shown[0]),
        axial,
        geometry.to_axial(shown[1]),
        pairs.working_spacing(shown[1], card["input"]["spacing_mm"]) if alone else card["input"]["spacing_mm"],
        rigid == "on",
        (plan_name, day_name),
    )
    if not (pair.body & pair.known).any():
        raise InputError(
            f"{plan_name} and {day_name} show no common part of the patient; give two scans of one region"
            + ("." if rigid == "on" else ", or switch the rigid alignment on.")
        )
    if alone and min(pair.body.shape) < FEWEST:
        raise InputError(
            f"{day_name} is too small for a registration: the patient fills "
            f"{'×'.join(map(str, pair.body.shape[::-1]))} voxels of "
            f"{'×'.join(f'{s:.3g}' for s in pair.grid.GetSpacing())} mm, and {FEWEST} along each axis are needed; give "
            "a larger field of view."
        )
    compared = (normalised(pair.daily), pair.body, pair.grid.GetSpacing())
    likeness = input_quality.likeness(*compared, card)
    for words in input_quality.warnings(*compared, card, likeness.get("measures")):
        raised.append(flags.Flag("daily CT", "warning", "unlike the training data", words))
        progress.note(f"daily CT: {words}")

    from . import assemble, deform

    found, where = _on_device(
        lambda network, place: deform.run(
            network,
            pair,
            known,
            organs,
            samples if samples > 1 else 0,
            seed,
            place,
            refine if deforms else "off",
            progress,
            float(card["outputs"]["deformation"].get("bending", 0.5)),
            symmetric == "on",
        ),
        networks[0],
        where,
        progress,
    )
    progress.stage("assemble", 0.0, "Assembling images and contours")
    images = assemble.images(found, pair, plan, day, shown[0], card, progress)
    evidence = assemble.evidence(found, pair, card)
    contours, more = assemble.contours(
        found, pair, images["field"], given, known, organs, plan, day, card, progress, evidence.failures(card)
    )
    result = Propagation(
        **images,
        contours=contours,
        flags=raised + (evidence.flags(card) if deforms else []) + more,
        checks=evidence.values,
        likeness=likeness,
        rigid=pair.rigid,
        card=card,
        device_used=str(where),
        options={
            "samples": samples,
            "seed": seed,
            "device": device,
            "rigid": rigid,
            "refine": refine if deforms else "off",
            "symmetric": symmetric,
        },
        names={
            "planning": plan_name,
            "daily": day_name,
            "structures": "the structures" if isinstance(structures, (dict, sitk.Image)) else str(structures),
        },
        notes=progress.notes,
        seconds=progress.seconds,
    )
    result.flags += _flags(result)
    progress.stage("assemble", 1.0, "Assembled")
    return result


def _flags(result: Propagation) -> list[flags.Flag]:
    """Of a deformation as a whole, where the model gives one."""
    found: list[flags.Flag] = []
    if not bundles.deforms(result.card):
        return found
    if result.folding > 0.005:
        found.append(
            flags.Flag(
                "deformation",
                "serious",
                "folding",
                f"The deformation folds in {result.folding:.1%} of the body; do not map dose with it.",
            )
        )
    # as they are printed: of two equal scans the last digits are rounding
    if round(result.similarity["after"], 3) < round(result.similarity["rigid"], 3):
        found.append(
            flags.Flag(
                "deformation",
                "warning",
                "no gain",
                f"The scans are less alike after the deformation (correlation "
                f"{result.similarity['after']:.3f}) than before ({result.similarity['rigid']:.3f}); look at the warped "
                "CT.",
            )
        )
    return found


def _card_of_run(card: dict, samples: int, refine: str, progress: Progress) -> dict:
    """The card, without its calibration where that is of samples and none are taken, or of other scans; notes say what
    the run lacks."""
    alone = card["architecture"]["name"] == REGISTRATION
    if samples == 1 and alone:
        progress.note("The registration was not repeated: no uncertainty.")
    elif alone and card["input"]["modality"] == "MR" and card["calibration"].get("spread"):
        card = bundles.uncalibrated(card)
        progress.note("The error bars of a registration were calibrated on CTs; on these MRs they are as sampled.")
    elif alone and refine != "full" and card["calibration"].get("spread"):
        card = bundles.uncalibrated(card)
        progress.note(f"The error bars were calibrated with refinement full; with {refine} they are as sampled.")
    elif samples == 1 and card["dropout"]["p"]:
        card = bundles.uncalibrated(card)
        progress.note("A single pass without dropout: no uncertainty, and no calibration, as that is of samples.")
    if not bundles.deforms(card):
        progress.note(
            "This model segments the daily CT and deforms nothing: its own contours are the default, the planning CT "
            "and the structures that it does not know are aligned rigidly only."
        )
    return card


def _require_options(rigid: str, refine: str, symmetric: str) -> None:
    for name, value, choices in (
        ("rigid", rigid, ("on", "off")),
        ("refine", refine, REFINE),
        ("symmetric", symmetric, ("on", "off")),
    ):
        if value not in choices:
            raise InputError(f"{name} is '{value}'; it is one of {', '.join(choices)}.")


def _on_device(run, network, device, progress: Progress):
    """(what `run` found, where): on the device, or, told in a note, on the CPU when the memory of a GPU runs out."""
    import torch

    from ..sampling import inference

    for where in dict.fromkeys((device, torch.device("cpu"))):
        try:
            return run(network if network is None else network.to(where), where), where
        except (RuntimeError, MemoryError) as error:
            if not inference.is_out_of_memory(error):
                raise
        if where.type == "cuda":
            torch.cuda.empty_cache()
            progress.note(f"Out of memory on {where}; trying again on the CPU.")
    raise OutOfMemoryError(f"Out of memory on {where}; close other programs or use scans with a smaller field of view.")


def _image(given, name: str, tell) -> tuple[sitk.Image, str]:
    """The image and its name. Raises `InputError` for what is no volume."""
    if isinstance(given, sitk.Image):
        return image_io.check(given, name), name
    return image_io.read(given, tell=tell), str(given)


def _usable(given: dict[str, Structure], plan: sitk.Image, day: sitk.Image, names: tuple[str, str], progress: Progress):
    """The structures on the planning grid; those that are empty or outside of it are left out. Flags say so, which
    ones it cuts off, and whether they have the daily scan's voxels."""
    (plan_name, day_name), kept, raised = names, {}, []

    def tell(subject, flag, words):
        raised.append(flags.Flag(subject, "warning", flag, words[0].upper() + words[1:]))
        progress.note(f"{subject}: {words}")

    own = next(iter(given.values())).mask
    if geometry.same_grid(own, day) and not geometry.same_grid(day, plan):
        tell(
            "structures",
            "drawn on the daily scan?",
            f"they have the voxels of {day_name}, not those of {plan_name}; look whether the two were swapped.",
        )
    for name, s in given.items():
        mask, beyond = _on_grid(s.mask, plan)
        if sitk.GetArrayViewFromImage(mask).any():
            kept[name] = Structure(name, mask, s.color, s.code, s.role)
            if beyond > BEYOND:
                part = "less than 1 %" if beyond < 0.01 else f"about {beyond:.0%}"
                tell(name, "cut off", f"{part} of it lies outside of the planning scan and is not propagated.")
            continue
        why = "has no voxel"
        if sitk.GetArrayViewFromImage(s.mask).any():
            why = "lies outside of the planning CT" if beyond else "is smaller than the voxels of the planning CT"
        raised.append(flags.Flag(name, "warning", "left out", f"It {why}, so it cannot be propagated."))
        progress.note(f"{name}: {why}; it was left out.")
    if not kept:
        raise InputError(f"none of the structures lies in {plan_name}; give the segmentation that was drawn on it.")
    return kept, raised


def _on_grid(mask: sitk.Image, plan: sitk.Image) -> tuple[sitk.Image, float]:
    """A mask on the planning grid, and which part of it lies outside of that."""
    if geometry.same_grid(mask, plan):
        return mask, 0.0
    everywhere = sitk.Image(plan.GetSize(), sitk.sitkUInt8) + 1
    everywhere.CopyInformation(plan)
    own, seen = (
        sitk.GetArrayViewFromImage(i) > 0
        for i in (mask, sitk.Resample(everywhere, mask, sitk.Transform(), sitk.sitkNearestNeighbor, 0))
    )
    moved = sitk.Resample(mask, plan, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    return moved, float((own & ~seen).sum() / max(own.sum(), 1))
