"""Doses, shapes and a result folder for the tests of doses, all with known answers."""

import json
import math

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core import geometry


def grid(size, spacing, origin=(0.0, 0.0, 0.0), direction=None):
    image = sitk.Image([int(n) for n in size], sitk.sitkFloat32)
    image.SetSpacing([float(s) for s in spacing])
    image.SetOrigin([float(o) for o in origin])
    if direction is not None:
        image.SetDirection([float(d) for d in np.ravel(direction)])
    return image


def places(image):
    """LPS of every voxel, [z, y, x, 3]."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in image.GetSize()], indexing="ij"), -1)
    matrix = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    return (index @ matrix.T + image.GetOrigin()).transpose(2, 1, 0, 3)


def linear_dose(image, slope=(0.0, 0.0, 1.0), at=30.0):
    return geometry.like(at + places(image) @ np.array(slope), image)


def turned(angle, axis=2):
    c, s = math.cos(angle), math.sin(angle)
    return np.roll(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), (axis - 2, axis - 2), (0, 1))


def circle(z, radius, centre=(0.0, 0.0), points=180, reverse=False):
    a = np.linspace(0, 2 * np.pi, points, endpoint=False)[:: -1 if reverse else 1]
    # the polygon has the area of the circle
    r = radius * math.sqrt(2 * math.pi / (points * math.sin(2 * math.pi / points)))
    return np.stack([centre[0] + r * np.cos(a), centre[1] + r * np.sin(a), np.full(points, z)], 1)


def sphere_contours(radius, step):
    return [circle(z, math.sqrt(radius**2 - z * z)) for z in np.arange(-radius + step / 2, radius, step)]


def square(z, low, high, x0=0.0):
    return np.array([[x0 + low, low, z], [x0 + high, low, z], [x0 + high, high, z], [x0 + low, high, z]], float)


def result_folder(folder, percentiles=None, calibrated=None):
    """A result with one structure, "ball": its surface's radius is N(10, 1) mm around the origin."""
    from scipy.special import ndtr

    fine = grid((36, 36, 36), (0.8,) * 3, (-14, -14, -14))
    radius = np.sqrt((places(fine) ** 2).sum(-1))
    inside = np.ceil(100 * ndtr(10 - radius)).astype(np.uint8)
    inside[radius > 14] = 0
    folder.mkdir()
    sitk.WriteImage(geometry.like(inside, fine, np.uint8), str(folder / "inside_ball.nii.gz"))
    files = {"inside": {"ball": "inside_ball.nii.gz"}}
    if percentiles is not None:
        files["volume_distribution"] = "volume_distribution.csv"
        rows = ["structure,percentile,volume_ml,calibrated_ml"]
        rows += [
            f"ball,{q:g},{v:.4f},{'' if c is None else f'{c:.4f}'}"
            for q, v, c in zip(percentiles, ball(percentiles), calibrated)
        ]
        (folder / "volume_distribution.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "summary.json").write_text(json.dumps({"files": files}), encoding="utf-8")
    return folder


def ball(percentiles, sd=1.0):
    from scipy.special import ndtri

    return 4 / 3 * math.pi * (10 + sd * ndtri(np.array(percentiles) / 100)) ** 3 / 1000
