"""elastix on a pair of scans: normalised correlation and a B-spline, as the papers' conventional method (Elmahdy
2021, Sec. IV).
"""

from __future__ import annotations

import tempfile

import numpy as np
import torch

from rtuncertainty.core.ct import WINDOW

from ..data.pair_case import PairCase

# as Qiao 2015 for daily CT of the pelvis, but for the final spacing, which is that of head and neck in elastix' model
# zoo
SETTINGS = {
    "Registration": ["MultiMetricMultiResolutionRegistration"],
    "Metric": ["AdvancedNormalizedCorrelation", "TransformBendingEnergyPenalty"],
    "Metric0Weight": ["1.0"],
    "Metric1Weight": ["1.0"],
    "NumberOfResolutions": ["3"],
    "MaximumNumberOfIterations": ["500"],
    "FinalGridSpacingInPhysicalUnits": ["16.0"] * 3,
    "GridSpacingSchedule": ["4.0", "2.0", "1.0"],
    "ImageSampler": ["RandomCoordinate"],
    "NumberOfSpatialSamples": ["4000"],
    "NewSamplesEveryIteration": ["true"],
    "RandomSeed": ["121212"],
    "AutomaticParameterEstimation": ["true"],
    "Interpolator": ["LinearInterpolator"],
    "WriteResultImage": ["false"],
    "ErodeMask": ["false"],
    "RequiredRatioOfValidSamples": ["0.02"],
    "DefaultPixelValue": [str(WINDOW[0])],
    "FixedImagePyramid": ["FixedSmoothingImagePyramid"],
    "MovingImagePyramid": ["MovingSmoothingImagePyramid"],
    "ImagePyramidSchedule": ["4", "4", "4", "2", "2", "2", "1", "1", "1"],
}


def displacement(case: PairCase) -> torch.Tensor:
    """What elastix finds for a rigidly aligned pair (Elmahdy 2021, Sec. IV).

    Args:
        case: the pair.

    Returns:
        [3, z, y, x], voxels, daily to planning.
    """
    import itk

    def image(array, kind=np.float32):
        made = itk.image_from_array(np.ascontiguousarray(array.astype(kind)))
        made.SetSpacing(case.spacing)
        return made

    objects = itk.ParameterObject.New()
    spline = dict(objects.GetDefaultParameterMap("bspline"), **SETTINGS)
    chosen = itk.ParameterObject.New()
    chosen.AddParameterMap(spline)
    fixed = image(np.clip(case.daily, *WINDOW))
    _, transform = itk.elastix_registration_method(
        fixed,
        image(np.clip(case.planning, *WINDOW)),
        parameter_object=chosen,
        fixed_mask=image(case.body & case.known, np.uint8),
        log_to_console=False,
    )
    with tempfile.TemporaryDirectory() as folder:  # transformix also writes the field as a file
        field = itk.array_from_image(itk.transformix_deformation_field(fixed, transform, output_directory=folder))
    return torch.from_numpy(np.moveaxis(field / np.array(case.spacing), -1, 0).astype(np.float32))
