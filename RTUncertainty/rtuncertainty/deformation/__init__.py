"""Deformations: warping, composition, Jacobian and files. All conventions are ITK's and stand here.

Field. A displacement field d is a `SimpleITK.Image` of three 64-bit components (x, y, z) in mm, in LPS space whatever
the direction of its grid. It lives on the grid of the fixed image (the daily CT) and pulls: moving point = fixed point
+ d(fixed point), so that `warp_image(planning, d)` brings the planning CT onto the daily grid. elastix and
`SimpleITK.DisplacementFieldTransform` mean the same.

Between the centres of voxels fields are interpolated linearly. Beyond its grid a field is continued by its outermost
values, as 3D Slicer does; ITK takes a displacement of zero there, which tears the deformation at the faces of the grid.

Tensor. Inside, and for training and optimisation, a displacement is a tensor [n, 3, z, y, x] in voxels along the axes
of its own grid, components in the order x, y, z (x is the last axis). `to_voxels` and `from_voxels` convert, with the
direction of the grid. Functions on tensors end in `_tensor`; they are differentiable and run on the device of the
tensor. On GPUs torch's gradient with respect to a warped image (not to the displacement) adds up in no fixed order.

Names are loaded when they are used, so that importing this package does not import torch.
"""

from __future__ import annotations

from ..core import lazy

__all__, __getattr__, __dir__ = lazy.exports(
    __name__,
    {
        "after_rigid": "field",
        "field_from_array": "field",
        "from_voxels": "field",
        "require_field": "field",
        "to_voxels": "field",
        "zero_field": "field",
        "sample_tensor": "warp",
        "warp_image": "warp",
        "warp_tensor": "warp",
        "compose_fields": "compose",
        "compose_tensor": "compose",
        "resample_field": "compose",
        "JacobianStatistics": "jacobian",
        "jacobian_determinant": "jacobian",
        "jacobian_statistics": "jacobian",
        "jacobian_tensor": "jacobian",
        "transform_points": "warp",
        "read_transform": "transform_file",
        "write_transform": "transform_file",
    },
)
