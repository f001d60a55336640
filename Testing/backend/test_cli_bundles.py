"""Bundles that are damaged, tampered with or of another make: one line each, before anything is computed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from make_bundle import make_bundle
from test_cli import place, refused  # noqa: F401 (place is a fixture)

import rtuncertainty
from rtuncertainty.bundles import bundle
from rtuncertainty.cli import command_line


def test_unknown_model(place, capsys):
    refused(place, capsys, ["nothing-like-it", "neither a folder"], model="nothing-like-it")


@pytest.mark.parametrize(
    "name,spoil,words",
    [
        (
            "truncated",
            lambda f: (f / "weights.pt").write_bytes((f / "weights.pt").read_bytes()[:5000]),
            ["weights.pt", "SHA-256", "truncated"],
        ),
        ("gone", lambda f: (f / "weights.pt").unlink(), ["weights.pt", "missing"]),
        (
            "future",
            lambda f: (f / "model.json").write_text(
                json.dumps({**json.loads((f / "model.json").read_text(encoding="utf-8")), "format": 99}),
                encoding="utf-8",
            ),
            ["format 99", "update"],
        ),
        ("nocard", lambda f: (f / "model.json").write_text("{", encoding="utf-8"), ["model.json", "cannot be read"]),
        ("lacking", lambda f: (f / "model.json").write_text('{"format": 1}', encoding="utf-8"), ["lacks", "weights"]),
    ],
)
def test_broken_bundles(place, capsys, name, spoil, words):
    folder = place / f"bundle-{name}"
    if not folder.exists():
        spoil(make_bundle(folder))
    refused(place, capsys, words, model=folder)


@pytest.mark.parametrize(
    "entry,value,words",
    [
        ("name", None, "name is"),
        ("architecture", "m4", "architecture is"),
        ("architecture.arguments", [], "architecture.arguments is"),
        ("input", None, "input is"),
        ("input.spacing_mm", [1, 2], "input.spacing_mm is"),
        ("input.modality", "PET", "CT or MR"),
        ("outputs", [], "outputs is"),
        ("outputs.structures", None, "outputs.structures is"),
        ("outputs.structures", [{"name": "a/b", "label": 1, "color": [1, 2, 3]}], "name of structure 1"),
        ("outputs.structures", [{"name": "a", "label": 300, "color": [1, 2, 3]}], "label of structure 1"),
        ("outputs.structures", [{"name": n, "label": 1, "color": [1, 2, 3]} for n in "ab"], "the same label"),
        ("outputs.synct", {"scale": 3}, "scale and offset"),
        ("dropout", None, "dropout is"),
        ("calibration", "none", "calibration is"),
        ("weights.file", 3, "weights.file is"),
        ("input.bias_feild", "off", "input.bias_feild is no entry of a card (did you mean bias_field?)"),
        ("output", {}, "output is no entry of a card (did you mean outputs?)"),
        ("dropout.sideways", 1, "dropout.sideways is no entry of a card; known are p, where"),
        (
            "outputs.structures",
            [{"name": "a", "label": 1, "color": [1, 2, 3], "rule": {"bigest": 1}}],
            "outputs.structures, 1: rule.bigest is no entry of a card (did you mean largest?)",
        ),
    ],
)
def test_cards_that_say_nonsense(place, capsys, monkeypatch, entry, value, words):
    folder = place / "cards" / "bundle"
    card = json.loads((make_bundle(folder) / "model.json").read_text(encoding="utf-8"))
    *path, last = entry.split(".")
    inner = card
    for key in path:
        inner = inner[key]
    inner[last] = value
    (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")
    refused(place, capsys, ["model.json", words], model=folder)
    # and it does not keep others from being listed, but is named
    monkeypatch.setenv("RTU_MODELS", str(place / "cards"))
    assert command_line.main(["models"]) == 0
    output = capsys.readouterr()
    broken = [line for line in output.err.splitlines() if line.startswith("broken: ")]
    assert (
        "limb-t1-synct" in output.out
        and len(broken) == 1
        and str(folder / "model.json") in broken[0]
        and words in broken[0]
    )


def test_broken_bundles_are_told_from_good_ones(place, monkeypatch, capsys):
    good, bad = make_bundle(place / "mixed" / "good"), place / "mixed" / "bad"
    bad.mkdir()
    (bad / "model.json").write_text('{"format": 9}', encoding="utf-8")
    monkeypatch.setenv("RTU_MODELS", str(place / "mixed"))
    assert str(good) in [card["folder"] for card in rtuncertainty.list_bundles()]
    assert str(bad) not in [card["folder"] for card in rtuncertainty.list_bundles()]
    faults = rtuncertainty.broken_bundles()
    assert list(faults) == [str(bad)] and "format 9" in faults[str(bad)]
    assert command_line.main(["models", "--json"]) == 0
    output = capsys.readouterr()
    assert str(good) in [card["folder"] for card in json.loads(output.out)] and output.err.startswith("broken: ")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda stored: {},
        lambda stored: [1],
        lambda stored: {"checkpoints": []},
        lambda stored: {"checkpoints": [3]},
        lambda stored: {
            "checkpoints": [
                {k: v * float("nan") if v.is_floating_point() else v for k, v in stored["checkpoints"][0].items()}
            ]
        },
        None,
    ],
)
def test_weights_that_are_none(place, capsys, spoil):
    """Files that are as the card describes them, and yet hold no weights."""
    import torch

    from rtuncertainty.bundles import bundle

    folder = make_bundle(place / "bundle-hollow")
    if spoil is None:
        (folder / "weights.pt").write_bytes(b"")
    else:
        torch.save(spoil(torch.load(folder / "weights.pt", weights_only=True)), folder / "weights.pt")
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    card["weights"]["sha256"] = bundle.sha256(folder / "weights.pt")
    (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")
    refused(place, capsys, ["weights.pt", "weights"], model=folder)


def test_weights_of_another_architecture(place, capsys):
    folder = place / "bundle-other"
    if not folder.exists():
        make_bundle(
            folder,
            architecture={"name": "m4", "arguments": {"classes": 3, "width": 8, "features": 8, "branch_width": 4}},
        )
    refused(place, capsys, ["does not fit the architecture"], model=folder)


def test_weights_that_would_run_code_are_refused(place, capsys):
    import pickle

    from rtuncertainty.bundles import bundle

    folder = place / "bundle-evil"
    if not folder.exists():
        make_bundle(folder)

        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(place / "executed"),)

        (folder / "weights.pt").write_bytes(pickle.dumps({"checkpoints": [Evil()]}))
        card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        card["weights"]["sha256"] = bundle.sha256(folder / "weights.pt")
        (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")
    refused(place, capsys, ["weights.pt", "cannot be read as weights"], model=folder)
    assert not (place / "executed").exists()


def test_models_are_found_by_the_name_that_is_printed(place, monkeypatch, capsys):
    first, second = (make_bundle(place / "twins" / name) for name in ("folder-a", "folder-b"))
    monkeypatch.setenv("RTU_MODELS", str(place / "twins"))
    assert command_line.main(["models"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("test-synct")]
    assert len(lines) == 2 and str(first) in lines[0] and f"{second}  (not used" in lines[1]
    assert bundle.find("test-synct") == first and bundle.find("folder-b") == second


def test_a_folder_of_models_that_is_none_is_told(place, monkeypatch, capsys):
    monkeypatch.setenv("RTU_MODELS", os.pathsep.join([str(place), str(place / "gone")]))
    assert command_line.main(["models"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "RTU_MODELS" in line]
    assert told == [f"RTU_MODELS: {place / 'gone'} is no folder; no model is looked for there."]
    refused(place, capsys, ["neither a folder", f"{place / 'gone'} is no folder"], model="in-the-folder-that-is-gone")


@pytest.mark.skipif(os.name == "nt", reason="there a pipe without a reader is no error of its own")
@pytest.mark.parametrize(
    "program, code",
    [(["rtuncertainty", "models", "--json"], 0), (["rtuncertainty", "--help"], 0), (["training", "settings"], 141)],
)
def test_who_stops_reading_is_told_nothing(program, code):
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(root / "RTUncertainty"), str(root)])
    process = subprocess.Popen(
        [sys.executable, "-m", *program],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()  # as `head` does, before anything is written
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == code and said == ""
