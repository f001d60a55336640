"""From an MR as it comes to what a network sees: body mask, bias field, z-score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from . import geometry
from .errors import InputError

BIAS_FIELD = ("auto", "on", "off")
# On MR that N4 had corrected before, a second N4 finds a field of strength 0.001 to 0.015; a plain surface-coil field
# of ±40 % is found with 0.20 to 0.25 (28 limb MRs of the soft-tissue-sarcoma collection).
ALREADY_CORRECTED = 0.05


# what a card's `input.normalisation` may say
IN_BODY, WHOLE_IMAGE, HOUNSFIELD = "z-score in the body", "z-score of the image", "HU from -500 to 1000"


@dataclass
class Preprocessed:
    """A network's input: `image` float32 in the network's scale, `body` uint8, same grid; `mean` and `sd` took it there."""

    image: sitk.Image
    body: sitk.Image
    bias_field_corrected: bool
    mean: float
    sd: float


def body_mask(image: sitk.Image, name: str = "the image") -> sitk.Image:
    """Tissue against air in an MR, uint8: Otsu's threshold on the square root, closed, holes filled slice by slice.

    Cortical bone, gas and vessels inside are part of the body. Components below 2 % of the largest are dropped.
    Raises `InputError` when nothing remains.
    """
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    positive = array[array > 0]
    if positive.size < 100:
        raise InputError(f"{name}: no positive intensities, so there is no body in it; give an MR image.")
    top = np.percentile(positive, 99.5)
    root = np.sqrt(np.clip(array, 0, top) / top)
    # where there is little air, Otsu separates fat from muscle: half of the upper class' median is then below muscle
    otsu = _otsu(root)
    threshold = min(otsu, 0.5 * float(np.median(root[root > otsu])))
    mask = ndimage.gaussian_filter(root, (0, 1, 1)) > threshold
    radius = max(1, round(3.0 / min(image.GetSpacing()[:2])))
    disc = np.hypot(*np.ogrid[-radius:radius + 1, -radius:radius + 1])[None] <= radius
    padded = np.pad(mask, ((0, 0), (radius, radius), (radius, radius)), mode="edge")
    mask = ndimage.binary_closing(padded, disc)[:, radius:-radius, radius:-radius] | mask
    mask = np.stack([ndimage.binary_fill_holes(s) for s in mask])
    # clumps of noise beside the skin go, what is wider than 6 mm stays
    mask = ndimage.binary_opening(np.pad(mask, ((0, 0), (radius, radius), (radius, radius)), mode="edge"), disc)
    mask = mask[:, radius:-radius, radius:-radius]
    labels, count = ndimage.label(mask)
    if count == 0:
        raise InputError(f"{name}: no body could be found in it; check that it shows a patient.")
    sizes = np.bincount(labels.ravel())[1:]
    keep = np.flatnonzero(sizes >= 0.02 * sizes.max()) + 1
    return geometry.like(np.isin(labels, keep), image, np.uint8)


def _otsu(values: np.ndarray) -> float:
    histogram, edges = np.histogram(values, 256)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(histogram)
    above = below[-1] - below
    first = np.cumsum(histogram * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (first / below - (first[-1] - first) / above) ** 2
    return float(centres[np.nanargmax(between)])


def bias_field(image: sitk.Image, mask: sitk.Image, on_iteration=None) -> sitk.Image:
    """The multiplicative bias field by N4 (Tustison 2010), fitted on a grid of about 4 mm, float32 on the image's grid.

    `on_iteration()` is called after every iteration; an exception it raises ends the fit and is passed on.
    """
    image = sitk.Cast(image, sitk.sitkFloat32)
    factor = [max(1, min(int(round(4.0 / s)), n // 8)) for s, n in zip(image.GetSpacing(), image.GetSize())]
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([40, 40, 30])
    n4.SetConvergenceThreshold(1e-3)
    failure = []
    if on_iteration is not None:
        def tell():
            # an exception cannot cross ITK's C++ frames: note it, stop, and raise it afterwards
            try:
                on_iteration()
            except Exception as error:
                failure.append(error)
                n4.Abort()
        n4.AddCommand(sitk.sitkIterationEvent, tell)
    try:
        n4.Execute(sitk.Shrink(image, factor), sitk.Shrink(mask, factor))
    except RuntimeError:
        if not failure:
            raise
    if failure:
        raise failure[0]
    return sitk.Cast(sitk.Exp(n4.GetLogBiasFieldAsImage(image)), sitk.sitkFloat32)


def field_strength(field: sitk.Image, mask: sitk.Image) -> float:
    """Standard deviation of the log of a bias field inside the body; about the field's relative unevenness."""
    inside = sitk.GetArrayViewFromImage(mask) > 0
    return float(np.log(sitk.GetArrayViewFromImage(field)[inside]).std())


