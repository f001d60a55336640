"""Folds of one study: they become one bundle, whose every figure comes of who has not seen the patient."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("lightning")

from test_trust import CARD, SMALL, add_case

from rtuncertainty.bundles import bundle
from training import __main__ as command
from training.core import provenance
from training.evaluation import kept, slices
from training.run import export, joined, train

FOLDS = 3


def fold(prepared, number, name=None, **changes):
    out = prepared.parent / "folds" / (name or str(number))
    config = prepared.parent / f"{out.name}.yaml"
    config.write_text(
        yaml.safe_dump(SMALL | {"folds": FOLDS, "cross_fit": True, "fold": number, "seed": number} | changes),
        encoding="utf-8",
    )
    train.run(prepared, config, out, device="cpu")
    return out


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(slices, "picture", lambda *_: None)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    prepared = folder / "prepared"
    for seed in range(10):
        add_case(prepared, f"p{seed}", seed)
    return prepared, [fold(prepared, k) for k in range(FOLDS)]


def evaluate(prepared, runs, model, out, *more):
    given = [word for r in runs for word in ("--run", str(r))]
    options = ["--samples", "4", "--device", "cpu", *more]
    return command.main(
        ["evaluate", "--prepared", str(prepared), *given, "--model", str(model), "--out", str(out), *options]
    )


def test_from_folds_to_a_bundle_with_a_card(study, tmp_path, capsys, monkeypatch):
    prepared, runs = study
    model = tmp_path / "model"
    # the folder that holds them, in which one is still being trained
    (tmp_path / "held").mkdir()
    for r in runs:
        shutil.copytree(r, tmp_path / "held" / r.name)
    unfinished = tmp_path / "held" / "unfinished"
    shutil.copytree(runs[0], unfinished)
    (unfinished / "stage.json").write_text('{"stage": "training", "step": 2, "ended": ""}', encoding="utf-8")
    command.main(["export", "--run", str(tmp_path / "held"), "--card", str(CARD), "--out", str(model)])
    assert "left out: unfinished" in capsys.readouterr().out
    card, networks = bundle.load(model)
    assert card["checkpoints"] == len(networks) == FOLDS and card["training"]["fold"] == [0, 1, 2]
    assert card["training"]["cases"] == 10
    import torch

    stored = torch.load(model / "weights.pt", weights_only=True)["checkpoints"]
    assert all(v.dtype == torch.float16 for s in stored for v in s.values() if v.is_floating_point())
    # each checkpoint's own weights, beside whom it has seen
    hashes = provenance.identities(prepared, [f"p{k}" for k in range(10)])
    for k, run in enumerate(runs):
        state = export.network_state(run)[0]
        assert all(torch.equal(v.half(), stored[k][n]) for n, v in state.items() if v.is_floating_point())
        for name in json.loads((run / "split.json").read_text(encoding="utf-8"))["validation"]:
            assert provenance.unseen_checkpoints(card, hashes[name]) == [k]
    # who scores whom
    asked = []
    sampled = slices.sampled

    def noted(members, case, *rest, **more):
        asked.append((case.name, [networks_of.index(m) for m in members]))
        return sampled(members, case, *rest, **more)

    networks_of: list = []
    load = bundle.load

    def loaded(*given):
        found = load(*given)
        networks_of[:] = found[1]
        return found

    monkeypatch.setattr(slices, "sampled", noted)
    monkeypatch.setattr(slices.bundle, "load", loaded)
    with pytest.raises(SystemExit, match="the same command goes on"):
        evaluate(prepared, runs, model, tmp_path / "out", "--minutes", "0")
    assert not asked
    evaluate(prepared, runs, model, tmp_path / "out")
    assert sorted(n for n, _ in asked) == sorted(hashes)
    assert all(members == provenance.unseen_checkpoints(card, hashes[n]) for n, members in asked)
    before = (tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8")
    # nothing is computed twice; a lost patient is computed again, and the figures stay
    (tmp_path / "out" / kept.FOLDER / "p3.npz").write_bytes(b"cut short")
    asked.clear()
    evaluate(prepared, [tmp_path / "held"], model, tmp_path / "out")
    assert [n for n, _ in asked] == ["p3"]
    assert (tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8") == before
    command.main(
        [
            "calibrate",
            f"net={tmp_path / 'out' / 'volumes.json'}",
            "--evaluation",
            str(tmp_path / "out" / "evaluation.json"),
            "--out",
            str(tmp_path / "tables"),
        ]
    )
    final = export.run(runs, CARD, model, tmp_path / "out" / "evaluation.json")
    card = bundle.read_card(final)
    assert card["accuracy"]["n"] == 10 and "out-of-fold, 10 patients, 3 folds" in card["accuracy"]["cases"]
    assert card["calibration"]["synct"]["n"] == 10
    assert {r["fold"] for r in json.loads((tmp_path / "out" / "volumes.json").read_text(encoding="utf-8"))["rows"]} == {
        0,
        1,
        2,
    }


def test_runs_that_do_not_belong_together(study, tmp_path):
    prepared, runs = study
    with pytest.raises(SystemExit, match="both are fold 0"):
        joined.require_together([runs[0], fold(prepared, 0, "again", seed=3)])
    with pytest.raises(SystemExit, match="learning_rate is 0.5"):
        joined.require_together([runs[0], fold(prepared, 1, "faster", learning_rate=0.5)])
    export.run([runs[1]], CARD, tmp_path / "one")
    longer = fold(prepared, 1, "longer", initialise=str(tmp_path / "one"), steps=1, learning_rate=1e-4)
    joined.require_together([runs[0], longer])  # it went on from its own fold
    assert joined.entry([runs[0], longer])["went_on"] == [1]
    with pytest.raises(SystemExit, match="no fold of a cross-fitted"):
        joined.require_together([fold(prepared, 0, "alone", cross_fit=False), runs[1]])
    other = tmp_path / "other"
    shutil.copytree(runs[1], other)
    split = json.loads((other / "split.json").read_text(encoding="utf-8"))
    split["hashes"][split["training"][0]] = ["0" * 64]
    (other / "split.json").write_text(json.dumps(split), encoding="utf-8")
    with pytest.raises(SystemExit, match=f"other images of theirs .{split['training'][0]}"):
        joined.require_together([runs[0], other])
    (other / "stage.json").write_text('{"stage": "training", "step": 2, "ended": ""}', encoding="utf-8")
    shutil.copy(runs[1] / "split.json", other / "split.json")
    with pytest.raises(SystemExit, match="not trained to its end"):
        export.run([runs[0], other], CARD, tmp_path / "model")
    with pytest.raises(SystemExit, match="train first"):
        joined.runs(tmp_path / "nothing")


def test_figures_of_one_fold_do_not_go_into_the_card_of_all(study, tmp_path):
    prepared, runs = study
    one = export.run(runs[0], CARD, tmp_path / "one")
    evaluate(prepared, runs[:1], one, tmp_path / "ev")
    model = export.run(runs, CARD, tmp_path / "model")
    made = json.loads((tmp_path / "ev" / "evaluation.json").read_text(encoding="utf-8"))
    made["weights_sha256"] = bundle.read_card(model)["weights"]["sha256"]
    (tmp_path / "ev" / "evaluation.json").write_text(json.dumps(made), encoding="utf-8")
    with pytest.raises(SystemExit, match="not of these folds"):
        export.run(runs, CARD, tmp_path / "model", tmp_path / "ev" / "evaluation.json")
    # nor those of a checkpoint that has seen the patient
    evaluate(prepared, runs, model, tmp_path / "all")
    made = json.loads((tmp_path / "all" / "evaluation.json").read_text(encoding="utf-8"))
    case, which = next(iter(made["checkpoints"].items()))
    made["checkpoints"][case] = [(which[0] + 1) % FOLDS]
    (tmp_path / "all" / "evaluation.json").write_text(json.dumps(made), encoding="utf-8")
    with pytest.raises(SystemExit, match=f"{case} was trained on"):
        export.run(runs, CARD, tmp_path / "model", tmp_path / "all" / "evaluation.json")
    # two of three folds are a bundle, too: who was in neither of their parts is not scored
    two = export.run(runs[:2], CARD, tmp_path / "two")
    evaluate(prepared, runs[:2], two, tmp_path / "part")
    rows = json.loads((tmp_path / "part" / "rows.json").read_text(encoding="utf-8"))
    held = [n for r in runs[:2] for n in json.loads((r / "split.json").read_text(encoding="utf-8"))["validation"]]
    assert sorted(rows["cases"]) == sorted(held)
    with pytest.raises(SystemExit, match="all of its checkpoints were trained on"):
        evaluate(prepared, runs, two, tmp_path / "more")


def test_one_command_trains_scores_and_exports(study, tmp_path, monkeypatch):
    prepared, runs = study
    out, config = tmp_path / "out", tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(SMALL | {"folds": FOLDS, "cross_fit": True}), encoding="utf-8")
    for k, r in enumerate(runs[1:], 1):
        shutil.copytree(r, out / "folds" / str(k))
    words = ["reproduce", "limb_folds", "--data", str(prepared), "--out", str(out), "--config", str(config)]
    with pytest.raises(SystemExit, match="not trained to the end yet: fold 0; give the command again"):
        command.main([*words, "--device", "cpu", "--minutes", "0"])
    assert command.main([*words, "--device", "cpu"]) == 0
    card = bundle.read_card(out / "bundle" / "limb-t1-synct")
    assert card["checkpoints"] == FOLDS and "out-of-fold, 10 patients" in card["accuracy"]["cases"]
    assert "Interval score" in (out / "results" / "volumes.md").read_text(encoding="utf-8")
    alone = tmp_path / "alone.yaml"
    alone.write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    with pytest.raises(SystemExit, match="cross_fit: true"):
        command.main(["reproduce", "limb_folds", "--data", str(prepared), "--out", str(out), "--config", str(alone)])


def test_what_was_kept_is_read_back_as_it_was(tmp_path):
    store = kept.Kept(tmp_path, {"weights": "a"})
    made = {"x": [1.5, float("nan"), np.float32(2)]}, {"a": np.arange(3.0)}
    plain, arrays = store.of("p", lambda: made)
    assert plain["x"][0] == 1.5 and np.isnan(plain["x"][1]) and arrays["a"].tolist() == [0, 1, 2]

    def never():
        raise AssertionError("computed again")

    assert kept.Kept(tmp_path, {"weights": "a"}).of("p", never)[1]["a"].tolist() == [0, 1, 2]
    with pytest.raises(AssertionError):
        kept.Kept(tmp_path, {"weights": "b"}).of("p", never)
    assert Path(tmp_path / kept.FOLDER / "p.npz").exists()
