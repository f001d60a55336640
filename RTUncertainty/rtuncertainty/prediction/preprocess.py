"""From an MR as it comes to what a network sees: body mask, bias field, z-score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from ..bundles import background
from ..core import geometry
from ..core.errors import InputError
from .not_measured import not_measured

BIAS_FIELD = ("auto", "on", "off")
# On MR that N4 had corrected before, a second N4 finds a field of strength 0.001 to 0.015; a plain surface-coil field
# of ±40 % is found with 0.20 to 0.25 (28 limb MRs of the soft-tissue-sarcoma collection).
ALREADY_CORRECTED = 0.05


# The noise of air ends so many times the distance from its median to its 95th percentile above its median; skin is so
# thick; a dark patch at the border is cut bone up to this area and along this much of the border
NOISE, SKIN_MM, CUT_BONE_MM2, CUT_BONE_SPAN_MM = 1.5, 1.0, 800.0, 30.0

# what a card's `input.normalisation` may say
IN_BODY, WHOLE_IMAGE, HOUNSFIELD = "z-score in the body", "z-score of the image", "HU from -500 to 1000"


@dataclass
class Preprocessed:
    """A network's input and what was learnt on the way to it; all images on one grid.

    Attributes:
        image: float32, in the network's scale.
        body: uint8.
        bias_field_corrected: whether N4's field was applied.
        mean, sd: what took the image to its scale: (intensity − mean) / sd.
        uncertain: uint8, what is left out of the body but may be some (`regions`); None where all is body, or of a CT.
        measured: uint8, the field of view; None where all is body, or of a CT.
        not_measured: uint8, what lies beyond the field of view where it cuts the body (`prediction.not_measured`); None
            where it does not.
    """

    image: sitk.Image
    body: sitk.Image
    bias_field_corrected: bool
    mean: float
    sd: float
    uncertain: sitk.Image | None = None
    measured: sitk.Image | None = None
    not_measured: sitk.Image | None = None


def without_padding(image: sitk.Image, on_bright=None) -> sitk.Image:
    """An MR whose constant background outside of the field of view, negative or the type's largest value, is 0; others
    as they are. See `core.background`.

    Args:
        image: 3-D MR.
        on_bright: called with the value where the type's largest was found.

    Returns:
        The image.
    """
    array = sitk.GetArrayFromImage(image)
    found = False
    for find in (background.negative_padding, background.bright_padding):
        padding = find(array)
        if padding is None:
            continue
        if find is background.bright_padding and on_bright is not None:
            on_bright(float(array.max()))
        array[padding], found = 0, True
    return geometry.like(array, image, array.dtype) if found else image


def body_mask(image: sitk.Image, name: str = "the image") -> sitk.Image:
    """Tissue against air in an MR: all of `core_mask`, and beyond it skin, dark tissue and bone at the border.

    The air's noise is measured farther than 8 mm from the core. Tissue is what is twice as bright as that noise gets
    (in the square root); around it, up to `SKIN_MM`, what is brighter than the noise. Dark patches that the border of
    the image or of the field of view (0 outside) cuts are filled where they are small, bounded by a short piece of that
    border and within the convex hull of the slice's body: bone.

    Args:
        image: 3-D MR, any intensity unit, axial.
        name: what messages call it.

    Returns:
        uint8 on the image's grid.

    Raises:
        InputError: nothing remains.
    """
    return regions(image, name)[0]


def core_mask(image: sitk.Image, name: str = "the image") -> sitk.Image:
    """What is surely body: the mean and SD of a z-score and the bias field are those of this region.

    Otsu's threshold on the square root, closed, holes filled slice by slice; without the dark rim of skin. Cortical
    bone, gas and vessels inside are part of it, and whatever lies 4 mm deep in `body_mask`.

    Args:
        image: 3-D MR, axial.
        name: what messages call it.

    Returns:
        uint8 on the image's grid.

    Raises:
        InputError: nothing remains.
    """
    return regions(image, name)[1]


def regions(image: sitk.Image, name: str = "the image") -> tuple[sitk.Image, sitk.Image, sitk.Image]:
    """`body_mask` and `core_mask` of an MR in one go, and what is uncertain.

    Args:
        image: 3-D MR, axial.
        name: what messages call it.

    Returns:
        (body, core, uncertain), uint8 on the image's grid. Uncertain lies outside of the body, yet is brighter than the
        noise of air, or a dark patch at the border that is too large to be filled as cut bone.

    Raises:
        InputError: no positive intensities, or no body.
    """
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    positive = array[array > 0]
    if array.size < 100:
        extent = " × ".join(f"{n * s:.2g}" for n, s in zip(image.GetSize(), image.GetSpacing()))
        raise InputError(f"{name} is {extent} mm large, too little for a body; correct its voxel spacing.")
    if positive.size < 100:
        raise InputError(f"{name}: no positive intensities, so there is no body in it; give an MR image.")
    top = np.percentile(positive, 99.5)
    root = np.sqrt(np.clip(array, 0, top) / top)
    # where there is little air, Otsu separates fat from muscle: half of the upper class' median is then below muscle
    otsu = _otsu(root)
    threshold = min(otsu, 0.5 * float(np.median(root[root > otsu])))
    spacing = image.GetSpacing()
    core = _tidy(ndimage.gaussian_filter(root, (0, 1, 1)) > threshold, spacing, name)
    # less blurred where voxels are wide: beside bright fat, half a voxel of blur is taken for skin
    smooth = ndimage.gaussian_filter(root, (0, *(min(1.0, 1.0 / s) for s in spacing[1::-1])))
    body, uncertain = _wider(core, smooth, threshold, field_of_view(array), spacing, name)
    deep = distance_inside(body, spacing) > 4.0
    return (
        geometry.like(body, image, np.uint8),
        geometry.like(core | deep, image, np.uint8),
        geometry.like(uncertain, image, np.uint8),
    )


def field_of_view(array: np.ndarray) -> np.ndarray:
    """Where an MR was measured: where it is not zero, closed.

    Args:
        array: intensities [z, y, x].

    Returns:
        bool [z, y, x].
    """
    fov = array > 0
    return ndimage.binary_closing(np.pad(fov, 2, mode="edge"), iterations=2)[2:-2, 2:-2, 2:-2]


def distance_inside(mask: np.ndarray, spacing) -> np.ndarray:
    """Distance of each voxel in a mask to the nearest one outside of it in its slice; the image's border is none.

    Args:
        mask: bool [z, y, x].
        spacing: (x, y, z), mm.

    Returns:
        float32 [z, y, x], mm; 0 outside of the mask.
    """
    around = np.pad(mask, ((0, 0), (1, 1), (1, 1)), mode="edge")
    far = np.full(around.shape[1:], 1e3, np.float32)
    step = tuple(reversed([float(v) for v in spacing[:2]]))
    return np.stack(
        [far if s.all() else ndimage.distance_transform_edt(s, sampling=step).astype(np.float32) for s in around]
    )[:, 1:-1, 1:-1]


def _disc(spacing, mm: float) -> np.ndarray:
    radius = max(1, round(mm / min(spacing[:2])))
    return np.hypot(*np.ogrid[-radius : radius + 1, -radius : radius + 1])[None] <= radius


def _by_slice(operation, mask, disc) -> np.ndarray:
    """A morphological operation as if the image went on beyond its border."""
    r = disc.shape[1] // 2
    return operation(np.pad(mask, ((0, 0), (r, r), (r, r)), mode="edge"), disc)[:, r:-r, r:-r]


def _tidy(mask: np.ndarray, spacing, name: str) -> np.ndarray:
    """Closed, filled, without clumps of noise: components below 2 % of the largest are dropped."""
    disc = _disc(spacing, 3.0)
    mask = _by_slice(ndimage.binary_closing, mask, disc) | mask
    mask = np.stack([ndimage.binary_fill_holes(s) for s in mask])
    # clumps of noise beside the skin go, what is wider than 6 mm stays
    mask = _by_slice(ndimage.binary_opening, mask, disc)
    labels, count = ndimage.label(mask)
    if count == 0:
        raise InputError(f"{name}: no body could be found in it; check that it shows a patient.")
    sizes = np.bincount(labels.ravel())[1:]
    return np.isin(labels, np.flatnonzero(sizes >= 0.02 * sizes.max()) + 1)


def _wider(core, root, threshold, fov, spacing, name) -> tuple[np.ndarray, np.ndarray]:
    """The body from its core, see `body_mask`, and what is uncertain."""
    air = root[fov & (distance_inside(~core, spacing) > 8.0)]
    if air.size >= 500:
        middle, high = np.percentile(air, [50, 95])
        noise = min(float(middle + NOISE * (high - middle)), threshold)
    else:  # no air to speak of: nearly all is body
        noise = 0.4 * threshold
    # dark tissue, if it is thicker than 4 mm: thinner rims are blur beside bright fat, and the skin
    more = _tidy((root > min(threshold, 2 * noise)) & fov, spacing, name) & ~core
    rim = core | _by_slice(ndimage.binary_opening, more, _disc(spacing, 2.0))
    reach = round(SKIN_MM / min(spacing[:2]))
    if reach:  # 0 would grow for ever
        cross = ndimage.generate_binary_structure(2, 1)[None]
        rim = ndimage.binary_dilation(rim, cross, iterations=reach, mask=(root > noise) & fov) | rim
    body = np.stack([ndimage.binary_fill_holes(s) for s in rim])
    uncertain = ndimage.binary_opening((root > noise) & fov & ~body, np.ones((1, 3, 3)))
    # twice as wide and four times the area: bone perhaps, perhaps the gap between two limbs
    uncertain |= np.stack([_cut_bone(s, f, spacing, 2.0) for s, f in zip(body, fov)])
    body = np.stack([s | _cut_bone(s, f, spacing) for s, f in zip(body, fov)])
    return body, uncertain & ~body


def _cut_bone(body: np.ndarray, fov: np.ndarray, spacing, size: float = 1.0) -> np.ndarray:
    """Dark patches of a slice that are bone rather than air, by their shape: see `body_mask`."""
    found = np.zeros(body.shape, bool)
    labels, count = ndimage.label(fov & ~body)
    if not count or not body.any():
        return found
    inner = ndimage.binary_erosion(fov, np.ones((3, 3)))  # beyond the image's border is no field of view
    side, hull = float(max(spacing[:2])), None
    for k, place in enumerate(ndimage.find_objects(labels), 1):
        patch = labels[place] == k
        if patch.sum() * spacing[0] * spacing[1] > size**2 * CUT_BONE_MM2:
            continue
        pieces, number = ndimage.label(patch & ~inner[place], np.ones((3, 3)))
        spans = [max(s.stop - s.start for s in piece) * side for piece in ndimage.find_objects(pieces)]
        if number and max(spans) > size * CUT_BONE_SPAN_MM:
            continue
        hull = _hull(body) if hull is None else hull
        points = np.argwhere(patch) + [s.start for s in place]
        if hull is not None and (points @ hull[:, :2].T + hull[:, 2] <= 0.5).all(1).mean() >= 0.9:
            found[place] |= patch
    return found


def _hull(mask: np.ndarray):
    """The half planes of the convex hull of a mask [y, x], rows (a, b, c) with a·y + b·x + c <= 0 inside; None for a
    line.
    """
    try:
        return ConvexHull(np.argwhere(mask ^ ndimage.binary_erosion(mask))).equations
    except QhullError:
        return None


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
    """The multiplicative bias field by N4 (Tustison 2010), fitted on a grid of about 4 mm.

    Args:
        image: 3-D MR.
        mask: where it is fitted, uint8 on the same grid.
        on_iteration: called without arguments after every iteration; what it raises ends the fit and is passed on.

    Returns:
        float32 on the image's grid; the image divided by it is corrected.
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
    """How uneven a bias field is.

    Args:
        field: as `bias_field` gives it.
        mask: the body, on the same grid.

    Returns:
        The standard deviation of its logarithm inside the body; about its relative unevenness.
    """
    inside = sitk.GetArrayViewFromImage(mask) > 0
    return float(np.log(sitk.GetArrayViewFromImage(field)[inside]).std())


