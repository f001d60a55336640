"""Warping, points and files of deformations against SimpleITK, with any spacing and direction."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from make_field import OBLIQUE, blob, gap_to_face, grids, make_grid, points_of, smooth_field, transform_of
from scipy import ndimage

from rtuncertainty import deformation as D
from rtuncertainty.core import geometry
from rtuncertainty.core.errors import InputError


@settings(max_examples=30, deadline=None)
@given(grids(), st.integers(0, 99))
def test_voxels_and_millimetres(grid, seed):
    field = smooth_field(grid, 8.0, seed)
    voxels = D.to_voxels(field)
    assert voxels.shape == (1, 3, *grid.GetSize()[::-1]) and voxels.dtype == torch.float32
    index = (5, 3, 6)
    moved = np.array(index) + voxels[0, :, 6, 3, 5].numpy().astype(float)
    expected = np.array(grid.TransformIndexToPhysicalPoint(index)) + field[index]
    assert np.allclose(grid.TransformContinuousIndexToPhysicalPoint(moved.tolist()), expected, atol=1e-4)
    back = D.from_voxels(voxels, grid)
    assert geometry.same_grid(back, field) and np.allclose(
        sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(field), atol=1e-5
    )


@settings(max_examples=40, deadline=None)
@given(grids(), grids(), st.integers(0, 99))
def test_warping_is_simpleitks(fixed, moving, seed):
    field, image = smooth_field(fixed, 6.0, seed), blob(moving, seed)
    found = D.warp_image(image, field, outside=-1000)
    expected = sitk.Resample(image, fixed, transform_of(field), sitk.sitkLinear, -1000.0)
    assert geometry.same_grid(found, fixed) and found.GetPixelID() == sitk.sitkFloat32
    sure = gap_to_face(moving, points_of(fixed) + sitk.GetArrayFromImage(field)) > 5e-3
    a, b = sitk.GetArrayFromImage(found)[sure], sitk.GetArrayFromImage(expected)[sure]
    assume(np.mean(b > -1000) > 0.1)
    assert np.allclose(a, b, atol=0.05)


def test_a_displacement_pulls():
    """out[i] = image[i + d]: towards larger x is a move of the picture towards smaller x."""
    grid = make_grid(spacing=(2.0, 1.5, 3.0))
    image = blob(grid)
    array = np.zeros((12, 13, 14, 3))
    array[..., 0] = 4.0  # mm, two voxels
    warped = sitk.GetArrayFromImage(D.warp_image(image, D.field_from_array(array, grid), outside=7.0))
    old = sitk.GetArrayFromImage(image)
    assert np.allclose(warped[..., :-2], old[..., 2:], atol=1e-3) and np.all(warped[..., -2:] == 7.0)
    shift = torch.zeros(1, 3, 12, 13, 14)
    shift[:, 1] = 3  # y
    warped = D.warp_tensor(torch.from_numpy(old)[None, None], shift)[0, 0]
    assert np.allclose(warped[:, :-3], old[:, 3:], atol=1e-3)
    assert np.allclose(warped[:, -3:], old[:, -1:], atol=1e-3)  # the nearest goes on
    assert torch.allclose(
        D.warp_tensor(torch.from_numpy(old)[None, None], 0 * shift)[0, 0], torch.from_numpy(old), atol=1e-3
    )


def test_long_images_are_warped_in_slabs_alike(monkeypatch):
    from rtuncertainty.deformation import warp

    field, image = smooth_field(make_grid(direction=OBLIQUE), 6.0), blob(make_grid(direction=OBLIQUE))
    whole = D.warp_image(image, field)
    monkeypatch.setattr(warp, "SLAB", 14 * 13 * 5)
    assert np.allclose(sitk.GetArrayFromImage(D.warp_image(image, field)), sitk.GetArrayFromImage(whole), atol=1e-2)


def test_sampling_is_scipys_and_has_gradients():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 5, 6, 7, dtype=torch.float64, generator=generator)
    places = 9 * torch.rand(2, 3, 4, 4, 4, dtype=torch.float64, generator=generator) - 1.5
    found = D.sample_tensor(image, places)
    for n in range(2):
        expected = [
            ndimage.map_coordinates(c.numpy(), places[n].flip(0).numpy(), order=1, mode="nearest") for c in image[n]
        ]
        assert np.allclose(found[n], expected)
    small, d = image[:1, :1].requires_grad_(), (0.3 + 0.2 * places[:1]).requires_grad_()
    assert torch.autograd.gradcheck(lambda i, v: D.warp_tensor(i, v, outside=0.0), (small, d), atol=1e-4)
    # one displacement serves a batch of images, and one image many displacements
    assert torch.allclose(D.warp_tensor(image, d)[1], D.warp_tensor(image[1:], d)[0])
    assert torch.allclose(D.warp_tensor(image[:1], places)[1], D.warp_tensor(image[:1], places[1:])[0])
    # displacements of 16 bits are not added up in 16 bits
    half = torch.full((1, 3, 1, 1, 200), 0.25, dtype=torch.bfloat16)
    ramp = torch.arange(200.0).expand(1, 1, 1, 1, 200)
    assert torch.allclose(D.warp_tensor(ramp, half)[..., :-1], (ramp + 0.25)[..., :-1], atol=1e-3)


def test_tensors_are_warped_as_monai_warps_them():
    blocks = pytest.importorskip("monai.networks.blocks")
    image, d = torch.rand(2, 3, 7, 8, 9), 6 * torch.rand(2, 3, 7, 8, 9) - 3
    # MONAI's components are in the order of the axes z, y, x
    assert torch.allclose(D.warp_tensor(image, d), blocks.Warp("bilinear", "border")(image, d.flip(1)), atol=1e-4)


def test_a_level_is_warped_with_what_lies_around_it():
    """With crop and stride, a displacement in a level's voxels looks into the whole input of the network."""
    from rtuncertainty.networks.elmahdy2021 import LEVELS, crop_to_level

    image = torch.rand(1, 2, 52, 52, 52, dtype=torch.float64)
    for level, (crop, stride) in enumerate(LEVELS):
        truth = crop_to_level(image, level)
        still = torch.zeros(1, 3, *truth.shape[2:], dtype=torch.float64)
        assert torch.allclose(D.warp_tensor(image, still, None, crop, stride), truth)
        still[:, 0] = 2
        moved = D.warp_tensor(image, still, None, crop, stride)
        inner = slice(crop, -crop, stride)
        assert torch.allclose(moved, image[:, :, inner, inner, crop + 2 * stride : 52 - crop + 2 * stride : stride])
        # inside it is the warped crop
        assert torch.allclose(moved[..., :-2], D.warp_tensor(truth, still)[..., :-2])


