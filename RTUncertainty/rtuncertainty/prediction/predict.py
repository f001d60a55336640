"""`predict`: one image to a synthetic CT, structures or both, and their uncertainty (Bragman 2018; Eaton-Rosen
2018).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import SimpleITK as sitk

from ..bundles import bundle as bundles
from ..bundles import compatibility, input_quality
from ..bundles import site as sites
from ..core import geometry, image_io
from ..core.errors import InputError
from ..core.events import CancelToken, Progress
from ..core.geometry import bounding_box
from ..core.options import require_sampling
from ..core.structures import mask_of, tidy_labels, unions
from ..uncertainty import edge, flags, hu_calibration, volume_assessment, volume_calibration, volumes
from ..uncertainty.cross_conformal import MemberVolume
from . import channels, kept_samples, preprocess

LEVEL = 0.9
AIR = -1000.0


@dataclass
class Prediction:
    """All that `predict` found, on the grid of the input.

    A model that only segments gives no synthetic CT: `synct` and its three standard deviations are then None.

    Attributes:
        synct: int16, HU.
        intrinsic_sd, parameter_sd, predictive_sd: float32, HU; they go on beyond the body, see `edge`.
        structures: uint8 labels.
        entropy: predictive entropy, nats.
        mutual_information: nats.
        probabilities: {structure: float32, 0 to 1}.
        body: uint8.
        volumes: with their intervals, ml.
        assessed: the same structures' distributions of volume, and quality.
        flags: what to look at first.
        card: of the model.
        options: what the run was asked for.
        input_name: of the image.
        device_used: of torch.
        bias_field_corrected: whether N4's field was applied.
        further: what the network gives besides: MT-CTL its distance map (−1 to 1, negative inside), its decoder's
            entropy (nats).
        measured: bool [z, y, x], the input's field of view; None: all of it.
        reference: the CT that was given, on the grid of the input.
        error: synthetic CT − CT, HU.
        zscore: error / predictive SD.
        metrics: `uncertainty.metrics.Row` each.
        likeness: of the input to the training images, see `input_quality.likeness`.
        notes: for the user.
        seconds: by stage.
    """

    synct: sitk.Image | None
    intrinsic_sd: sitk.Image | None
    parameter_sd: sitk.Image | None
    predictive_sd: sitk.Image | None
    structures: sitk.Image
    entropy: sitk.Image
    mutual_information: sitk.Image
    probabilities: dict[str, sitk.Image]
    body: sitk.Image
    volumes: list[volumes.Volume]
    assessed: list[volume_assessment.Assessed]
    flags: list[flags.Flag]
    card: dict
    options: dict
    input_name: str
    device_used: str
    bias_field_corrected: bool
    further: dict[str, sitk.Image] = field(default_factory=dict)
    measured: np.ndarray | None = None
    reference: sitk.Image | None = None
    error: sitk.Image | None = None
    zscore: sitk.Image | None = None
    metrics: list = field(default_factory=list)
    samples: kept_samples.KeptSamples | None = None
    # by structure, [0, 1]; see `kept_samples.variances`. Empty unless samples were kept
    intrinsic_variance: dict[str, sitk.Image] = field(default_factory=dict)
    parameter_variance: dict[str, sitk.Image] = field(default_factory=dict)
    likeness: dict = field(default_factory=dict)
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
    keep_samples: int = 0,
    site=None,
    scratch=None,
    on_event=None,
    cancel: CancelToken | None = None,
    progress: Progress | None = None,
    before=None,
) -> Prediction:
    """Predict synthetic CT and structures, or what of the two the model is for, with uncertainty (Bragman 2018;
    Eaton-Rosen 2018). Writes nothing.

    Args:
        image: MR or CT in HU: `SimpleITK.Image` (3-D, any orientation) or a path to a file or DICOM folder; of a model
            that sees several, all of them, see `channels.in_order`.
        bundle: name or folder.
        samples: T ≥ 2, rounded up to pairs where they are antithetic; 1: a single pass without dropout, which tells no
            parameter uncertainty and has no calibration.
        seed: of the dropout masks.
        device: auto, cpu, cuda, cuda:n.
        bias_field: auto, on, off (N4).
        reference: a CT (image or path) in the same frame; adds error, z-scores and metrics.
        keep_samples: so many samples as whole images (`kept_samples`), and the maps of the structures' variances.
        site: path of a `site.json` whose intervals and limits count in place of the card's, see `bundles.site`.
        scratch: a folder for what is drawn of them until they are written.
        on_event: called with progress events (dicts).
        cancel: a token; the run ends soon after it is set.
        progress: in place of `on_event` and `cancel`.
        before: called with the checked image before anything costly begins, to raise what speaks against the run.

    Returns:
        Images on the grid of the input; HU, nats, ml.

    Raises:
        InputError: an image, model or option that will not do.
        OutOfMemoryError: the smallest tiles on the CPU do not fit.
        Cancelled: `cancel` was set.
    """
    progress = progress or Progress(on_event, cancel or CancelToken())
    progress.stage("read", 0.0, "Reading the image and the model")
    if bias_field not in preprocess.BIAS_FIELD:
        raise InputError(f"bias field '{bias_field}' is not one of {', '.join(preprocess.BIAS_FIELD)}.")
    require_sampling(samples, seed)
    _require_kept(keep_samples, samples)
    card = sites.applied(bundles.read_card(bundles.find(bundle)), site)
    _require_outputs(card, reference)
    of_ct = card["input"].get("modality") == "CT"
    (mr, name), *others = _images(image, card, of_ct, progress)
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
        ct, ct_name = _image(reference, "the reference", tell=progress.note)
        compatibility.require_reference(ct, ct_name)
        geometry.require_overlap(mr, ct, name, ct_name)

    from ..sampling import folds, inference  # torch is needed from here on

    where = inference.choose_device(device)
    networks = bundles.load(card["folder"], where)[1]
    if sites.sentence(card):
        progress.note(sites.sentence(card))
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
    shown = (
        sitk.GetArrayViewFromImage(ready.image),
        sitk.GetArrayViewFromImage(ready.body) > 0,
        ready.image.GetSpacing(),
    )
    likeness = input_quality.likeness(*shown, card)
    for words in input_quality.warnings(*shown, card, likeness.get("measures")):
        raised.append(flags.Flag("input", "warning", "unlike the training data", words))
        progress.note(words)

    progress.stage("network", 0.0, "Sampling")
    box = bounding_box(sitk.GetArrayViewFromImage(ready.body) > 0)
    volume = sitk.GetArrayViewFromImage(ready.image)
    if others:
        more = [preprocess.for_card(i, card, bias_field, n).image for i, n in others]
        volume = np.stack([volume, *map(sitk.GetArrayViewFromImage, more)])
    cropped = np.ascontiguousarray(volume[(..., *box)])
    asked = (card["calibration"].get("volumes") or {}).get("method") == volume_calibration.CV_PLUS
    drawn, share = None, samples / (samples + keep_samples)
    progress.part = (0.0, share)
    statistics, used, tile, members = folds.run(
        networks, cropped, samples, seed, where, progress, partial(_member_volumes, box, ready, card) if asked else None
    )
    if keep_samples:
        from ..sampling import whole

        progress.part = (share, 1.0)
        drawn = kept_samples.on_disk((keep_samples, 1 + statistics.probability.shape[1], *cropped.shape[-3:]), scratch)
        whole.draw([n.to(used) for n in networks], cropped, drawn, seed, used, tile, progress)
    progress.part = (0.0, 1.0)

    progress.stage("assemble", 0.0, "Assembling the images")
    result = _assemble(statistics, box, ready, mr, card, progress, drawn, seed)
    if members:
        result["assessed"] = [replace(a, members=of) for a, of in zip(result["assessed"], zip(*members))]
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
        likeness=likeness,
        samples=result.get("samples"),
        intrinsic_variance=result["intrinsic_variance"],
        parameter_variance=result["parameter_variance"],
        seconds=progress.seconds,
        options={
            "samples": samples
            if samples == 1
            else sum(folds.shares(networks, samples))
            if len(networks) > 1
            else samples + samples % 2
            if "synct" in card["outputs"]
            else samples,
            "seed": seed,
            "device": device,
            "bias_field": bias_field,
            "tile": tile,
            **({"keep_samples": keep_samples} if keep_samples else {}),
        },
    )
    if ct is not None:
        _compare(prediction, ct)
    progress.stage("assemble", 1.0, "Assembled")
    return prediction


def _require_kept(keep_samples: int, samples: int) -> None:
    if keep_samples < 0:
        raise InputError(f"{keep_samples} samples cannot be kept; give 1 or more, or 0 for none.")
    if keep_samples and samples == 1:
        raise InputError("A single pass without dropout draws no samples to keep; give 2 or more, or keep none.")


def _require_outputs(card: dict, reference) -> None:
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


def _images(given, card: dict, of_ct: bool, progress: Progress) -> list[tuple[sitk.Image, str]]:
    """(image, name) of all that the model sees, in the order of its card and on one grid."""
    found = []
    for item, channel in zip(channels.in_order(given, card), channels.of_card(card)):
        image, name = _image(item, f"the image {channel}".strip(), not of_ct, progress.note)
        # a CT given by mistake keeps its air, by which it is recognised
        if not of_ct and not image_io.looks_like_ct(image):
            image = preprocess.without_padding(
                image,
                lambda value, name=name: progress.note(
                    f"{name}: its background of {value:.0f} was taken for padding, as 0."
                ),
            )
        found.append((image, name))
    return found


def _image(given, fallback: str, padded: bool = False, tell=None) -> tuple[sitk.Image, str]:
    if isinstance(given, sitk.Image):
        return image_io.check(given, fallback, padded), fallback
    return image_io.read(given, padded, tell), str(given)


def _member_volumes(box, ready, card, statistics) -> list[MemberVolume]:
    """What one checkpoint says of each structure, on the network's grid, where the calibration was made."""
    import torch

    from ..networks.uncertainty import entropy

    body = sitk.GetArrayViewFromImage(ready.body)[box] > 0
    mean, variance = (v.numpy().swapaxes(0, 1) for v in (statistics.probability, statistics.probability_variance))
    structures, ml = card["outputs"]["structures"], float(np.prod(ready.image.GetSpacing())) / 1000
    best = np.array([0, *(s["label"] for s in structures)], np.uint8)[mean.argmax(0)]
    nested, classes = unions(structures), mean
    if nested is not None:
        # parts come behind what holds them, and lie in it
        best = np.zeros_like(best)
        for p, s in zip(mean[1:], structures):
            best[p > 0.5] = s["label"]
        classes = np.tensordot(np.linalg.inv(nested), mean, 1).clip(0)
    labels, total_entropy = (
        tidy_labels(np.where(body, best, 0), structures, ml),
        entropy(torch.from_numpy(classes.copy())[None])[0, 0].numpy(),
    )
    found, spacing = [], ready.image.GetSpacing()
    for k, s in enumerate(structures[: len(mean) - 1], 1):
        p = mean[k].clip(0, 1) * body
        inside = volumes.probability_of_being_inside(p, variance[k].clip(0) * body)
        found.append(
            volume_assessment.member_volume(
                s["name"], inside, p, mask_of(labels, s), total_entropy, spacing, s.get("rule")
            )
        )
    return found


