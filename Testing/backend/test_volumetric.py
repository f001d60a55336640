"""3-D networks that segment: tiles, samples, and `predict` with a model that makes no synthetic CT."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from make_bundle import make_bundle
from torch import nn

from rtuncertainty import networks, predict
from rtuncertainty.bundles import bundle
from rtuncertainty.core.errors import InputError
from rtuncertainty.core.events import Progress
from rtuncertainty.jobs import prediction as job
from rtuncertainty.sampling import inference, volumes

CPU = torch.device("cpu")


class Tiny(nn.Module):
    """Two convolutions with dropout on the features between; the class with the brightest voxels wins."""

    dimensions, margin, multiple, in_channels = 3, 2, 4, 1

    def __init__(self, classes=3, dropout=0.5):
        super().__init__()
        self.classes, self.dropout = classes, dropout
        self.trunk, self.head = nn.Conv3d(1, 8, 3, padding=1), nn.Conv3d(8, classes, 3, padding=1)

    def features(self, x):
        assert all(n % self.multiple == 0 for n in x.shape[2:])
        return self.trunk(x).relu()

    def draw(self, features, generator):
        if self.dropout:
            keep = torch.rand(features.shape[:2] + (1, 1, 1), generator=generator) > self.dropout
            features = features * keep / (1 - self.dropout)
        return self.head(features).softmax(1)

    def forward(self, x):
        return self.head(self.features(x))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(1)
    return Tiny().eval()


@pytest.fixture(scope="module")
def volume():
    return np.random.default_rng(0).standard_normal((19, 30, 23)).astype(np.float32)


def test_moments_are_those_of_the_samples(net, volume):
    x = torch.from_numpy(volume[:16, :28, :20])[None, None]
    found = volumes.sample([net], x, 12, seed=3)
    generator = torch.Generator().manual_seed(3)
    drawn = torch.stack([net.draw(net.features(x), generator) for _ in range(12)])
    doubt = -(drawn * drawn.log()).sum(2, keepdim=True).mean(0)
    assert torch.allclose(found, torch.cat([doubt, drawn.mean(0), drawn.var(0)], 1), atol=1e-6)


def test_without_dropout_there_is_one_sample_and_no_spread(volume):
    torch.manual_seed(0)
    steady, calls = Tiny(dropout=0.0).eval(), []
    x = torch.from_numpy(volume[:16, :28, :20])[None, None]
    found = volumes.sample([steady], x, 20, 0, lambda done, of: calls.append((done, of)))
    assert calls == [(1, 1)] and torch.allclose(found[:, 1:4], steady(x).softmax(1)) and not found[:, 4:].any()
    other = Tiny(dropout=0.0).eval()
    pair = volumes.sample([steady, other], x, 20, 0)
    assert torch.allclose(pair[:, 4:], torch.stack([steady(x).softmax(1), other(x).softmax(1)]).var(0), atol=1e-6)


def test_samples_are_dealt_to_the_checkpoints(volume):
    members = [Tiny().eval() for _ in range(3)]
    calls = []
    volumes.sample(members, torch.zeros(1, 1, 4, 4, 4), 7, 0, lambda done, of: calls.append((done, of)))
    assert calls[-1] == (7, 7) and len(calls) == 7
    with pytest.raises(ValueError):
        volumes.sample(members, torch.zeros(1, 1, 4, 4, 4), 0, 0)


def test_tiles_change_nothing_without_dropout(volume):
    """Inside the tiles' margins the network is the same; whole channels are dropped, so that is compared without."""
    torch.manual_seed(2)
    steady = Tiny(dropout=0.0).eval()
    whole = inference.run([steady], volume, 2, 0, CPU, Progress(), tiles=(64,))[0]
    tiled, _, tile = inference.run([steady], volume, 2, 0, CPU, Progress(), tiles=(12,))
    # what lies beyond the volume is padded up to `multiple`, and padding by the convolution itself differs from that
    inside = np.s_[:15, :, :24, :16]
    assert tile == 12 and torch.allclose(whole.probability[inside], tiled.probability[inside], atol=1e-5)
    assert whole.probability.shape == (19, 3, 30, 23) and whole.mean is None
    assert torch.allclose(tiled.probability.sum(1), torch.ones(19, 30, 23), atol=1e-5)