def z_score(image: sitk.Image, mask: sitk.Image, name: str = "the image") -> tuple[sitk.Image, float, float]:
    """(image − mean) / sd with both taken inside the body, clipped at the 0.1st and 99.9th percentile of the body.

    Outside of the body the image keeps its (scaled) values: noise and artefacts in air are part of what is seen.
    Raises `InputError` for a body of constant intensity.
    """
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    inside = array[sitk.GetArrayViewFromImage(mask) > 0]
    low, high = np.percentile(inside, [0.1, 99.9])
    inside = np.clip(inside, low, high)
    mean, sd = float(inside.mean()), float(inside.std())
    if not sd > 1e-6 * max(abs(mean), 1e-6):
        raise InputError(f"{name}: the intensity is the same everywhere in the body, so nothing can be predicted from it.")
    return geometry.like((np.minimum(array, high) - mean) / sd, image), mean, sd


def preprocess(image: sitk.Image, spacing, correct: str = "auto", name: str = "the image", on_iteration=None) -> Preprocessed:
    """Orientation to axial, resampling to `spacing` (mm or None per axis), body, N4 and z-score, in this order.

    `correct`: "on" and "off" do what they say; "auto" applies N4's field when its strength exceeds `ALREADY_CORRECTED`.
    """
    if correct not in BIAS_FIELD:
        raise InputError(f"bias field '{correct}' is not one of {', '.join(BIAS_FIELD)}.")
    image = geometry.to_axial(image)
    image = geometry.resample(image, geometry.resampled_grid(image, spacing))
    body = body_mask(image, name)
    corrected = False
    if correct != "off":
        field = bias_field(image, body, on_iteration)
        corrected = correct == "on" or field_strength(field, body) > ALREADY_CORRECTED
        if corrected:
            image = sitk.Cast(image, sitk.sitkFloat32) / field
            body = body_mask(image, name)
    image, mean, sd = z_score(image, body, name)
    return Preprocessed(image, body, corrected, mean, sd)


def for_card(image: sitk.Image, card: dict, correct: str = "auto", name: str = "the image", on_iteration=None) -> Preprocessed:
    """`image` as the network of `card` was trained to see it: on its spacing, in its scale; axial.

    A CT is clipped to the networks' window (`propagation.pair.normalised`) and has no bias field. Where the scale is that
    of the whole image, all of it counts as body: such models are for images cropped to an organ. `correct` "auto" is what the card's
    `bias_field` says.
    Raises `InputError` for an image without a body, and for a normalisation that this version does not know.
    """
    spacing, scale = card["input"]["spacing_mm"], card["input"].get("normalisation", IN_BODY)
    if scale == IN_BODY:
        if correct == "auto":
            correct = card["input"].get("bias_field", correct)
        return preprocess(image, spacing, correct, name, on_iteration)
    image = geometry.to_axial(image)
    if scale == WHOLE_IMAGE:
        image = geometry.resample(image, geometry.resampled_grid(image, spacing))
        body = geometry.like(np.ones(image.GetSize()[::-1], np.uint8), image, np.uint8)
        image, mean, sd = z_score(image, body, name)
        return Preprocessed(image, body, False, mean, sd)
    if scale == HOUNSFIELD:
        from .propagation import body as ct_body
        from .propagation.pair import AIR_HU, UNIT, normalised

        image = geometry.resample(image, geometry.resampled_grid(image, spacing), background=AIR_HU)
        body = ct_body.body_mask(image, name)
        return Preprocessed(geometry.like(normalised(sitk.GetArrayViewFromImage(image)), image), body, False, 0.0, UNIT)
    raise InputError(f"model '{card['name']}': its card asks for the normalisation '{scale}', which this version does not know; "
                     "update RTUncertainty.")
