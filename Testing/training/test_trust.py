"""Run, split, weights and card belong together: who was trained on is known, and what was begun goes on as it was
begun.
"""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("lightning")

from rtuncertainty.bundles import bundle  # noqa: E402
from training import __main__ as command  # noqa: E402
from training import methods
from training.core import provenance  # noqa: E402
from training.data.case import Case, save_case  # noqa: E402
from training.methods.bragman2018.task import HighResTask
from training.methods.elmahdy2021.feed import sides  # noqa: E402
from training.methods.hasan2021.feed import cross_fitted  # noqa: E402
from training.run import export, folder, train

CARD = Path(command.__file__).parent / "studies" / "mr_only" / "limb_card.yaml"
SMALL = {
    "arguments": {"classes": 3, "width": 4, "features": 8, "branch_width": 4},
    "steps": 4,
    "batch": 2,
    "patch": 16,
    "folds": 4,
    "warm_up": 2,
    "checkpoint_every": 1,
    "validate_every": 2,
    "settle_batches": 2,
}


def add_case(prepared, name, seed):
    rng = np.random.default_rng(seed)
    labels = np.zeros((3, 24, 24), np.uint8)
    labels[:, 8:14, 8:14], labels[:, 16:20, 16:20] = 1, 2
    body = np.ones(labels.shape, bool)
    mr = rng.normal(size=labels.shape).astype(np.float32)
    (prepared / "cases").mkdir(parents=True, exist_ok=True)
    save_case(
        Case(name, mr, np.where(labels == 1, 600, 40).astype(np.float32), labels, body, body, (1.0, 1.0, 3.0)),
        prepared / "cases" / f"{name}.npz",
        {},
    )
    names = sorted(f.stem for f in (prepared / "cases").glob("*.npz"))
    with open(prepared / "prepare.csv", "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows([["case", "kept"], *[[n, "yes"] for n in names]])


@pytest.fixture
def prepared(tmp_path):
    for seed in range(5):
        add_case(tmp_path / "prepared", f"p{seed}", seed)
    return tmp_path / "prepared"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def fit(prepared, name="run", stop_after=None, **changes):
    out = prepared.parent / name
    config = prepared.parent / f"{name}.yaml"
    config.write_text(yaml.safe_dump(SMALL | changes), encoding="utf-8")
    train.run(prepared, config, out, stop_after=stop_after, device="cpu")
    return out


def split_of(run):
    return json.loads((run / "split.json").read_text(encoding="utf-8"))


def evaluate(prepared, run, model, out, *more):
    return command.main(
        [
            "evaluate",
            "--prepared",
            str(prepared),
            "--run",
            str(run),
            "--model",
            str(model),
            "--out",
            str(out),
            "--samples",
            "2",
            "--device",
            "cpu",
            *more,
        ]
    )


def test_who_was_trained_on_is_not_scored_whatever_his_name(prepared, tmp_path):
    one, other = fit(prepared, "one", fold=0), fit(prepared, "other", fold=1)
    model = export.run(one, CARD, tmp_path / "model")
    told = json.loads((model / "model.json").read_text(encoding="utf-8"))["training"]
    # names are nobody's business
    assert "case_names" not in told and not any(n in json.dumps(told) for n in ("p0", "p1", "p2", "p3", "p4"))
    with pytest.raises(SystemExit, match="was trained on " + ".*".join(split_of(other)["validation"])):
        evaluate(prepared, other, model, tmp_path / "ev")
    with pytest.raises(SystemExit, match="was trained on"):  # not even if it is stated
        evaluate(prepared, other, model, tmp_path / "ev", "--unseen")
    # the same patients under other names
    renamed = tmp_path / "renamed"
    for name in split_of(one)["hashes"]:
        (renamed / "cases").mkdir(parents=True, exist_ok=True)
        shutil.copy(prepared / "cases" / f"{name}.npz", renamed / "cases" / f"x{name}.npz")
    (renamed / "prepare.csv").write_text(
        "case,kept\n" + "".join(f"x{n},yes\n" for n in split_of(one)["hashes"]), encoding="utf-8"
    )
    third = fit(renamed, "third")
    (third / "split.json").write_text(
        json.dumps(
            {
                "training": [f"x{n}" for n in split_of(one)["validation"]],
                "validation": [f"x{n}" for n in split_of(one)["training"]],
            }
        ),
        encoding="utf-8",
    )
    with pytest.raises(SystemExit, match="was trained on xp"):
        evaluate(renamed, third, model, tmp_path / "ev")


def test_what_came_before_is_carried_on(prepared, tmp_path):
    first = export.run(fit(prepared, "first", fold=0), CARD, tmp_path / "first-model")
    # another hospital's patients, tuned with the weights of the first
    theirs = tmp_path / "theirs" / "prepared"
    for seed in range(10, 14):
        add_case(theirs, f"q{seed}", seed)
    tuned = export.run(fit(theirs, "tuned", initialise=str(first)), CARD, tmp_path / "tuned-model")
    card = bundle.read_card(tuned)
    ours, own = provenance.identities(prepared, [f"p{k}" for k in range(5)]), split_of(tmp_path / "theirs" / "tuned")
    before = split_of(tmp_path / "first")
    assert all(provenance.seen_checkpoints(card, ours[n]) == [0] for n in before["training"])
    assert all(provenance.unseen_checkpoints(card, ours[n]) == [0] for n in before["validation"])
    assert all(provenance.seen_checkpoints(card, own["hashes"][n]) == [0] for n in own["training"])
    # weights of whom nobody knows whom they have seen
    silent = json.loads((first / "model.json").read_text(encoding="utf-8"))
    del silent["training"]["patients"]
    (first / "model.json").write_text(json.dumps(silent), encoding="utf-8")
    with pytest.raises(SystemExit, match="--unseen"):
        evaluate(prepared, tmp_path / "first", first, tmp_path / "ev")
    evaluate(prepared, tmp_path / "first", first, tmp_path / "ev", "--unseen")
    assert (
        "as its evaluator states"
        in json.loads((tmp_path / "ev" / "evaluation.json").read_text(encoding="utf-8"))["accuracy"]["cases"]
    )
    unknown = bundle.read_card(
        export.run(fit(theirs, "unknown", initialise=str(first)), CARD, tmp_path / "unknown-model")
    )
    assert provenance.unseen_checkpoints(unknown, "anyone") == [] and "began with" in provenance.why_unknown(unknown)


def test_of_folds_those_are_taken_that_have_not_seen_him():
    splits = [
        {"training": ["b", "c"], "validation": ["a"], "hashes": {n: [n * 3] for n in "abc"}},
        {"training": ["a", "c"], "validation": ["b"], "hashes": {n: [n * 3] for n in "abc"}},
    ]
    card = {"name": "x", "training": {"patients": provenance.for_card(splits, "salt")}}
    assert provenance.unseen_checkpoints(card, "aaa") == [0] and provenance.unseen_checkpoints(
        card, ["bbb", "other day"]
    ) == [1]
    assert provenance.unseen_checkpoints(card, "ccc") == [] and provenance.unseen_checkpoints(card, "ddd") == [0, 1]
    assert provenance.unseen_checkpoints({"name": "x", "training": {}}, "aaa") == []


def test_figures_of_who_was_trained_on_do_not_go_into_a_card(prepared, tmp_path):
    one = fit(prepared, "one")
    model = export.run(one, CARD, tmp_path / "model")
    split, sha = split_of(one), bundle.read_card(model)["weights"]["sha256"]
    made = {
        "weights_sha256": sha,
        "accuracy": {"cases": "1", "n": 1, "table": {}},
        "calibration": {"synct": None, "volumes": None},
    }
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps(made), encoding="utf-8")
    with pytest.raises(SystemExit, match="does not say whom"):
        export.run(one, CARD, tmp_path / "model", file)
    file.write_text(json.dumps(made | {"scored": {"p": split["hashes"][split["training"][0]]}}), encoding="utf-8")
    with pytest.raises(SystemExit, match="p was trained on"):
        export.run(one, CARD, tmp_path / "model", file)


