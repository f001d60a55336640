"""PSNR and SSIM as the SynthRAD challenges take them, so that figures here stand beside published ones.

Followed are the challenges' own evaluation scripts: SynthRAD2023 (github.com/SynthRAD2023/metrics, image_metrics.py)
and SynthRAD2025 (github.com/SynthRAD2025/evaluation, image_metrics.py). Both clip the images to a fixed range, take
the width of that range as the dynamic range, and average inside the mask of the body. Arrays are [z, y, x] in HU.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from rtuncertainty.uncertainty import metrics

# the HU that images are clipped to
RANGE_2023 = (-1024.0, 3000.0)
RANGE_2025 = (-1024.0, 3071.0)
WINDOW = 7
BORDER = WINDOW // 2
# exponents of the five scales (Wang 2003)
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# the smallest edge for which WINDOW still fits the fifth scale
SMALLEST_EDGE = (WINDOW - 1) * 2 ** (len(SCALES) - 1) + 1


def psnr(synct: np.ndarray, ct: np.ndarray, mask: np.ndarray, hu_range=RANGE_2023) -> float:
    """Peak signal-to-noise ratio inside a mask (SynthRAD2023).

    Args:
        synct: HU [z, y, x].
        ct: HU [z, y, x].
        mask: bool [z, y, x].
        hu_range: to which both images are clipped.

    Returns:
        dB; infinite where they are equal.
    """
    return metrics.psnr(np.clip(synct, *hu_range), np.clip(ct, *hu_range), mask, hu_range[1] - hu_range[0])


def ssim(synct: np.ndarray, ct: np.ndarray, mask: np.ndarray, hu_range=RANGE_2023) -> float:
    """Structural similarity inside a mask (SynthRAD2023).

    The images are clipped, set to the lowest HU outside the mask and shifted to begin at 0; then come means and sample
    (co)variances in cubes of 7³ voxels, K1 = 0.01 and K2 = 0.03 (the defaults of scikit-image), and the mean over those
    voxels of the mask that lie 3 or more from the image's faces.

    Args:
        synct: HU [z, y, x].
        ct: HU [z, y, x].
        mask: bool [z, y, x].
        hu_range: to which both images are clipped.

    Returns:
        −1 to 1; NaN where there are no such voxels, as in a scan of six slices.
    """
    near = ndimage.find_objects(mask.astype(np.uint8))
    if not near or min(mask.shape) < WINDOW:
        return math.nan
    # voxels further than a window from the mask have no say
    box = tuple(slice(max(0, s.start - BORDER), s.stop + BORDER) for s in near[0])
    inner = np.zeros(mask.shape, bool)
    inner[(slice(BORDER, -BORDER),) * 3] = mask[(slice(BORDER, -BORDER),) * 3]
    if not inner.any():
        return math.nan
    x, y = (_shifted(image, mask, hu_range)[box] for image in (synct, ct))
    luminance, contrast, structure = _components(x, y, hu_range[1] - hu_range[0])
    return float((luminance * contrast * structure)[inner[box]].mean())


def ms_ssim(synct: np.ndarray, ct: np.ndarray, mask: np.ndarray, hu_range=RANGE_2025) -> float:
    """Multi-scale structural similarity inside a mask (SynthRAD2025).

    As `ssim`, at five scales: luminance, contrast and structure, each no lower than 0 and raised to the scale's
    exponent, are averaged inside the mask, and the scales' averages multiplied. (The original of Wang 2003 has the
    luminance at the last scale only; the challenge's script has it at all.) Each scale halves the one before: means of
    2³ voxels, and every other voxel of the mask. Edges below 97 voxels are padded with copies of the outermost voxels.

    Args:
        synct: HU [z, y, x].
        ct: HU [z, y, x].
        mask: bool [z, y, x].
        hu_range: to which both images are clipped.

    Returns:
        0 to 1; NaN where no voxel of the mask is left at a scale.
    """
    short = [max(0, SMALLEST_EDGE - n) for n in mask.shape]
    around = [(n // 2, n - n // 2) for n in short]
    x, y = (np.pad(_shifted(image, mask, hu_range), around, mode="edge") for image in (synct, ct))
    mask = np.pad(mask, around, mode="edge")
    inner, value = (slice(BORDER, -BORDER),) * 3, 1.0
    for exponent in SCALES:
        if not mask[inner].any():
            return math.nan
        parts = [part[inner][mask[inner]] for part in _components(x, y, hu_range[1] - hu_range[0])]
        similarity = np.prod([np.clip(part, 0, None) for part in parts], axis=0) ** exponent
        value *= float(np.clip(similarity.mean(), 0, 1))
        x, y = (ndimage.uniform_filter(image, 2, mode="constant")[::2, ::2, ::2] for image in (x, y))
        mask = mask[::2, ::2, ::2]
    return value


def _shifted(image, mask, hu_range):
    """The image as float64 from 0 on: clipped, and the lowest value outside the mask."""
    return np.where(mask, np.clip(image.astype(np.float64), *hu_range) - hu_range[0], 0.0)


def _components(x, y, data_range):
    """Luminance, contrast and structure of SSIM at every voxel; their product is SSIM itself (C3 = C2 / 2)."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    sample = WINDOW**3 / (WINDOW**3 - 1)

    def mean(image):
        return ndimage.uniform_filter(image, WINDOW)

    mx, my = mean(x), mean(y)
    # differences of large numbers: what should be zero may come out a little below
    vx, vy = (np.clip(sample * (mean(i * i) - m * m), 0, None) for i, m in ((x, mx), (y, my)))
    vxy, sds = sample * (mean(x * y) - mx * my), np.sqrt(vx * vy)
    return (
        (2 * mx * my + c1) / (mx * mx + my * my + c1),
        (2 * sds + c2) / (vx + vy + c2),
        (vxy + c2 / 2) / (sds + c2 / 2),
    )
