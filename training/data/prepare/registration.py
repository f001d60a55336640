"""Alignment of a CT to the MR of the same patient, none, rigid or deformable, and how well the two agree.

elastix (Klein 2010; via itk-elastix) is the reference implementation of this kind of registration in the field.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from rtuncertainty.core import geometry
from rtuncertainty.prediction import preprocess
from rtuncertainty.uncertainty import metrics

AIR = -1000.0
KINDS = ("none", "rigid", "deformable")


@dataclass
class Score:
    """How well CT and MR agree; all but the folding fraction are taken inside the MR's field of view.

    body_dice: Dice of the two bodies. cortical_ratio: median MR intensity where the CT shows cortical bone (> 600 HU)
    over that where it shows muscle (20 to 80 HU); compact bone is dark in MR, so about 0.3 is right and 1 is wrong
    (NaN with less than 1 ml of it). fat_ratio: the same for fat (-130 to -60 HU); bright in T1, so above 1.5 is right.
    nmi: normalised mutual information (Studholme 1999), 1 to 2. folding: fraction of voxels with det J <= 0.
    """

    body_dice: float
    cortical_ratio: float
    fat_ratio: float
    nmi: float
    folding: float = 0.0
    shift_mm: float = 0.0

    def table(self) -> dict:
        return asdict(self)


def ct_body(ct: sitk.Image) -> np.ndarray:
    """The patient without the couch in a CT, bool [z, y, x]; see `metrics.reference_body`."""
    return metrics.reference_body(sitk.GetArrayViewFromImage(ct), ct.GetSpacing())


def score(
    mr: np.ndarray,
    ct: np.ndarray,
    mr_body: np.ndarray,
    ct_body_: np.ndarray,
    field_of_view: np.ndarray,
    ml_per_voxel: float,
) -> Score:
    """See `Score`. Arrays [z, y, x] on one grid; `field_of_view` is where both images were measured."""
    a, b = mr_body & field_of_view, ct_body_ & field_of_view
    dice = 2.0 * (a & b).sum() / max(1, a.sum() + b.sum())
    both = a & b
    if not both.any():
        return Score(float(dice), float("nan"), float("nan"), float("nan"))
    muscle = both & (ct > 20) & (ct < 80)
    reference = np.median(mr[muscle]) if muscle.sum() > 100 else np.nan

    def ratio(tissue):
        return float(np.median(mr[tissue]) / reference) if tissue.sum() * ml_per_voxel > 1.0 else float("nan")

    joint, _, _ = np.histogram2d(
        np.clip(mr[both], *np.percentile(mr[both], [1, 99])), np.clip(ct[both], -300, 1000), 48
    )
    p = joint / joint.sum()

    def entropy(q):
        q = q[q > 0]
        return -(q * np.log(q)).sum()

    nmi = (entropy(p.sum(0)) + entropy(p.sum(1))) / entropy(p)
    return Score(float(dice), ratio(both & (ct > 600)), ratio(both & (ct > -130) & (ct < -60)), float(nmi))


def to_itk(image: sitk.Image, kind=np.float32):
    """A SimpleITK image as an itk image of the same geometry."""
    import itk

    out = itk.image_from_array(np.ascontiguousarray(sitk.GetArrayFromImage(image).astype(kind)))
    out.SetOrigin(image.GetOrigin())
    out.SetSpacing(image.GetSpacing())
    out.SetDirection(np.array(image.GetDirection()).reshape(3, 3))
    return out


def _maps(kind: str, iterations: int, grid_mm: float, bending: float):
    """elastix' parameter maps: rigid, then B-spline with bending energy; Mattes mutual information for both."""
    import itk

    common = {
        "ImageSampler": ["RandomCoordinate"],
        "NumberOfSpatialSamples": ["3000"],
        "NewSamplesEveryIteration": ["true"],
        "CheckNumberOfSamples": ["true"],
        "MaximumNumberOfSamplingAttempts": ["16"],
        "ErodeMask": ["false"],
        "RequiredRatioOfValidSamples": ["0.02"],
        "RandomSeed": ["121212"],
        "WriteResultImage": ["false"],
        "AutomaticParameterEstimation": ["true"],
        "NumberOfHistogramBins": ["48"],
        "DefaultPixelValue": [str(AIR)],
        "FixedImagePyramid": ["FixedSmoothingImagePyramid"],
        "MovingImagePyramid": ["MovingSmoothingImagePyramid"],
        # voxels are three times as thick as they are wide: thinner smoothing along z
        "ImagePyramidSchedule": ["4", "4", "1", "2", "2", "1", "1", "1", "1"],
        "NumberOfResolutions": ["3"],
        "Interpolator": ["LinearInterpolator"],
        "BSplineInterpolationOrder": ["1"],
        "FinalBSplineInterpolationOrder": ["1"],
        "HowToCombineTransforms": ["Compose"],
        "AutomaticTransformInitialization": ["false"],
    }
    objects = itk.ParameterObject.New()
    rigid = dict(objects.GetDefaultParameterMap("rigid"), **common, MaximumNumberOfIterations=[str(iterations)])
    rigid["AutomaticScalesEstimation"] = ["true"]
    spline = dict(objects.GetDefaultParameterMap("bspline"), **common, MaximumNumberOfIterations=[str(2 * iterations)])
    spline.update(
        {
            "Registration": ["MultiMetricMultiResolutionRegistration"],
            "Metric": ["AdvancedMattesMutualInformation", "TransformBendingEnergyPenalty"],
            "Metric0Weight": ["1.0"],
            "Metric1Weight": [str(bending)],
            "FinalGridSpacingInPhysicalUnits": [str(grid_mm)] * 3,
            "GridSpacingSchedule": ["4.0", "2.0", "1.0"],
        }
    )
    out = itk.ParameterObject.New()
    for one in (rigid, spline) if kind == "deformable" else (rigid,):
        out.AddParameterMap(one)
    return out


