"""Settings of a training: typed, one dataclass a method, and every error in one line with file and key."""

import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import yaml

import training
from training import __main__ as command
from training import methods
from training.core.config import Config

ROOT = Path(training.__file__).parent
YAMLS = sorted(f for f in ROOT.rglob("*.yaml") if "results" not in f.parts and not f.stem.endswith("card"))
BUDGETS = [f for f in YAMLS if f.stem in ("cpu", "cpu_long", "gpu", "paper")]


def written(folder, settings, name="c.yaml"):
    path = folder / name
    path.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"network": "m4", "ema": 0.5}, "c.yaml: ema is a setting of hasan2021, not of bragman2018"),
        ({"network": "m4", "bending": 7}, "c.yaml: bending is a setting of elmahdy2021, not of bragman2018"),
        ({"network": "hr_default", "beta": 0}, "beta is a setting of bragman2018, not of eatonrosen2018"),
        ({"learning_rat": 1}, "c.yaml: unknown setting learning_rat .did you mean learning_rate"),
        ({"network": "croos_stitch"}, "c.yaml: network 'croos_stitch' is unknown.*did you mean cross_stitch"),
        ({"method": "bragman2081"}, "method 'bragman2081' is not one of .*did you mean bragman2018"),
        ({"method": "hasan2021", "network": "m4"}, "network 'm4' is not one of mt_ctl.*which hasan2021 trains"),
        (
            {"network": "m4", "arguments": {"widht": 3}},
            "c.yaml: arguments: network 'm4' has no widht .did you mean width",
        ),
        ({"network": "sassnet", "arguments": {"distance": False}}, "arguments: network 'sassnet' has no distance"),
        ({"arguments": 3}, "arguments is 3; it must be a mapping"),
        ({"arguments": {"width": "x"}}, "arguments: width is x; it must be a whole number"),
        ({"arguments": {"classes": -1}}, "arguments: classes is -1; it must be 0 or more"),
        ({"network": "seg", "arguments": {"widths": 3}}, "arguments: widths is 3; it must be a list of whole numbers"),
        ({"network": ["m4"]}, "network is .*; it must be text"),
        ({"network": "vnet", "arguments": {"levels": "five"}}, "arguments: levels is five; it must be a whole number"),
        ({"batch": 0}, "batch is 0; it must be 1 or more"),
        ({"batch": 1.5}, "batch is 1.5; it must be a whole number"),
        ({"batch": True}, "batch is True; it must be a whole number"),
        ({"steps": "many"}, "steps is many"),
        ({"learning_rate": "fast"}, "learning_rate is fast; it must be a number"),
        ({"cross_fit": "yes"}, "cross_fit is yes; it must be true or false"),
        ({"centres": [1, 0]}, "centres is .*; it must be a list of 3 numbers"),
        ({"hu_scale": 0}, "hu_scale is 0; it must be more than 0"),
        ({"network": "ua_mt", "ema": 1.5}, "ema is 1.5; it must be 1 or less"),
        ({"patch": 8}, "patch is 8; it must be 16 or more"),
        ({"network": "seg", "patch": 40}, "patch is 40; a multiple of 4 from 44 on"),
        ({"network": "mt_ctl", "patch": [8, 16, 16], "arguments": {"levels": 2}}, "patch is .*at least 16 voxels"),
        ({"network": "vnet", "patch": [40, 48, 48]}, "patch is .*multiples of 16"),
        ({"network": "vnet", "patch": 48}, "patch is 48; it must be a list of 3 whole numbers"),
        ({"network": "mt_ctl", "parts": ["magic"]}, "c.yaml: parts: magic is not one of"),
        ({"folds": 1}, "folds is 1; it must be 2 or more"),
        ({"initialise": 3}, "initialise is 3; it must be text, or nothing"),
        ("steps: [1\nbatch: 2", "c.yaml, line 2: this is not YAML"),
        ("- 1", "c.yaml: it must be settings"),
        ("m4", "c.yaml: it must be settings"),
    ],
)
def test_every_error_is_one_line_with_file_and_key(tmp_path, settings, said):
    with pytest.raises(SystemExit, match=said) as raised:
        methods.load(written(tmp_path, settings))
    assert "\n" not in str(raised.value)