def test_same_seed_same_result_and_another_seed_another(net, volume):
    a, b, c = (inference.run([net], volume, 4, s, CPU, Progress())[0].probability_variance for s in (5, 5, 6))
    assert torch.equal(a, b) and not torch.equal(a, c)


def ct() -> sitk.Image:
    """A cylinder of water with a denser core, 3 mm voxels."""
    z, y, x = np.mgrid[:12, :40, :44]
    radius = np.hypot(y - 20, x - 22)
    hu = np.where(radius < 16, 0.0, -1000.0) + np.where((radius < 6) & (z > 2) & (z < 9), 300.0, 0.0)
    image = sitk.GetImageFromArray(hu.astype(np.float32))
    image.SetSpacing((3.0, 3.0, 3.0))
    return image


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A bundle that segments CT, without a synthetic CT in its card."""
    folder = make_bundle(tmp_path / "tiny-organs", name="tiny-organs")
    torch.manual_seed(1)
    torch.save({"checkpoints": [Tiny().state_dict()]}, folder / "weights.pt")
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    card["task"], card["architecture"] = "segmentation", {"name": "tiny", "arguments": {}}
    card["input"] |= {
        "modality": "CT",
        "sequence": "",
        "spacing_mm": [4.0, 4.0, 3.0],
        "normalisation": "HU from -500 to 1000",
    }
    del card["outputs"]["synct"]
    card["weights"]["sha256"] = bundle.sha256(folder / "weights.pt")
    (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")
    monkeypatch.setattr(networks, "build", lambda name, **arguments: Tiny(**arguments))
    return folder


def test_predict_segments_a_ct(model, tmp_path):
    sitk.WriteImage(ct(), str(tmp_path / "ct.nii.gz"))
    out = job.predict_to_folder(str(tmp_path / "ct.nii.gz"), model, tmp_path / "out", samples=5)
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert (
        "synct" not in summary["files"]
        and "predictive_sd" not in summary["files"]
        and summary["options"]["samples"] == 5
    )
    structures = sitk.ReadImage(str(out / "structures.seg.nrrd"))
    assert structures.GetSize() == (44, 40, 12) and structures.GetMetaData("Segment0_Name") == "bone"
    entropy = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "structures_entropy.nii.gz")))
    body = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "body.nii.gz"))) > 0
    assert entropy[body].min() > 0 and not entropy[~body].any() and body[5, 20, 22] and not body[5, 1, 1]
    with open(out / "volumes.csv", newline="", encoding="utf-8") as f:
        assert [row["structure"] for row in csv.DictReader(f)] == ["bone", "gtv"]


def test_a_reference_is_refused_and_an_mr_too(model):
    with pytest.raises(InputError, match="makes no synthetic CT"):
        predict(ct(), model, reference=ct())
    with pytest.raises(InputError, match="no CT in HU"):
        predict(ct() + 1000.0, model)


def test_another_normalisation_is_told(model):
    card = json.loads((model / "model.json").read_text(encoding="utf-8"))
    card["input"]["normalisation"] = "histogram matching"
    (model / "model.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(InputError, match="histogram matching"):
        predict(ct(), model, samples=2)


def test_an_image_scaled_as_a_whole_has_no_body(model):
    card = json.loads((model / "model.json").read_text(encoding="utf-8"))
    card["input"] |= {"normalisation": "z-score of the image", "modality": "MR", "spacing_mm": [3.0, 3.0, 3.0]}
    (model / "model.json").write_text(json.dumps(card), encoding="utf-8")
    found = predict(ct() + 1000.0, model, samples=2)
    assert sitk.GetArrayViewFromImage(found.body).all() and found.synct is None and not found.bias_field_corrected