def test_a_killed_run_has_the_card_of_an_uncut_one(prepared, tmp_path, monkeypatch):
    """Killed as it learns and as it settles, and stopped in good order: weights, figures and card are the same."""

    def killed(*_, **__):
        raise MemoryError

    def card(run):
        out = tmp_path / run.name / "model"
        export.run(run, CARD, out)
        assert evaluate(prepared, run, out, tmp_path / run.name / "ev") == 0
        export.run(run, CARD, out, tmp_path / run.name / "ev" / "evaluation.json")
        return (out / "model.json").read_text(encoding="utf-8")

    steps = {"steps": 6, "fold": 1, "folds": 3}
    whole = fit(prepared, "whole", **steps)
    step = HighResTask.training_step
    with monkeypatch.context() as m, pytest.raises(MemoryError):
        m.setattr(HighResTask, "training_step", lambda t, *a: killed() if t.global_step == 2 else step(t, *a))
        fit(prepared, "cut", **steps)
    with pytest.raises(SystemExit, match="was stopped before its end"):
        export.run(tmp_path / "cut", CARD, tmp_path / "none")
    fit(prepared, "cut", 4, **steps)
    with monkeypatch.context() as m, pytest.raises(MemoryError):
        m.setattr(train, "settle_batch_norm", killed)
        fit(prepared, "cut", **steps)
    assert folder.stage(tmp_path / "cut") == folder.TRAINED
    cut = fit(prepared, "cut", **steps)
    ours, theirs = (json.loads(card(run)) for run in (cut, whole))
    assert ours["accuracy"]["n"] == 2 and ours["accuracy"]["table"] and ours["calibration"]["synct"]["recalibration"]
    assert ours == theirs and ours["weights"]["sha256"] == theirs["weights"]["sha256"]