def test_a_missing_config_is_told(tmp_path):
    with pytest.raises(SystemExit, match="none.yaml is missing"):
        methods.load(tmp_path / "none.yaml")
    with pytest.raises(SystemExit, match="none.yaml is missing"):
        methods.load(written(tmp_path, {}), tmp_path / "none.yaml")


def test_errors_name_the_file_that_says_it(tmp_path):
    config, budget = (
        written(tmp_path, {"network": "m3"}),
        written(tmp_path, {"steps": 5, "networks": {"m3": {"momentum": 1}}}, "b.yaml"),
    )
    with pytest.raises(SystemExit, match="b.yaml: momentum is a setting of hasan2021"):
        methods.load(config, budget)
    with pytest.raises(SystemExit, match="^--set: unknown setting stepz"):
        methods.load(config, None, {"stepz": 3})


def test_what_is_written_like_a_number_is_one(tmp_path):
    config = methods.load(written(tmp_path, "learning_rate: 1e-3\nsteps: 2e3\nbatch: 2.0\ncentres: [1e-1, 0, 1]"))
    assert (config.learning_rate, config.steps, config.batch, config.centres) == (1e-3, 2000, 2, (0.1, 0.0, 1.0))
    assert isinstance(config.steps, int) and isinstance(config.batch, int)
    with pytest.raises(FrozenInstanceError):
        config.steps = 3


def test_later_layers_override_earlier_ones(tmp_path):
    config = written(
        tmp_path, {"network": "m3", "steps": 1, "batch": 1, "seed": 1, "arguments": {"width": 4, "classes": 3}}
    )
    budget = written(
        tmp_path,
        {"steps": 2, "batch": 2, "evaluation": {"samples": 3}, "networks": {"m3": {"batch": 3}, "m4": {"batch": 9}}},
        "b.yaml",
    )
    found = methods.load(
        config, budget, methods.changes_of(["batch=4", "learning_rate=1e-3", "arguments.width=16", "initialise=null"])
    )
    assert (found.steps, found.batch, found.seed, found.learning_rate, found.initialise) == (2, 4, 1, 1e-3, None)
    assert found.arguments == {"width": 16, "classes": 3}
    for word in ("batch", "=3", "centres.x=3"):
        with pytest.raises(SystemExit, match="--set"):
            methods.changes_of([word])


def test_the_method_is_told_by_the_network_or_said(tmp_path):
    assert methods.config().network == "m4" and methods.config(network="vnet").method == "hasan2021"
    assert methods.config(network="vnet", method="eatonrosen2018").method == "eatonrosen2018"
    for name, module in methods.METHODS.items():
        assert module.__name__.endswith(name) and name == module.Config.METHOD
        for network in module.Config.NETWORKS:
            config = methods.config(method=name, network=network)
            assert config.method == name and set(config.network_arguments()) and config.patch_fault() is None
            assert (
                methods.config(**config.plain()) == config
                and yaml.safe_load(yaml.safe_dump(config.plain())) == config.plain()
            )


def test_run_folders_of_earlier_versions_are_read(tmp_path):
    """50 keys of five methods, and `task: organs` of a V-Net that segments organs in CT."""
    old = {
        "network": "vnet",
        "task": "organs",
        "arguments": {"classes": 8, "levels": 4, "width": 8},
        "fold": 2,
        "cross_fit": True,
        "patch": 48,
        "hu_scale": 200.0,
        "beta": 0.5,
        "bending": 0.5,
        "optimiser": "adam",
        "ema": 0.99,
        "labelled": 16,
        "centres": [0.45, 0.2, 0.35],
        "dice": 0.5,
        "dice_until": 0.8,
        "steps": 77,
    }
    found = methods.of_run(written(tmp_path, old, "config.yaml").parent)
    assert (found.method, found.patch, found.dice, found.steps, found.fold) == ("eatonrosen2018", 48, 0.5, 77, 2)
    (tmp_path / "split.json").write_text("{}", encoding="utf-8")  # a config.yaml of a run is a config
    assert methods.load(tmp_path / "config.yaml") == found and found.changed(found.plain()) == []
    (tmp_path / "split.json").unlink()
    with pytest.raises(SystemExit, match="config.yaml: .* is a setting of"):
        methods.load(tmp_path / "config.yaml")
    few = methods.of_run(written(tmp_path, old | {"task": None, "patch": [48, 40, 32]}, "config.yaml").parent)
    assert few.method == "hasan2021" and few.patch == (48, 40, 32) and few.labelled == 16


