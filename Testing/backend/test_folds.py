"""The checkpoints of several folds in `predict`: who draws how many samples, what is computed how often, moments."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from rtuncertainty import networks, predict
from rtuncertainty.bundles import bundle
from rtuncertainty.core.events import Progress
from rtuncertainty.sampling import folds, inference, slices
from rtuncertainty.uncertainty import volume_calibration

SMALL = {
    "m4": {"classes": 3, "width": 4, "features": 8, "branch_width": 4},
    "vnet": {"classes": 3, "width": 2, "levels": 2, "dropout": 0.25},
}
CPU = torch.device("cpu")


def built(name, count):
    out = []
    for seed in range(count):
        torch.manual_seed(seed)
        out.append(networks.build(name, **SMALL[name]).eval())
    return out


def test_samples_are_dealt_evenly():
    assert folds.shares(built("m4", 4), 20) == [6, 6, 4, 4] and folds.shares(built("vnet", 4), 20) == [5] * 4
    # each has a say, and a spread
    assert folds.shares(built("vnet", 4), 4) == [2] * 4 and folds.shares(built("m4", 3), 2) == [2] * 3
    # but for a single pass of each
    assert folds.shares(built("vnet", 4), 1) == [1] * 4 and folds.shares(built("m4", 3), 1) == [1] * 3


def test_what_networks_give_besides_is_their_mean(monkeypatch):
    monkeypatch.setattr(folds, "bfloat16_is_fast", lambda device: False)
    members = [networks.build("mt_ctl", width=2, levels=2, decoders=["distance"]).eval() for _ in range(2)]
    volume = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    found = folds.run(members, volume, 1, 0, CPU, Progress())[0]
    each = [inference.run([m], volume, 1, 0, CPU, Progress())[0].further["distance"] for m in members]
    assert list(found.further) == ["distance"] and torch.allclose(found.further["distance"], sum(each) / 2)
    assert not torch.allclose(*each) and torch.allclose(
        found.probability_variance,
        torch.stack([inference.run([m], volume, 1, 0, CPU, Progress())[0].probability for m in members]).var(0),
        atol=1e-6,
    )


@pytest.mark.parametrize("name, before, behind", [("m4", "trunk", None), ("vnet", "features", "draw")])
def test_what_comes_before_dropout_is_computed_once_for_each(name, before, behind, monkeypatch):
    members, counts = built(name, 4), {"before": 0, "behind": 0}

    def counted(of, what, key):
        inner = getattr(of, what)

        def outer(*given, **more):
            counts[key] += 1
            return inner(*given, **more)

        if isinstance(inner, torch.nn.Module):
            inner.register_forward_hook(lambda *_: counts.update({key: counts[key] + 1}))
        else:
            monkeypatch.setattr(of, what, outer)

    for m in members:
        counted(m, before, "before")
        if behind:
            counted(m, behind, "behind")
    if not behind:
        finished = slices.Moments.add

        def add(self, a, b=None):
            counts["behind"] += b is not None  # what pools the checkpoints takes no pairs
            return finished(self, a, b)

        monkeypatch.setattr(slices.Moments, "add", add)
    volume = np.random.default_rng(0).normal(size=(4, 24, 24)).astype(np.float32)
    folds.run(members, volume, 20, 0, CPU, Progress())
    # K trunks, T samples; of M4 ten pairs of four outputs each
    assert counts == {"before": 4, "behind": 20 if behind else 40}


def test_a_trunk_in_bfloat16_gives_nearly_the_same():
    (network,) = built("m4", 1)
    x = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = network.trunk(x)
        with folds.in_bfloat16(network, CPU):
            found = network.trunk(x)
        again = network.trunk(x)
    assert found.dtype == torch.float32 and not torch.equal(found, exact) and torch.equal(again, exact)
    assert float((found - exact).abs().mean() / exact.abs().mean()) < 0.01


def test_a_volumetric_network_in_bfloat16_gives_nearly_the_same():
    (network,) = built("vnet", 1)
    x = torch.randn(1, 1, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    draws = []
    with torch.inference_mode():
        for context in (nullcontext(), folds.in_bfloat16(network, CPU), nullcontext()):
            with context:
                draws.append(network.draw(network.features(x), torch.Generator().manual_seed(1)))
    exact, found, again = draws
    assert found.dtype == torch.float32 and not torch.equal(found, exact) and torch.equal(again, exact)
    assert float((found - exact).abs().max()) < 0.02 and found.sum(1).numpy() == pytest.approx(1, abs=1e-3)


def test_moments_are_those_of_a_sample_of_any_checkpoint():
    """Against plain means and variances of many samples, and of checkpoints of a known difference."""
    rng, each = np.random.default_rng(1), []
    shift, n = np.array([-1.0, 0.0, 2.0]), 4
    for _ in range(4000):
        drawn = shift[:, None] + 0.5 * rng.standard_normal((3, n))
        pooled = folds.Pooled()
        for values in drawn:
            p = torch.tensor(values)

            def one(v):
                return v.reshape(1, 1, 1, 1)

            pooled.add(
                slices.Statistics(
                    one(p.mean()), one(p.mean()), one(p.var()), one(p.mean()), one(p.var()), one(p.mean())
                ),
                n,
            )
        found = pooled.statistics()
        each.append((float(found.mean), float(found.parameter)))
    mean, variance = np.mean(each, 0)
    assert mean == pytest.approx(shift.mean(), abs=0.01)
    assert variance == pytest.approx(0.25 + shift.var(ddof=1), rel=0.01)


@pytest.fixture
def model(tmp_path):
    """A bundle of three checkpoints whose card calibrates volumes by cv_plus."""
    card = json.loads((bundle.find("limb-t1-synct") / "model.json").read_text(encoding="utf-8"))
    card["architecture"] = {"name": "m4", "arguments": SMALL["m4"], "parameters": 1}
    torch.save({"checkpoints": [n.state_dict() for n in built("m4", 3)]}, tmp_path / "weights.pt")
    card["weights"] = {"file": "weights.pt", "sha256": bundle.sha256(tmp_path / "weights.pt"), "bytes": 1}
    card["calibration"]["volumes"] = {
        "method": "cv_plus",
        "unit": "width",
        "cases": 21,
        "patients": 21,
        "groups": {
            "pooled": {
                "cases": 21,
                "patients": 21,
                "scores": [[[0.1 * k + 0.01 * j] for j in range(7)] for k in range(3)],
            }
        },
    }
    (tmp_path / "model.json").write_text(json.dumps(card), encoding="utf-8")
    return tmp_path


def test_predict_asks_each_checkpoint(model):
    rng = np.random.default_rng(2)
    image = np.zeros((4, 40, 40), np.float32)
    image[:, 6:34, 6:34] = 200 + 60 * rng.standard_normal((4, 28, 28))
    mr = sitk.GetImageFromArray(image.clip(0))
    mr.SetSpacing((3.0, 3.0, 12.0))
    heard: list = []
    found = predict(mr, model, samples=6, device="cpu", bias_field="off", on_event=heard.append)
    assert found.options["samples"] == 6 and all(len(a.members) == 3 for a in found.assessed)
    said = [e["overall"] for e in heard if e.get("stage") == "network"]
    assert said == sorted(said) and any("checkpoint 3 of 3" in e.get("message", "") for e in heard)
    calibration = volume_calibration.of_card(found.card)
    shown = {v.structure: v for v in found.volumes}
    for a in found.assessed:
        v = shown[a.name]
        if a.distribution.volume_ml > 0:
            expected = calibration.interval(a.distribution, 0.9, members=a.members)
            assert (
                v.calibrated and (v.lower_ml, v.upper_ml) == expected.shown and v.lower_ml <= v.volume_ml <= v.upper_ml
            )
    assert any(v.calibrated for v in found.volumes)
    again = predict(mr, model, samples=6, device="cpu", bias_field="off")
    assert np.array_equal(sitk.GetArrayFromImage(found.synct), sitk.GetArrayFromImage(again.synct))
