"""`predict`: one image to a synthetic CT, structures or both, and their uncertainty (Bragman 2018; Eaton-Rosen
2018).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from ..bundles import bundle as bundles
from ..bundles import compatibility, input_quality
from ..core import geometry, image_io
from ..core.errors import InputError
from ..core.events import CancelToken, Progress
from ..core.geometry import bounding_box
from ..core.options import require_sampling
from ..core.structures import mask_of, tidy_labels, unions
from ..uncertainty import edge, flags, hu_calibration, volume_assessment, volumes
from . import channels, preprocess

LEVEL = 0.9
AIR = -1000.0


@dataclass
class Prediction:
    """All that `predict` found, on the grid of the input; HU, nats, probabilities and ml as the names say.

    A model that only segments gives no synthetic CT: `synct` and its three standard deviations are then None.
    """

    synct: sitk.Image | None  # int16, HU
    intrinsic_sd: sitk.Image | None  # float32, HU
    parameter_sd: sitk.Image | None
    predictive_sd: sitk.Image | None
    structures: sitk.Image  # uint8 labels
    entropy: sitk.Image  # predictive entropy, nats
    mutual_information: sitk.Image  # nats
    probabilities: dict[str, sitk.Image]
    body: sitk.Image  # uint8; the sds go on beyond it, see `edge`
    volumes: list[volumes.Volume]
    assessed: list[volume_assessment.Assessed]  # the same structures' distributions of volume, and quality
    flags: list[flags.Flag]
    card: dict
    options: dict
    input_name: str
    device_used: str
    bias_field_corrected: bool
    # what the network gives besides: MT-CTL its distance map (−1 to 1, negative inside), its decoder's entropy (nats)
    further: dict[str, sitk.Image] = field(default_factory=dict)
    measured: np.ndarray | None = None  # bool [z, y, x], the input's field of view; None: all of it
    reference: sitk.Image | None = None
    error: sitk.Image | None = None  # synCT − CT, HU
    zscore: sitk.Image | None = None
    metrics: list = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def predict(
    image,
    bundle,
    *,
    samples: int = 20,
    seed: int = 0,
    device: str = "auto",
    bias_field: str = "auto",
    reference=None,
    on_event=None,
    cancel: CancelToken | None = None,
    progress: Progress | None = None,
    before=None,
) -> Prediction:
    """Predict synthetic CT and structures, or what of the two the model is for, with uncertainty from an MR or a CT.

    image: `SimpleITK.Image` (3-D, any orientation) or a path to a file or DICOM folder; of a model that sees
    several, all of them (see `channels.in_order`). bundle: name or folder.
    samples: T >= 2, rounded up to pairs where they are antithetic; 1: a single pass without dropout, which tells no
    parameter uncertainty and has no calibration. device: auto, cpu, cuda, cuda:n. bias_field: auto,
    on, off (N4).
    reference: a CT (image or path) in the same frame; adds error, z-scores and metrics. on_event: called with progress
    events (dicts). cancel: a token; `Cancelled` is raised soon after it is set. before: called with the checked image
    before anything costly begins, to raise what speaks against the run.
    Raises `InputError`, `OutOfMemoryError` or `Cancelled`; nothing is written by this function.
    """
    progress = progress or Progress(on_event, cancel or CancelToken())
    progress.stage("read", 0.0, "Reading the image and the model")
    if bias_field not in preprocess.BIAS_FIELD:
        raise InputError(f"bias field '{bias_field}' is not one of {', '.join(preprocess.BIAS_FIELD)}.")
    require_sampling(samples, seed)
    card = bundles.read_card(bundles.find(bundle))
    of_ct = card["input"].get("modality") == "CT"
    if "deformation" not in card["outputs"]:
        image, *others = channels.in_order(image, card)
        others = [_image(i, f"the image {n}", not of_ct) for i, n in zip(others, channels.of_card(card)[1:])]
    mr, name = _image(image, "the image", padded=not of_ct)
    if not of_ct and not image_io.looks_like_ct(mr):  # a CT given by mistake keeps its air, by which it is recognised
        mr = preprocess.without_padding(mr)
    if "deformation" in card["outputs"]:
        raise InputError(
            f"model '{card['name']}' is for {card['task']}; choose one that makes a synthetic CT or structures, or use "
            "'propagate'."
        )
    if reference is not None and "synct" not in card["outputs"]:
        raise InputError(
            f"model '{card['name']}' makes no synthetic CT, so there is nothing to compare a reference with; leave it "
            "out."
        )
    scan = compatibility.Scan.of(mr)
    compatibility.require(card, scan, name)
    channels.require_one_grid([(mr, name), *others])
    for other, title in others:
        compatibility.require(card, compatibility.Scan.of(other), title)
    if before is not None:
        before(mr)
    raised = [flags.Flag("input", "warning", "unlike the training data", w) for w in compatibility.warnings(card, scan)]
    for flag in raised:
        progress.note(flag.reason)
    ct = None
    if reference is not None:
        ct, ct_name = _image(reference, "the reference")
        compatibility.require_reference(ct, ct_name)
        geometry.require_overlap(mr, ct, name, ct_name)

    from ..sampling import inference  # torch is needed from here on

    where = inference.choose_device(device)
    card, networks = bundles.load(card["folder"], where)
    if samples == 1 and card["dropout"]["p"]:
        card = bundles.uncalibrated(card)
        progress.note(
            "A single pass without dropout: no parameter uncertainty, and no calibration, as that is of samples."
        )

    progress.stage("preprocess", 0.0, "Finding the body, correcting the bias field")
    ready = preprocess.for_card(
        mr, card, bias_field, name, lambda: progress.stage("preprocess", 0.5, "Correcting the bias field (N4)")
    )
    if ready.bias_field_corrected:
        progress.note("The bias field was corrected (N4).")
    for words in input_quality.warnings(
        sitk.GetArrayViewFromImage(ready.image),
        sitk.GetArrayViewFromImage(ready.body) > 0,
        ready.image.GetSpacing(),
        card,
    ):
        raised.append(flags.Flag("input", "warning", "unlike the training data", words))
        progress.note(words)

    progress.stage("network", 0.0, "Sampling")
    box = bounding_box(sitk.GetArrayViewFromImage(ready.body) > 0)
    volume = sitk.GetArrayViewFromImage(ready.image)
    if others:
        more = [preprocess.for_card(i, card, bias_field, n).image for i, n in others]
        volume = np.stack([volume, *map(sitk.GetArrayViewFromImage, more)])
    cropped = np.ascontiguousarray(volume[(..., *box)])
    statistics, used, tile = inference.run(networks, cropped, samples, seed, where, progress)

    progress.stage("assemble", 0.0, "Assembling the images")
    result = _assemble(statistics, box, ready, mr, card, progress)
    field_of_view = sitk.GetArrayViewFromImage(mr) != (AIR if of_ct else 0)
    labels = sitk.GetArrayViewFromImage(result["structures"])
    found, raised = _tables(result, labels, field_of_view, card, raised)
    prediction = Prediction(
        synct=result.get("synct"),
        intrinsic_sd=result.get("intrinsic_sd"),
        parameter_sd=result.get("parameter_sd"),
        predictive_sd=result.get("predictive_sd"),
        structures=result["structures"],
        entropy=result["entropy"],
        mutual_information=result["mutual_information"],
        probabilities=result["probabilities"],
        body=result["body"],
        volumes=found,
        assessed=result["assessed"],
        flags=raised,
        card=card,
        input_name=name,
        device_used=str(used),
        notes=progress.notes,
        bias_field_corrected=ready.bias_field_corrected,
        further=result["further"],
        measured=result.get("measured"),
        seconds=progress.seconds,
        options={
            "samples": samples + samples % 2 if "synct" in card["outputs"] and samples > 1 else samples,
            "seed": seed,
            "device": device,
            "bias_field": bias_field,
            "tile": tile,
        },
    )
    if ct is not None:
        _compare(prediction, ct)
    progress.stage("assemble", 1.0, "Assembled")
    return prediction


def _image(given, fallback: str, padded: bool = False) -> tuple[sitk.Image, str]:
    if isinstance(given, sitk.Image):
        return image_io.check(given, fallback, padded), fallback
    return image_io.read(given, padded), str(given)


def _assemble(statistics, box, ready, mr, card, progress) -> dict:
    """Statistics in the box of the network's grid → images on the input's grid, in HU and nats."""
    import torch

    from ..networks.uncertainty import entropy

    grid = ready.image
    body = geometry.resample(ready.body, mr, "nearest")
    inside = sitk.GetArrayFromImage(body) > 0

    def on_input(channel) -> np.ndarray:
        progress.cancel.check()
        # outside of the box the nearest value goes on, so that no edge bleeds in: the body decides what is shown
        pads = [(b.start, n - b.stop) for b, n in zip(box, grid.GetSize()[::-1])]
        whole = np.pad(channel.numpy(), pads, mode="edge")
        back = geometry.resample(geometry.like(whole, grid), mr)
        return sitk.GetArrayFromImage(back)

    def image(array, outside=0.0, dtype=np.float32):
        return geometry.like(np.where(inside, array, outside), mr, dtype)

    out: dict = {"body": body}
    if "synct" in card["outputs"]:
        measured, uncertain = (
            None if i is None else sitk.GetArrayFromImage(geometry.resample(i, mr, "nearest")) > 0
            for i in (ready.measured, ready.uncertain)
        )
        measured = np.ones(inside.shape, bool) if measured is None else measured
        q = edge.probability(inside, measured, mr.GetSpacing(), uncertain)
        out |= _synthetic_ct(statistics, card, on_input, mr, inside, q)
        out |= {
            "measured": measured,
            "certain": inside & (q <= edge.CERTAIN),
            "doubtful_ml": 0.0 if uncertain is None else float(uncertain.sum() * np.prod(mr.GetSpacing()) / 1000),
        }
    progress.stage("assemble", 0.5, "Assembling the structures")
    best, likeliest, total_entropy = np.zeros(inside.shape, np.uint8), None, np.zeros(inside.shape, np.float32)
    out["probabilities"], nested = {}, unions(card["outputs"]["structures"])
    names = [None] + [s["name"] for s in card["outputs"]["structures"]]
    # a network without classes has no background either
    for k, name in enumerate(names[: statistics.probability.shape[1]]):
        p = on_input(statistics.probability[:, k]).clip(0, 1)
        if nested is None:
            total_entropy -= p * np.log(np.maximum(p, 1e-12))
        if likeliest is None:
            likeliest = p
        else:
            # parts come behind what holds them, and lie in it
            best[p > (likeliest if nested is None else 0.5)] = card["outputs"]["structures"][k - 1]["label"]
            np.maximum(likeliest, p, out=likeliest)
            out["probabilities"][name] = image(p)
    if nested is not None:
        back = torch.from_numpy(np.linalg.inv(nested)).to(statistics.probability)
        classes = torch.einsum("ij,zjyx->ziyx", back, statistics.probability).clamp_min(0)
        total_entropy = on_input(entropy(classes)[:, 0])
    best[~inside] = 0
    ml = float(np.prod(mr.GetSpacing())) / 1000
    out["structures"] = geometry.like(tidy_labels(best, card["outputs"]["structures"], ml), mr, np.uint8)
    out["entropy"] = image(total_entropy)
    out["mutual_information"] = image((total_entropy - on_input(statistics.expected_entropy[:, 0])).clip(0))
    # far from every structure a distance is 1
    out["further"] = {
        name: image(on_input(found[:, 0]), float(name == "distance")) for name, found in statistics.further.items()
    }
    labels, out["assessed"] = sitk.GetArrayViewFromImage(out["structures"]), []
    for k, s in enumerate(card["outputs"]["structures"][: len(out["probabilities"])], 1):
        p = sitk.GetArrayViewFromImage(out["probabilities"][s["name"]])
        # between voxels of one organ the samples move together: sds are interpolated, not variances
        sd = on_input(statistics.probability_variance[:, k].clamp_min(0).sqrt()) * inside
        out["assessed"].append(
            volume_assessment.assess(
                s["name"],
                volumes.probability_of_being_inside(p, sd**2),
                p,
                mask_of(labels, s),
                total_entropy,
                mr,
                card,
                s.get("rule"),
            )
        )
    return out


def _synthetic_ct(statistics, card, on_input, mr, inside, q) -> dict:
    """Synthetic CT and its standard deviations, recalibrated as the card says; air outside of the body, and at its
    edge what `edge` adds.
    """
    scale, offset = card["outputs"]["synct"]["scale"], card["outputs"]["synct"]["offset"]
    synct = on_input(statistics.mean[:, 0]) * scale + offset
    intrinsic = on_input(statistics.intrinsic[:, 0]) * scale**2
    parameter = on_input(statistics.parameter[:, 0]).clip(0) * scale**2
    recalibration = hu_calibration.of_card(card)
    if recalibration is not None:
        intrinsic, parameter = recalibration.apply(synct, intrinsic, parameter)
    # the edge alone would leave a predictive SD of 0 within: a network that tells none tells none there either
    q = q if intrinsic.any() or parameter.any() else 0 * q
    synct, intrinsic, parameter, predictive = edge.applied(q, inside, synct, intrinsic, parameter, AIR)
    sds = {"intrinsic_sd": intrinsic, "parameter_sd": parameter, "predictive_sd": predictive}
    return {
        "synct": geometry.like(np.rint(synct).clip(-1024, 3071), mr, np.int16),
        **{name: geometry.like(np.sqrt(v), mr) for name, v in sds.items()},
    }


def _tables(result, labels, field_of_view, card, raised):
    """Volumes with intervals and flags."""
    if "synct" in card["outputs"]:
        sd = sitk.GetArrayViewFromImage(result["predictive_sd"])
        raised += flags.of_synct(sd, result["certain"], card) + flags.of_edge(result["doubtful_ml"])
    found, entry_of = [], {s["name"]: s for s in card["outputs"]["structures"]}
    for assessed in result["assessed"]:
        found.append(volume_assessment.volume(assessed, card, LEVEL))
        raised += flags.of_structure(
            found[-1],
            mask_of(labels, entry_of[assessed.name]),
            field_of_view,
            assessed.quality,
            card,
            assessed.distribution.interval(LEVEL)[1],
        )
    return found, raised


def _compare(prediction: Prediction, ct: sitk.Image) -> None:
    """Error, z-scores and metrics against a reference CT, which is brought onto the input's grid."""
    from ..uncertainty import metrics

    grid = prediction.synct
    reference, valid = metrics.reference_on(ct, grid)
    truth = sitk.GetArrayFromImage(reference)
    # the reference's body, not the product's own: what that takes for air by mistake counts
    if prediction.measured is not None:
        valid = valid & prediction.measured
    body = metrics.reference_body(truth, grid.GetSpacing()) & valid
    synct = sitk.GetArrayFromImage(prediction.synct).astype(np.float32)
    sd = sitk.GetArrayFromImage(prediction.predictive_sd)
    error = np.where(body, synct - truth, 0.0)
    prediction.reference = sitk.Cast(sitk.Round(sitk.Clamp(reference, sitk.sitkFloat32, -32768, 32767)), sitk.sitkInt16)
    prediction.error = geometry.like(error, grid)
    prediction.zscore = geometry.like(np.divide(error, sd, out=np.zeros_like(error), where=body & (sd > 0)), grid)
    factors = hu_calibration.interval_factors(prediction.card, metrics.LEVELS)
    prediction.metrics = metrics.evaluate(synct, sd, truth, body, spacing=grid.GetSpacing(), factors=factors)
