"""Single samples: one mask for the whole volume, the variance of the maps, and what a result keeps of them."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from make_bundle import make_bundle
from scipy import ndimage

from rtuncertainty import networks, predict
from rtuncertainty.bundles import bundle as bundles
from rtuncertainty.core import structure_set
from rtuncertainty.core.errors import InputError
from rtuncertainty.core.events import Progress
from rtuncertainty.jobs.prediction import predict_to_folder
from rtuncertainty.prediction.kept_samples import variances
from rtuncertainty.results import Result
from rtuncertainty.sampling import inference, whole

CPU = torch.device("cpu")
NETWORKS = {
    "m4": {"classes": 3, "width": 4, "features": 12, "branch_width": 6},
    "m2b": {"classes": 0, "width": 4, "features": 12},
    "3tn": {"filters": 4},
    "hr_drop_last": {"in_channels": 1, "classes": 3, "width": 4, "features": 12},
    "vnet": {"classes": 2, "width": 2, "levels": 2},
}


def steady(name):
    torch.manual_seed(3)
    network = networks.build(name, **NETWORKS[name])
    solid = getattr(network, "dimensions", 2) == 3
    for _ in range(3):
        network.train()(torch.randn(2, 1, *([16] * (3 if solid else 2))))
    return network.eval(), solid


def drawn(network, volume, count, tile, seed=0):
    out = np.zeros((count, 1 + network.classes, *volume.shape), np.float32)
    whole.draw([network], volume, out, seed, CPU, tile, Progress())
    return out


@pytest.mark.parametrize("name", ["m4", "m2b", "3tn", "hr_drop_last"])
def test_a_sample_is_one_whatever_the_tiles(name):
    network, solid = steady(name)
    shape = (4, 16, 24) if solid else (2, 20, 30)
    volume = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    one, tiled = (drawn(network, volume, 2, tile) for tile in (100, 18))
    assert np.allclose(one, tiled, atol=2e-4) and np.abs(one[0] - one[1]).max() > 0.01
    assert not np.array_equal(one, drawn(network, volume, 2, 100, seed=1))


def test_tiles_of_a_network_that_drops_channels_share_them():
    """Its strides make tiles differ by themselves; a single voxel's noise apart, it is the same sample."""
    network, _ = steady("vnet")
    volume = np.random.default_rng(0).standard_normal((4, 16, 24)).astype(np.float32)
    one, tiled = (drawn(network, volume, 6, tile)[:, 1].mean((1, 2, 3)) for tile in (100, 18))
    assert np.corrcoef(one, tiled)[0, 1] > 0.95


@pytest.mark.parametrize("name", ["m4", "3tn"])
def test_slices_share_the_mask(name):
    """Where all slices are alike, so is the sample in all of them, and differs from the next sample."""
    volume = np.repeat(np.random.default_rng(0).standard_normal((1, 20, 24)).astype(np.float32), 3, 0)
    out = drawn(steady(name)[0], volume, 2, 100)
    assert np.allclose(out, out[:, :, :1], atol=1e-5) and not np.allclose(out[0], out[1], atol=1e-3)


@pytest.mark.parametrize("name", ["m4", "hr_drop_last"])
def test_in_every_voxel_samples_are_as_the_moments_say(name):
    network, solid = steady(name)
    volume = np.random.default_rng(0).standard_normal((2, 12, 12) if solid else (1, 24, 24)).astype(np.float32)
    known = inference.run([network], volume, 120, 0, CPU, Progress())[0]
    out = drawn(network, volume, 120, 100, seed=5)
    p = out[:, 1:]
    if not solid:
        assert out[:, 0].mean() == pytest.approx(float(known.mean.mean()), abs=0.05)
        assert out[:, 0].var(0).mean() == pytest.approx(float(known.parameter.mean()), rel=0.2)
    assert p.var(0).mean() == pytest.approx(float(known.probability_variance.mean()), rel=0.2)