def test_a_split_is_dealt_once(prepared):
    run = fit(prepared, stop_after=2)
    was = (run / "split.json").read_text(encoding="utf-8")
    for changes, said in (
        ({"fold": 1}, "fold: 0, now 1"),
        ({"learning_rate": 0.5}, "learning_rate: 0.002, now 0.5"),
        ({"steps": 9}, "steps: 4, now 9"),
        ({"initialise": "limb-t1-synct"}, "initialise: None, now"),
        ({"arguments": SMALL["arguments"] | {"width": 8}}, "arguments"),
    ):
        with pytest.raises(SystemExit, match=said + ".*train --prepared"):
            fit(prepared, **changes)
    add_case(prepared, "p9", 9)
    with pytest.raises(SystemExit, match="new is p9.*train --prepared"):
        fit(prepared)
    (prepared / "cases" / "p9.npz").unlink()
    add_case(prepared, "p1", 77)
    with pytest.raises(SystemExit, match="another image has p1"):
        fit(prepared)
    add_case(prepared, "p1", 1)
    assert (run / "split.json").read_text(encoding="utf-8") == was
    fit(prepared, workers=0, log_every=1)  # which changes nothing
    assert folder.stage(run) == "done"


def test_a_new_patient_moves_no_one(tmp_path):
    names = [f"n{k}" for k in range(11)]
    before = provenance.deal(tmp_path, names, 4)
    after = provenance.deal(tmp_path, [*names, "new", "newer"], 4)
    assert all(after[n] == f for n, f in before.items())
    sizes = [list(after.values()).count(k) for k in range(4)]
    assert max(sizes) - min(sizes) <= 1 and sorted(sizes) == [3, 3, 3, 4]
    # each patient validates once
    held = [n for k in range(4) for n in provenance.dealt(tmp_path, [*names, "new", "newer"], 4, k)[1]]
    assert sorted(held) == sorted([*names, "new", "newer"])


def test_one_image_on_both_sides_is_refused(prepared):
    shutil.copy(prepared / "cases" / "p0.npz", prepared / "cases" / "twin.npz")
    add_case(prepared, "p1", 1)
    with pytest.raises(SystemExit, match="the same image"):
        for fold in range(4):
            fit(prepared, f"fold{fold}", fold=fold)