def z_score(image: sitk.Image, mask: sitk.Image, name: str = "the image") -> tuple[sitk.Image, float, float]:
    """(image − mean) / SD, both taken inside the body, clipped at its 0.1st and 99.9th percentile.

    Outside of the body the image keeps its (scaled) values: noise and artefacts in air are part of what is seen.

    Args:
        image: 3-D, any intensity unit.
        mask: the body, on the same grid.
        name: what messages call it.

    Returns:
        (image float32, mean, SD), the latter two in the unit of the input.

    Raises:
        InputError: the intensity is the same everywhere in the body.
    """
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    inside = array[sitk.GetArrayViewFromImage(mask) > 0]
    low, high = np.percentile(inside, [0.1, 99.9])
    inside = np.clip(inside, low, high)
    mean, sd = float(inside.mean()), float(inside.std())
    if not sd > 1e-6 * max(abs(mean), 1e-6):
        raise InputError(
            f"{name}: the intensity is the same everywhere in the body, so nothing can be predicted from it."
        )
    return geometry.like((np.minimum(array, high) - mean) / sd, image), mean, sd


def preprocess(
    image: sitk.Image, spacing, correct: str = "auto", name: str = "the image", on_iteration=None
) -> Preprocessed:
    """Orientation to axial, resampling, body, N4 and z-score, in this order.

    Args:
        image: 3-D MR, any orientation.
        spacing: (x, y, z) in mm; None keeps an axis.
        correct: "on", "off", or "auto": N4's field is applied when its strength exceeds `ALREADY_CORRECTED`.
        name: what messages call it.
        on_iteration: as of `bias_field`.

    Returns:
        The input of a network that was trained on MR.

    Raises:
        InputError: there is no body, or it has one intensity everywhere, or `correct` is none of the three.
    """
    if correct not in BIAS_FIELD:
        raise InputError(f"bias field '{correct}' is not one of {', '.join(BIAS_FIELD)}.")
    given = geometry.to_axial(without_padding(image))
    image = geometry.resample(given, geometry.resampled_grid(given, spacing))
    array = sitk.GetArrayFromImage(image)
    measured = field_of_view(array)
    body, core, uncertain = regions(image, name)
    corrected = False
    if correct != "off":
        field = bias_field(image, core, on_iteration)
        corrected = correct == "on" or field_strength(field, core) > ALREADY_CORRECTED
        if corrected:
            image = sitk.Cast(image, sitk.sitkFloat32) / field
            body, core, uncertain = regions(image, name)
    # the dark rim of skin is left out: networks were trained on the scale of what lies inside of it
    image, mean, sd = z_score(image, core, name)
    if image is not given:  # smoothing for larger voxels lets a little of the body into what was not measured
        field = geometry.like(field_of_view(sitk.GetArrayViewFromImage(given)), given, np.uint8)
        seen = sitk.GetArrayFromImage(geometry.resample(field, image, "nearest")) > 0
    else:
        seen = measured
    beyond = not_measured(array, seen, sitk.GetArrayViewFromImage(body) > 0, image.GetSpacing())
    return Preprocessed(
        image,
        body,
        corrected,
        mean,
        sd,
        uncertain,
        geometry.like(measured, image, np.uint8),
        geometry.like(beyond, image, np.uint8) if beyond.any() else None,
    )