def test_shipped_configs_and_budgets_are_read():
    assert len(YAMLS) > 40
    for path in YAMLS:
        if path not in BUDGETS:
            config = methods.load(path)
            assert path.parent.parent.name == "studies" or path.parent.name == config.method
            for budget in (b for b in BUDGETS if b.parent == path.parent):
                methods.load(path, budget)
    for module in methods.METHODS.values():
        for network in module.Config.NETWORKS:
            assert (ROOT / "methods" / module.Config.METHOD / f"{network}.yaml").is_file()


def test_settings_are_listed(capsys):
    for name, module in methods.METHODS.items():
        assert command.main(["settings", name]) == 0
        text = capsys.readouterr().out
        for f in module.Config.settings():
            assert f.metadata["meaning"] and re.search(rf"^{f.name} .*{re.escape(f.metadata['meaning'])}", text, re.M)
        assert all(f"arguments of {n}: " in text for n in module.Config.NETWORKS)
    assert command.main(["settings", "cross_stitch"]) == 0 and "arguments of seg" not in capsys.readouterr().out
    assert command.main(["settings"]) == 0 and "kaushik2022" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="did you mean bragman2018"):
        command.main(["settings", "bragman2081"])


def test_what_all_share_is_said_once():
    shared = {f.name for f in Config.settings()}
    assert {
        "seed",
        "folds",
        "fold",
        "cross_fit",
        "steps",
        "batch",
        "patch",
        "learning_rate",
        "schedule",
        "precision",
    } <= shared
    for module in methods.METHODS.values():
        assert shared < {f.name for f in module.Config.settings()}


@pytest.mark.parametrize("more, said", [(["--device", "cuda"], "no GPU"), (["--set", "batch=0"], "^--set: batch is 0")])
def test_train_tells_it_before_it_begins(tmp_path, more, said, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=said):
        command.main(
            [
                "train",
                "--prepared",
                str(tmp_path),
                "--config",
                str(written(tmp_path, {})),
                "--out",
                str(tmp_path / "run"),
                *more,
            ]
        )
    assert not (tmp_path / "run").exists()


def test_configs_that_pages_name_are_there():
    root = ROOT.parent
    pages = [root / "README.md", *ROOT.rglob("*.md"), *(root / "Resources").rglob("*.md")]
    named = {n for page in pages for n in re.findall(r"training/[\w/.-]+\.yaml", page.read_text(encoding="utf-8"))}
    assert len(named) > 10 and [n for n in sorted(named) if not (root / n).is_file()] == []


@pytest.mark.parametrize("method", methods.METHODS)
def test_what_a_readme_points_at_is_there(method):
    """`file.py:name` and links in the README of a method; lines would rot, names are looked up."""
    readme = ROOT / "methods" / method / "README.md"
    text = readme.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert link.startswith("http") or (readme.parent / link).exists(), link
    named = re.findall(r"`([\w/.]+\.py):([\w.]+)`", text)
    assert len(named) > 8
    for file, name in named:
        places = [
            p
            for p in (readme.parent / file, ROOT / file, ROOT.parent / "RTUncertainty" / "rtuncertainty" / file)
            if p.is_file()
        ]
        assert places, f"{file} is nowhere"
        source = places[0].read_text(encoding="utf-8")
        for part in name.split("."):
            assert re.search(rf"^\s*(def|class) {part}\b|^\s*{part}\b[^=\n]*=|^\s*{part}: ", source, re.M), (
                f"{file} has no {name}"
            )
    for yaml_file in re.findall(r"`([\w/.-]+\.yaml)`", text):
        assert (readme.parent / yaml_file).exists() or (ROOT / yaml_file).exists(), yaml_file