def test_any_data_have_folds(tmp_path):
    rows = [
        ["case", "kept", "patient", "set"],
        *[[f"p{p}_day{d}", "yes", f"p{p}", "validation" if p > 5 else "train"] for p in range(8) for d in range(2)],
    ]
    with open(tmp_path / "prepare.csv", "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows(rows)
    table, held = tmp_path / "prepare.csv", []
    assert {n[:2] for n in sides(table, 4, 0)[1]} == {"p6", "p7"}
    with pytest.raises(SystemExit, match="cross_fit"):
        sides(table, 4, 1)
    for fold in range(4):
        training, validation = sides(table, 4, fold, cross_fit=True)
        assert not {n[:2] for n in training} & {n[:2] for n in validation} and len(training) + len(validation) == 16
        held += validation
    assert sorted(held) == sorted(r[0] for r in rows[1:])
    few = tmp_path / "few"
    few.mkdir()
    rows = [
        ["case", "kept", "patient", "order", "labelled", "set"],
        *[
            [f"s{k}", "yes", f"q{k // 2}", k, "yes" if k < 12 else "no", "validation" if k < 4 else "train"]
            for k in range(16)
        ],
        ["s16", "yes", "q0", 16, "no", "train"],
    ]
    with open(few / "prepare.csv", "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows(rows)
    held = []
    for fold in range(3):
        found = cross_fitted(few / "prepare.csv", 0, 3, fold)
        assert len(found.labelled) + len(found.validation) == 12 and {"s12", "s13"} <= set(found.unlabelled)
        # no scan of a patient who validates is seen, labelled or not
        assert ("s16" in found.unlabelled) != ("s0" in found.validation)
        held += found.validation
    assert sorted(held) == sorted(f"s{k}" for k in range(12))


def test_stopped_while_it_settles_is_not_finished(prepared, monkeypatch):
    import torch

    whole = fit(prepared, "whole")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as now:
        now.setattr(train, "settle_batch_norm", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(prepared, "cut")
    cut = prepared.parent / "cut"
    assert folder.stage(cut) == "trained" and not folder.is_done(cut, 4)
    with pytest.raises(SystemExit, match="train command again"):
        export.network_state(cut)
    fit(prepared, "cut")
    assert folder.is_done(cut, 4)
    a, b = export.network_state(whole)[0], export.network_state(cut)[0]
    assert a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


def test_checkpoints_of_one_run_share_the_samples_of_its_bundle(prepared, tmp_path, monkeypatch):
    """Those of Bragman 2018 (Sec. 3) are of steps 18,000 and 19,000 of one training; each is settled, and is what a run
    that ends there has, but for the learning rate's schedule.
    """
    import torch

    run = fit(prepared, kept_steps=[2], schedule="constant")
    short = fit(prepared, "short", steps=2, schedule="constant")
    kept, end = export.network_state(run, 2)[0], export.network_state(run)[0]
    assert all(torch.equal(v, kept[k]) for k, v in export.network_state(short)[0].items())
    assert any(not torch.equal(v, end[k]) for k, v in kept.items())
    out = export.run(run, CARD, tmp_path / "bundle")
    card, stored = bundle.read_card(out), torch.load(out / "weights.pt", weights_only=True)["checkpoints"]
    assert card["checkpoints"] == 2
    assert all(torch.equal(v, w[k]) for v_of, w in zip(stored, (end, kept)) for k, v in v_of.items())
    split = split_of(run)
    assert all(provenance.seen_checkpoints(card, split["hashes"][n]) == [0, 1] for n in split["training"])
    assert all(provenance.unseen_checkpoints(card, split["hashes"][n]) == [0, 1] for n in split["validation"])
    # cut after the step, the same; asked for afterwards, refused
    cut = fit(prepared, "cut", stop_after=3, kept_steps=[2], schedule="constant")
    fit(prepared, "cut", kept_steps=[2], schedule="constant")
    assert all(torch.equal(v, kept[k]) for k, v in export.network_state(cut, 2)[0].items())
    with pytest.raises(SystemExit, match="kept_steps"):
        fit(prepared, "short", steps=2, schedule="constant", kept_steps=[1])


def test_a_damaged_checkpoint_is_survived(prepared, capsys):
    import torch

    whole, cut = fit(prepared, "whole"), fit(prepared, "cut", stop_after=3)
    last = cut / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    fit(prepared, "cut")
    assert "damaged; going on from previous.ckpt, step 2" in capsys.readouterr().out
    a, b = export.network_state(whole)[0], export.network_state(cut)[0]
    assert all(torch.equal(v, b[k]) for k, v in a.items())
    for name in ("last", "previous"):
        (cut / "checkpoints" / f"{name}.ckpt").write_bytes(b"nothing")
    with pytest.raises(SystemExit, match="damaged"):
        fit(prepared, "cut")


def test_early_stopping_keeps_the_best_and_ends_once(prepared, monkeypatch):
    import torch

    from training.methods.synthesis import Synthesis

    scores = {2: 3.0, 4: 1.0, 6: 2.0, 8: 2.5}

    def ended(self):
        self.log("val/score", torch.tensor(scores[self.global_step]))

    monkeypatch.setattr(Synthesis, "on_validation_epoch_end", ended)
    how = {"steps": 40, "early_stop": 2, "checkpoint_every": 3}
    run = fit(prepared, **how)
    assert (
        export.network_state(run)[1] == 4
        and torch.load(run / "checkpoints" / "last.ckpt", weights_only=False)["global_step"] == 8
    )
    assert folder.is_done(run, 40)
    before = {f: f.stat().st_mtime_ns for f in run.rglob("*")}
    fit(prepared, **how)
    assert before == {f: f.stat().st_mtime_ns for f in run.rglob("*")}
    # cut at a validation and where none is, it is the same run
    for stop in (4, 5):
        fit(prepared, f"cut{stop}", stop_after=stop, **how)
        cut = fit(prepared, f"cut{stop}", **how)
        assert export.network_state(cut)[1] == 4
        states = [torch.load(r / "checkpoints" / "last.ckpt", weights_only=False) for r in (run, cut)]
        assert states[0]["global_step"] == states[1]["global_step"]
        assert all(torch.equal(v, states[1]["state_dict"][k]) for k, v in states[0]["state_dict"].items())


def test_a_run_of_an_earlier_version_is_refused(prepared):
    run = fit(prepared, stop_after=2)
    split = split_of(run)
    (run / "split.json").write_text(json.dumps({k: split[k] for k in ("training", "validation")}), encoding="utf-8")
    with pytest.raises(SystemExit, match="earlier version.*new run"):
        fit(prepared)


def test_a_common_start_is_not_dropped_without_a_word(prepared, tmp_path):
    budget, config = tmp_path / "budget.yaml", tmp_path / "c.yaml"
    budget.write_text(yaml.safe_dump({"common": [{"steps": 2}]}), encoding="utf-8")
    config.write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    with pytest.raises(SystemExit, match="reproduce"):
        train.run(prepared, config, tmp_path / "run", device="cpu", budget=budget)


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"learning_rat": 1}, "did you mean learning_rate"),
        ({"fold": 9}, "fold 9 is not one of 0 to 4"),
        ({"network": "ua_mt", "augmentation": "nonsense"}, "augmentation 'nonsense' is not one of"),
        ({"cross_fit": "maybe"}, "true or false"),
        ({"schedule": "cosin"}, "did you mean cosine"),
    ],
)
def test_typos_are_errors(tmp_path, settings, said):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    with pytest.raises(SystemExit, match=said):
        methods.load(tmp_path / "c.yaml")


def test_a_limit_that_there_is_not_is_told(tmp_path):
    with pytest.raises(SystemExit, match="did you mean cortical_ratio"):
        command.main(["prepare", "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--ignore-limit", "cortical"])