def test_checkpoints_take_turns():
    both = [steady("m4")[0], networks.build("m1", classes=3, width=4, features=8).eval()]
    both[1].outputs = ("logits",)
    volume = np.random.default_rng(0).standard_normal((2, 30, 30)).astype(np.float32)
    out = np.zeros((4, 4, *volume.shape), np.float32)
    whole.draw(both, volume, out, 0, CPU, 100, Progress())
    assert np.array_equal(out[1], out[3]) and not np.array_equal(out[0], out[2])  # m1 has no dropout


@pytest.fixture(scope="module")
def mr():
    z, y, x = np.indices((6, 40, 44))
    r = np.hypot(y - 20, x - 22)
    values = np.select([r < 6, r < 8, r < 18, r < 20], [800, 40, 350, 900], 0)
    spread = np.random.default_rng(0).standard_normal((2, *r.shape)) * 12
    image = sitk.GetImageFromArray((np.hypot(values + spread[0], spread[1]) + 1).astype(np.float32))
    image.SetSpacing((2.0, 2.0, 4.0))
    return image


def test_samples_spread_as_the_map_says(tmp_path, mr):
    """Mean square of sample − synthetic CT over the predictive variance: in the body, at its edge, in air."""
    card = {"calibration": {"synct": {"recalibration": {
        "knots_hu": [-1000, 0, 1000], "scale": [2.0, 1.5, 1.0], "residual_hu": [30, 20, 60], "interval_factors": {}
    }}, "volumes": None}}  # fmt: skip
    found = predict(mr, make_bundle(tmp_path / "m", **card), samples=20, bias_field="off", keep_samples=40)
    synct, sd = (sitk.GetArrayFromImage(i).astype(float) for i in (found.synct, found.predictive_sd))
    square = np.mean([(sitk.GetArrayFromImage(s["sample_synct"]) - synct) ** 2 for s in found.samples], 0)
    inside, certain = sitk.GetArrayFromImage(found.body) > 0, sd == 0
    deep = ndimage.binary_erosion(inside, np.ones((1, 9, 9)))  # 8 mm: no edge
    assert not square[certain].any() and certain.any()
    assert square[deep].mean() == pytest.approx((sd[deep] ** 2).mean(), rel=0.15)
    rim = ~inside & (sd > 100)
    assert square[rim].mean() == pytest.approx((sd[rim] ** 2).mean(), rel=0.15)
    parts = [sitk.GetArrayFromImage(getattr(found, f"{k}_variance")["bone"]) for k in ("intrinsic", "parameter")]
    p = sitk.GetArrayFromImage(found.probabilities["bone"])
    assert np.allclose(sum(parts), p * (1 - p), atol=1e-6) and min(v.min() for v in parts) >= 0


def test_variances_are_those_of_the_samples():
    """Kwon 2020, eq. 4, by hand: mean of p − p², and mean of p² − mean²."""
    p = np.random.default_rng(0).uniform(0, 1, (50, 7))
    intrinsic, parameter = variances(p.mean(0), p.var(0))
    assert np.allclose(intrinsic, (p - p**2).mean(0)) and np.allclose(parameter, (p**2).mean(0) - p.mean(0) ** 2)


def test_a_result_keeps_them(tmp_path, mr):
    bundle, file = make_bundle(tmp_path / "m"), tmp_path / "mr.nrrd"
    sitk.WriteImage(mr, str(file))
    plain = Result.read(predict_to_folder(file, bundle, tmp_path / "plain", samples=4, bias_field="off"))
    folder = predict_to_folder(file, bundle, tmp_path / "kept", samples=4, bias_field="off", keep_samples=3)
    found = Result.read(folder)
    found.require_files()
    assert found.samples == 3 and plain.samples == 0 and {p.parent for p in folder.rglob("*")} == {folder}
    assert (
        list(found.summary["files"]["sample_synct"]) == ["1", "2", "3"]
        and found.summary["options"]["keep_samples"] == 3
    )
    first, second = (sitk.GetArrayFromImage(found.image("sample_synct", n)) for n in "12")
    assert first.dtype == np.int16 and (first != second).any() and first.min() >= -1024
    assert list(found.structures("sample_structures", "2")) == ["bone", "gtv"]
    assert found.of_structures("intrinsic_variance") == found.of_structures("parameter_variance") == ["bone", "gtv"]
    # what a result without samples says is the same
    for key in ("synct", "predictive_sd"):
        assert np.array_equal(*(sitk.GetArrayFromImage(r.image(key)) for r in (plain, found)))
    predict_to_folder(file, bundle, tmp_path / "kept", samples=4, bias_field="off")
    assert not list(folder.glob("sample_*")) and Result.read(folder).samples == 0
    with pytest.raises(InputError, match="cannot be kept"):
        predict(mr, bundle, keep_samples=-1)