def _assemble(statistics, box, ready, mr, card, progress, drawn=None, seed=0) -> dict:
    """Statistics in the box of the network's grid → images on the input's grid, in HU and nats; `drawn`: samples to
    keep.
    """
    import torch

    from ..networks.uncertainty import entropy

    grid = ready.image
    body = geometry.resample(ready.body, mr, "nearest")
    inside = sitk.GetArrayFromImage(body) > 0

    def on_input(channel) -> np.ndarray:
        progress.cancel.check()
        # outside of the box the nearest value goes on, so that no edge bleeds in: the body decides what is shown
        pads = [(b.start, n - b.stop) for b, n in zip(box, grid.GetSize()[::-1])]
        whole = np.pad(np.asarray(channel), pads, mode="edge")
        back = geometry.resample(geometry.like(whole, grid), mr)
        return sitk.GetArrayFromImage(back)

    def image(array, outside=0.0, dtype=np.float32):
        return geometry.like(np.where(inside, array, outside), mr, dtype)

    ml = float(np.prod(mr.GetSpacing())) / 1000
    measured, uncertain, beyond = (
        None if i is None else sitk.GetArrayFromImage(geometry.resample(i, mr, "nearest")) > 0
        for i in (ready.measured, ready.uncertain, ready.not_measured)
    )
    missing = 0.0 if beyond is None else edge.beyond_cut(inside, beyond, mr.GetSpacing())
    out: dict = {"body": body, "not_measured": beyond, "missing_ml": float(np.sum(missing, dtype=np.float64)) * ml}
    if "synct" in card["outputs"]:
        measured = np.ones(inside.shape, bool) if measured is None else measured
        q = np.maximum(edge.probability(inside, measured, mr.GetSpacing(), uncertain), missing)
        out |= _synthetic_ct(statistics, card, on_input, mr, inside, q, drawn is not None)
        out |= {
            "measured": measured,
            "certain": inside & (q <= edge.CERTAIN),
            "doubtful_ml": 0.0 if uncertain is None else float(uncertain.sum() * ml),
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
    out["structures"] = geometry.like(tidy_labels(best, card["outputs"]["structures"], ml), mr, np.uint8)
    out["entropy"] = image(total_entropy)
    out["mutual_information"] = image((total_entropy - on_input(statistics.expected_entropy[:, 0])).clip(0))
    # far from every structure a distance is 1
    out["further"] = {
        name: image(on_input(found[:, 0]), float(name == "distance")) for name, found in statistics.further.items()
    }
    if drawn is not None:
        out["samples"] = kept_samples.KeptSamples(
            drawn, on_input, mr, inside, card["outputs"]["structures"], seed, out.get("hounsfield")
        )
    out["intrinsic_variance"], out["parameter_variance"] = {}, {}
    labels, out["assessed"] = sitk.GetArrayViewFromImage(out["structures"]), []
    for k, s in enumerate(card["outputs"]["structures"][: len(out["probabilities"])], 1):
        p = sitk.GetArrayViewFromImage(out["probabilities"][s["name"]])
        # between voxels of one organ the samples are correlated: SDs are interpolated, not variances
        sd = on_input(statistics.probability_variance[:, k].clamp_min(0).sqrt()) * inside
        if drawn is not None:
            parts = kept_samples.variances(p, sd**2)
            out["intrinsic_variance"][s["name"]], out["parameter_variance"][s["name"]] = map(image, parts)
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


def _synthetic_ct(statistics, card, on_input, mr, inside, q, keep: bool = False) -> dict:
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
    parts = {}
    if keep:
        factor = np.ones_like(synct)
        if recalibration is not None:
            factor = np.sqrt(recalibration.apply(synct, np.zeros_like(synct), factor)[1])
        sd = np.sqrt(intrinsic.clip(0))
        parts["hounsfield"] = kept_samples.Hounsfield(synct, factor, sd, q, scale, offset, AIR)
    # the edge alone would leave a predictive SD of 0 within: a network that tells none tells none there either
    q = q if intrinsic.any() or parameter.any() else 0 * q
    synct, intrinsic, parameter, predictive = edge.applied(q, inside, synct, intrinsic, parameter, AIR)
    sds = {"intrinsic_sd": intrinsic, "parameter_sd": parameter, "predictive_sd": predictive}
    return parts | {
        "synct": geometry.like(np.rint(synct).clip(-1024, 3071), mr, np.int16),
        **{name: geometry.like(np.sqrt(v), mr) for name, v in sds.items()},
    }


def _tables(result, labels, field_of_view, card, raised):
    """Volumes with intervals and flags."""
    outside = result["not_measured"]
    if outside is not None:
        voxel_ml = float(np.prod(result["body"].GetSpacing())) / 1000
        raised += flags.of_not_measured(result["missing_ml"], float(outside.sum()) * voxel_ml)
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
            outside,
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