@settings(max_examples=20, deadline=None)
@given(grids(), st.integers(0, 99))
def test_points_are_carried_as_simpleitk_carries_them(grid, seed):
    field = smooth_field(grid, 5.0, seed)
    rng = np.random.default_rng(seed)
    points = [
        grid.TransformContinuousIndexToPhysicalPoint(p)
        for p in rng.uniform(-0.49, np.array(grid.GetSize()) - 0.51, (20, 3)).tolist()
    ]
    expected = np.array([transform_of(field).TransformPoint(p) for p in points])
    assert np.allclose(D.transform_points(field, points), expected, atol=1e-9)


def test_files_are_written_without_torch(tmp_path):
    """Slicer may have no torch, and loads it only when it is used."""
    code = (
        "import sys, SimpleITK as sitk\nfrom rtuncertainty import deformation as D\n"
        "field = D.zero_field(sitk.Image([4, 4, 4], sitk.sitkUInt8))\n"
        "D.read_transform(D.write_transform(field, sys.argv[1], sitk.Euler3DTransform()))\nassert 'torch' not in "
        "sys.modules"
    )
    folder = str(Path(D.__file__).resolve().parents[2])
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "transform.h5")],
        check=True,
        env={**os.environ, "PYTHONPATH": folder},
    )


def test_what_is_no_field_is_refused():
    grid = make_grid()
    with pytest.raises(InputError, match="3 dimensions and 1 components"):
        D.require_field(grid)
    array = np.zeros((12, 13, 14, 3))
    array[0, 0, 0, 1] = np.nan
    with pytest.raises(InputError, match="NaN"):
        D.to_voxels(D.field_from_array(array, grid))
    with pytest.raises(ValueError, match="does not fit a grid"):
        D.from_voxels(torch.zeros(1, 3, 4, 4, 4), grid)
    single = sitk.Cast(smooth_field(grid, 3.0), sitk.sitkVectorFloat32)
    assert D.require_field(single).GetPixelID() == sitk.sitkVectorFloat64
    with pytest.raises(AttributeError, match="warp_imgae"):
        getattr(D, "warp_imgae")  # noqa: B009 (by name, as a user would)
    assert all(callable(getattr(D, name)) for name in D.__all__)


def test_transform_files_come_back(tmp_path):
    grid = make_grid(direction=OBLIQUE)
    field = smooth_field(grid, 6.0)
    path = D.write_transform(field, tmp_path / "new" / "transform.h5")
    assert [p.name for p in path.parent.iterdir()] == ["transform.h5"]
    back = D.read_transform(path)
    assert geometry.same_grid(back, field) and np.array_equal(
        sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(field)
    )
    theirs, point = sitk.ReadTransform(str(path)), grid.TransformContinuousIndexToPhysicalPoint((4.3, 5.1, 6.6))
    assert np.allclose(theirs.TransformPoint(point), transform_of(field).TransformPoint(point))
    other = make_grid((5, 5, 5), (2, 2, 2), origin=grid.TransformIndexToPhysicalPoint((5, 5, 5)))
    assert np.allclose(
        sitk.GetArrayFromImage(D.read_transform(path, other)), sitk.GetArrayFromImage(D.resample_field(field, other))
    )
    rigid = sitk.Euler3DTransform((0, 0, 0), 0.1, 0, 0, (1, 2, 3))
    D.write_transform(field, path, rigid)  # over the old one
    assert np.allclose(
        sitk.GetArrayFromImage(D.read_transform(path)), sitk.GetArrayFromImage(D.after_rigid(field, rigid))
    )


def test_transform_files_that_cannot_be_used_are_told(tmp_path):
    grid = make_grid()
    field = D.zero_field(grid)
    with pytest.raises(InputError, match="written as an .h5 file"):
        D.write_transform(field, tmp_path / "transform.tfm")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        D.write_transform(field, tmp_path / "file" / "transform.h5")
    with pytest.raises(InputError, match="does not exist"):
        D.read_transform(tmp_path / "none.h5")
    (tmp_path / "broken.h5").write_text("no transform", encoding="utf-8")
    with pytest.raises(InputError, match="broken.h5 cannot be read"):
        D.read_transform(tmp_path / "broken.h5")
    rigid = sitk.Euler3DTransform((0, 0, 0), 0.1, 0, 0, (1, 2, 3))
    sitk.WriteTransform(rigid, str(tmp_path / "rigid.tfm"))
    with pytest.raises(InputError, match="Euler3DTransform, not one displacement field"):
        D.read_transform(tmp_path / "rigid.tfm")
    found = D.read_transform(tmp_path / "rigid.tfm", grid)
    assert np.allclose(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(D.after_rigid(field, rigid)))
