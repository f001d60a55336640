"""The card of a model on own data: for every task, filled in by hand or refused; no bundle of another run is lost."""

import json

import pytest
import tiny_cohort
import yaml

pytest.importorskip("lightning")

from rtuncertainty.bundles import bundle
from training import __main__ as command
from training.data.prepare import organs, pairs
from training.run import card as cards

FILLED = {
    "title": "Bone in noise",
    "licence": "CC0",
    "training.licence": "none",
    "training.citation": "none",
    "intended_use": "tests",
}
SMALL = {
    "arguments": {"classes": 3, "width": 4, "features": 8, "branch_width": 4},
    "steps": 1,
    "batch": 2,
    "patch": 16,
    "folds": 4,
    "settle_batches": 1,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    prepared = tiny_cohort.write(folder / "prepared")
    (folder / "c.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    for seed in ("0", "1"):
        arguments = ["--config", str(folder / "c.yaml"), "--set", f"seed={seed}", "--device", "cpu"]
        command.main(["train", "--prepared", str(prepared), "--out", str(folder / f"run{seed}"), *arguments])
    return folder


def test_a_card_that_is_not_filled_in_is_refused(place, tmp_path, capsys):
    file = tmp_path / "card.yaml"
    assert command.main(["card", "--prepared", str(place / "prepared"), "--out", str(file)]) == 0
    assert (
        "to be filled in: title, training.licence, training.citation, intended_use, licence" in capsys.readouterr().out
    )
    card = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert card["version"] == "0.1.0" and "McGill" not in file.read_text(encoding="utf-8")
    assert [s["name"] for s in card["outputs"]["structures"]] == ["bone", "gtv"]
    export = ["export", "--run", str(place / "run0"), "--card", str(file), "--out", str(tmp_path / "model")]
    with pytest.raises(SystemExit, match=r"card.yaml: title, training.licence, .*intended_use, licence still to be"):
        command.main(export)
    assert not (tmp_path / "model").exists()
    file.write_text(file.read_text(encoding="utf-8").replace(cards.FILL, "written"), encoding="utf-8")
    mistyped = tmp_path / "mistyped.yaml"
    mistyped.write_text(file.read_text(encoding="utf-8").replace("bias_field", "bias_feild"), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"mistyped.yaml: input.bias_feild is no entry .*did you mean bias_field\?"):
        command.main([*export[:4], str(mistyped), *export[5:]])
    assert not (tmp_path / "model").exists()
    command.main(export)
    assert bundle.read_card(tmp_path / "model")["outputs"]["structures"][1]["name"] == "gtv"
    with pytest.raises(SystemExit, match="no such entry"):
        cards.write(place / "prepared", tmp_path / "other.yaml", filled={"training.license": "x"})


def test_the_bundle_of_another_run_stays(place, tmp_path):
    file = cards.write(place / "prepared", tmp_path / "card.yaml", "noise", FILLED)
    out = tmp_path / "model"

    def export(run, *more):
        return command.main(["export", "--run", str(place / run), "--card", str(file), "--out", str(out), *more])

    export("run0")
    export("run0")
    with pytest.raises(SystemExit, match="holds noise 0.1.0, of another run.*--force"):
        export("run1")
    assert bundle.read_card(out)["training"]["seed"] == 0
    export("run1", "--force")
    assert bundle.read_card(out)["training"]["seed"] == 1
    # one that is shipped, of which no run is known
    card = json.loads((out / "model.json").read_text(encoding="utf-8"))
    del card["training"]["run"]
    (out / "model.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(SystemExit, match="another run"):
        export("run1")


@pytest.mark.parametrize("name, task", [("pairs", "contour propagation"), ("organs", "segmentation")])
def test_cards_of_cts(tmp_path, name, task):
    settings = {"organs": list(pairs.HEADNECK[:2]), "spacing": [4.0, 4.0, 3.0]}
    pairs.claim(tmp_path / (f"{name}.json" if name == "pairs" else organs.SETTINGS), settings)
    card = yaml.safe_load(cards.write(tmp_path).read_text(encoding="utf-8"))
    assert card["task"] == task and card["input"]["modality"] == "CT" and card["input"]["spacing_mm"] == [4, 4, 3]
    assert [(s["name"], s["label"]) for s in card["outputs"]["structures"]] == [("brainstem", 1), ("spinal_cord", 2)]
    assert card["outputs"]["structures"][0]["code"]["meaning"] == "Brainstem"
    assert set(cards.left(card)) == set(FILLED)