@dataclass
class Aligned:
    """CT on the MR's grid (HU, `AIR` outside), the mask of where it was measured, and the scores before and after."""

    ct: sitk.Image
    valid: sitk.Image
    before: Score
    after: Score


def field_of_view(mr: sitk.Image) -> np.ndarray:
    """Where an MR was measured, bool [z, y, x]; see `preprocess.field_of_view`."""
    return preprocess.field_of_view(sitk.GetArrayViewFromImage(mr))


def align(
    mr: sitk.Image,
    ct: sitk.Image,
    kind: str = "deformable",
    iterations: int = 250,
    grid_mm: float = 20.0,
    bending: float = 25.0,
) -> Aligned:
    """Move a CT onto an MR: rigid, then B-spline (`grid_mm` control points) with a bending energy of weight `bending`.

    The MR's field of view (where it is not zero) is the fixed mask. `kind` (see `KINDS`) "rigid" leaves out the
    B-spline; "none" takes the CT as it lies, without elastix. Raises `RuntimeError` when elastix gives up.
    """
    fov = field_of_view(mr)
    body = sitk.GetArrayFromImage(preprocess.body_mask(mr)) > 0
    mr_array = sitk.GetArrayFromImage(mr).astype(np.float32)
    volume = float(np.prod(mr.GetSpacing())) / 1000
    clipped = sitk.Clamp(sitk.Cast(ct, sitk.sitkFloat32), sitk.sitkFloat32, -1000, 2000)
    on_grid = geometry.resample(clipped, mr, background=AIR)
    before = score(mr_array, sitk.GetArrayFromImage(on_grid), body, ct_body(on_grid), fov, volume)
    if kind == "none":
        ones = geometry.like(np.ones(ct.GetSize()[::-1]), ct, np.uint8)
        valid = (sitk.GetArrayFromImage(geometry.resample(ones, mr, "nearest")) > 0) & fov
        after = score(mr_array, sitk.GetArrayFromImage(on_grid), body, ct_body(on_grid), valid, volume)
        return Aligned(on_grid, geometry.like(valid, mr, np.uint8), before, after)
    import itk

    # intensities: a T1's fat is bright and a CT's is dark, mutual information does not mind; air is made even
    top = float(np.percentile(mr_array[body], 99.5))
    fixed = geometry.like(np.clip(mr_array, 0, top) / top * 1000, mr)
    moving = sitk.Clamp(clipped, sitk.sitkFloat32, -300, 1200)
    # elastix stays off the air far from the skin: it says nothing about the inside
    near = ndimage.binary_dilation(body, np.hypot(*np.ogrid[-8:9, -8:9])[None] <= 8) & fov
    fixed_itk = to_itk(fixed)
    result, transform = itk.elastix_registration_method(
        fixed_itk,
        to_itk(moving),
        parameter_object=_maps(kind, iterations, grid_mm, bending),
        fixed_mask=to_itk(geometry.like(near, mr, np.uint8), np.uint8),
        log_to_console=False,
    )
    warped = itk.array_from_image(itk.transformix_filter(to_itk(clipped), transform))
    for index in range(transform.GetNumberOfParameterMaps()):
        transform.SetParameter(index, "DefaultPixelValue", "0")
    inside = itk.array_from_image(
        itk.transformix_filter(to_itk(geometry.like(np.ones(ct.GetSize()[::-1]), ct)), transform)
    )
    with tempfile.TemporaryDirectory() as folder:  # transformix also writes the field as a file
        field = itk.array_from_image(itk.transformix_deformation_field(fixed_itk, transform, output_directory=folder))
    determinant = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(_vector(field, mr)))
    valid = (inside > 0.99) & fov
    warped_image = geometry.like(warped, mr)
    after = score(mr_array, warped, body, ct_body(warped_image), valid, volume)
    after.folding = float((determinant[body] <= 0).mean())
    after.shift_mm = float(np.linalg.norm(field, axis=-1)[body].mean())
    return Aligned(warped_image, geometry.like(valid, mr, np.uint8), before, after)


def _vector(field: np.ndarray, grid: sitk.Image) -> sitk.Image:
    image = sitk.GetImageFromArray(field.astype(np.float64), isVector=True)
    image.CopyInformation(grid)
    return image
