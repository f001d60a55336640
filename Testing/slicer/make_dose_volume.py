"""A dose in a scene, on a grid of its own: so many Gy a mm along one axis of the patient."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from RTUncertaintyLib.mrml.volumes import add_volume


def add_dose(
    scene,
    around,
    slope=(0.5, 0.0, 0.0),
    middle: float = 30.0,
    spacing: float = 3.0,
    margin: float = 15.0,
    name: str = "dose",
    scale: float = 1.0,
):
    """A dose volume around a volume node: `middle` Gy in its centre, `slope` Gy a mm along L, P, S (LPS); numbers
    are Gy times `scale`.
    """
    bounds = [0.0] * 6
    around.GetRASBounds(bounds)
    low, high = np.array(bounds[::2]) * (1, 1, 1), np.array(bounds[1::2])
    low, high = np.array([-high[0], -high[1], low[2]]) - margin, np.array([-low[0], -low[1], high[2]]) + margin
    size = np.ceil((high - low) / spacing).astype(int)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), -1)
    points = low + spacing * index
    values = middle + (points - (low + high) / 2) @ np.array(slope)
    image = sitk.GetImageFromArray((scale * np.clip(values, 0, None)).transpose(2, 1, 0).astype(np.float32))
    image.SetSpacing([spacing] * 3)
    image.SetOrigin(low.tolist())
    return add_volume(scene, image, name)