def for_card(
    image: sitk.Image, card: dict, correct: str = "auto", name: str = "the image", on_iteration=None
) -> Preprocessed:
    """An image as the network of a card was trained to see it: on its spacing, in its scale; axial.

    A CT is clipped to the networks' window (`core.ct.normalised`) and has no bias field. Where the scale is that of the
    whole image, all of it counts as body: such models are for images cropped to an organ.

    Args:
        image: 3-D MR, or CT in HU, any orientation.
        card: of the model.
        correct: as of `preprocess`; "auto" is what the card's `bias_field` says.
        name: what messages call it.
        on_iteration: as of `bias_field`.

    Returns:
        The network's input.

    Raises:
        InputError: an image without a body, or a normalisation that this version does not know.
    """
    spacing, scale = card["input"]["spacing_mm"], card["input"].get("normalisation", IN_BODY)
    if scale == IN_BODY:
        if correct == "auto":
            correct = card["input"].get("bias_field", correct)
        return preprocess(image, spacing, correct, name, on_iteration)
    image = geometry.to_axial(without_padding(image) if scale == WHOLE_IMAGE else image)
    if scale == WHOLE_IMAGE:
        image = geometry.resample(image, geometry.resampled_grid(image, spacing))
        body = geometry.like(np.ones(image.GetSize()[::-1], np.uint8), image, np.uint8)
        image, mean, sd = z_score(image, body, name)
        return Preprocessed(image, body, False, mean, sd)
    if scale == HOUNSFIELD:
        from ..core import ct as ct_body
        from ..core.ct import AIR_HU, UNIT, normalised

        image = geometry.resample(image, geometry.resampled_grid(image, spacing), background=AIR_HU)
        body = ct_body.body_mask(image, name)
        return Preprocessed(geometry.like(normalised(sitk.GetArrayViewFromImage(image)), image), body, False, 0.0, UNIT)
    raise InputError(
        f"model '{card['name']}': its card asks for the normalisation '{scale}', which this version does not know; "
        "update RTUncertainty."
    )