def two_sequences(folder):
    """A 3-D network of two MR sequences and a tumour with a part, on voxels that it takes as they are."""
    torch.manual_seed(3)
    made = networks.build("hr_drop_last", **NETWORKS["hr_drop_last"] | {"in_channels": 2}).train()
    for _ in range(3):
        made(torch.randn(2, 2, 16, 16, 16))
    make_bundle(folder, dropout={"p": 0.5, "where": "last layer of the trunk"})
    torch.save({"checkpoints": [made.state_dict()] * 2}, folder / "weights.pt")
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    card["architecture"] = {"name": "hr_drop_last", "arguments": NETWORKS["hr_drop_last"] | {"in_channels": 2}}
    card["input"] |= {"channels": ["t1", "t2"], "spacing_mm": [4.0, 4.0, 4.0], "bias_field": "off"}
    card["outputs"]["structures"][0]["holds"] = [2]
    del card["outputs"]["synct"]
    card |= {"task": "segmentation", "checkpoints": 2}
    card["weights"]["sha256"] = bundles.sha256(folder / "weights.pt")
    (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def test_samples_of_several_images_and_of_parts_in_what_holds_them(tmp_path):
    rng, images = np.random.default_rng(0), {}
    inside = np.hypot(*np.meshgrid(np.arange(16) - 8, np.arange(16) - 8, indexing="ij")) < 6
    for name in ("t1", "t2"):
        image = sitk.GetImageFromArray((inside * (100 + 30 * rng.standard_normal((10, 16, 16)))).astype(np.float32))
        image.SetSpacing((4.0, 4.0, 4.0))
        images[name] = image
    model = two_sequences(tmp_path / "m")
    found = predict(images, model, samples=4, bias_field="off", keep_samples=2)
    tumour, part = (sitk.GetArrayFromImage(found.probabilities[n]) for n in ("bone", "gtv"))
    assert (tumour >= part - 1e-5).all() and part.any() and found.options["samples"] == 4
    for sample in found.samples:
        file = str(tmp_path / "sample.seg.nrrd")
        sitk.WriteImage(sample["sample_structures"], file)
        masks = {n: sitk.GetArrayFromImage(m.mask) > 0 for n, m in structure_set.read(file, empty=True).items()}
        assert masks["bone"].any() and not (masks["gtv"] & ~masks["bone"]).any()
    # the second image is seen
    other = predict(images | {"t2": images["t1"]}, model, samples=4, bias_field="off")
    assert not np.allclose(sitk.GetArrayFromImage(other.probabilities["bone"]), tumour)


def test_a_single_pass_of_two_checkpoints_keeps_no_samples(tmp_path):
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray((100 + 30 * rng.standard_normal((10, 16, 16))).astype(np.float32))
    image.SetSpacing((4.0, 4.0, 4.0))
    model = two_sequences(tmp_path / "m")
    once, again = (predict([image, image], model, samples=1, seed=s, bias_field="off") for s in (0, 9))
    assert once.options["samples"] == 1
    a, b = (sitk.GetArrayFromImage(p.probabilities["bone"]) for p in (once, again))
    assert np.array_equal(a, b)  # nothing is drawn
    with pytest.raises(InputError, match="single pass"):
        predict([image, image], model, samples=1, bias_field="off", keep_samples=2)
