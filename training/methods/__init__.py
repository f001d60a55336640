"""The five methods: settings, task (a Lightning module), feed (patients and patches); how YAML becomes settings.

`training/methods/METHOD/__init__.py` has `Config`, `make_task(config)` and `make_feed(prepared, config)`.
"""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from ..core.config import Config, meant, type_name
from . import bragman2018, eatonrosen2018, elmahdy2021, hasan2021, kaushik2022

# hasan2021 before eatonrosen2018: a V-Net is the former's where no method is named
METHODS = {m.Config.METHOD: m for m in (bragman2018, kaushik2022, elmahdy2021, hasan2021, eatonrosen2018)}
# what a budget says to the experiment besides: how to evaluate, and what all networks begin with (run/common_start.py)
OF_THE_STUDY = ("evaluation", "common")
# the network of a config that names none
DEFAULT = bragman2018.Config.NETWORKS[0]


def build(config: Config):
    """The Lightning module of a training.

    Args:
        config: of any method.

    Returns:
        A `core.task.Task` with a network to be trained.

    Raises:
        InputError: arguments that the network has not.
        ValueError: arguments that it cannot have.
    """
    return METHODS[config.method].make_task(config)


def feed(prepared: Path, config: Config):
    """The patients of a run, split, and patches of them.

    Args:
        prepared: the prepared folder.
        config: of any method.

    Returns:
        What the method's `make_feed` gives.

    Raises:
        SystemExit: there is nothing to train on.
    """
    return METHODS[config.method].make_feed(prepared, config)


def config(**given) -> Config:
    """Settings from Python: `config(network="m4", steps=100)`.

    Args:
        **given: as YAML has them.

    Returns:
        Of the method that trains the network.

    Raises:
        SystemExit: as of `load`.
    """
    return _read(given, dict.fromkeys(given, "settings"))


def load(path: Path, budget: Path | None = None, changes: dict | None = None) -> Config:
    """Settings from YAML files.

    Args:
        path: the config; what it does not say is at its default. A run folder's config.yaml is one too.
        budget: YAML of what several networks share and, in `networks: {NAME: settings}`, of what is one network's own;
            it overrides the config.
        changes: what overrides both, see `changes_of`.

    Returns:
        Of the method that trains the network.

    Raises:
        SystemExit: in one line with file and key, for a setting that nobody knows or that another method has, and for a
            value that it cannot have.
    """
    given = _yaml(path)
    if (path.parent / "split.json").exists() and path.name == "config.yaml":
        given = _of_run(given)
    files = dict.fromkeys(given, str(path))
    layers: list[tuple[dict, str]] = []
    if budget is not None:
        common = {k: v for k, v in _yaml(budget).items() if k not in OF_THE_STUDY}
        sized = _mapping(common.pop("networks", None) or {}, budget)
        own = _mapping(sized.get(str(given.get("network", DEFAULT))) or {}, budget)
        layers = [(common, str(budget)), (own, str(budget))]
    for settings, file in (*layers, (changes or {}, "--set")):
        for key, value in settings.items():
            name, _, inner = key.partition(".")
            if inner:  # one argument of the network
                value = {**_mapping(given.get(name) or {}, file), inner: value}
            given[name], files[name] = value, file
    return _read(given, files)


def changes_of(words: list[str] | None) -> dict:
    """`--set KEY=VALUE …` as a dict; "arguments.width" is one argument of the network.

    Args:
        words: what the command line has, or None.

    Returns:
        {KEY: value}.

    Raises:
        SystemExit: a word without "=", or a value that YAML cannot read.
    """
    found = {}
    for word in words or []:
        key, equals, value = word.partition("=")
        if not equals or not key or ("." in key and not key.startswith("arguments.")):
            raise SystemExit(f"--set {word}: give it as KEY=VALUE or arguments.KEY=VALUE.")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise SystemExit(f"--set {word}: the value is not one that YAML can read.") from None
    return found


def table(name: str | None = None) -> str:
    """What `python -m training settings` prints: settings of a method, with type, default and meaning, and its
    networks' arguments.

    Args:
        name: a method or a network; None: what methods there are.

    Returns:
        Lines of text.

    Raises:
        SystemExit: a name that is none.
    """
    if name is None:
        return "\n".join(f"{method:<16} {', '.join(m.Config.NETWORKS)}" for method, m in METHODS.items())
    method = method_of(name, name)
    if method is None:
        known = [*METHODS, *dict.fromkeys(n for m in METHODS.values() for n in m.Config.NETWORKS)]
        raise SystemExit(f"{name} is no method and no network; known are {', '.join(known)}{meant(name, known)}.")
    made = METHODS[method].Config.read({})
    rows = [("setting", "type", "default", "meaning")]
    for f in made.settings():
        choices = ", ".join(f.metadata["choices"])
        meaning = f.metadata["meaning"] + (f" ({choices})" if choices else "")
        rows.append((f.name, type_name(f.type), json.dumps(made.plain()[f.name]), meaning))
    lines = [f"{a:<20} {b:<28} {c:<18} {d}" for a, b, c, d in rows]
    for network in made.NETWORKS if name == method else (name,):
        lines.append(f"arguments of {network}: " + ", ".join(f"{k}={v}" for k, v in made.arguments_of(network).items()))
    return "\n".join(lines)


def of_run(run: Path) -> Config:
    """Settings of a run folder, by whatever version it was begun: what an earlier one wrote of others is left out.

    Args:
        run: the folder.

    Returns:
        Of the run's method.

    Raises:
        SystemExit: as of `load`.
    """
    file = run / "config.yaml"
    given = _of_run(_yaml(file))
    return _read(given, dict.fromkeys(given, str(file)))


def method_of(network: str, method: str | None = None) -> str | None:
    """The method that trains a network.

    Args:
        network: its name.
        method: the one wanted, where it is one; or a card's `training.method`, which says "organs" of what learnt
            organs in CT.

    Returns:
        Its name; the first that has the network where `method` is none; None where nobody has it.
    """
    if method in METHODS:
        return method
    if method == "organs":
        return "eatonrosen2018"
    return next((name for name, m in METHODS.items() if network in m.Config.NETWORKS), None)


def file_of(name: str) -> Path:
    """The YAML of a network by its name, as its paper has it: `training/methods/METHOD/NAME.yaml`."""
    return Path(__file__).parent / str(method_of(name)) / f"{name}.yaml"


def _read(given: dict, files: dict[str, str]) -> Config:
    given = dict(given)
    for key in ("method", "network", "task"):
        if not isinstance(given.get(key, ""), (str, type(None))):
            raise SystemExit(f"{files[key]}: {key} is {given[key]}; it must be text.")
    # of an earlier version: {task: organs, network: vnet}
    method, old, network = given.get("method"), given.pop("task", None), given.get("network")
    if old not in (None, "organs"):
        raise SystemExit(
            f"{files['task']}: task '{old}' is not one of organs; say method: one of {', '.join(METHODS)}."
        )
    if method is not None and method not in METHODS:
        raise SystemExit(
            f"{files['method']}: method '{method}' is not one of {', '.join(METHODS)}{meant(method, METHODS)}."
        )
    names = [n for m in METHODS.values() for n in m.Config.NETWORKS]
    method = method or ("eatonrosen2018" if old else method_of(DEFAULT if network is None else network))
    if method is None:
        raise SystemExit(
            f"{files['network']}: network '{network}' is unknown{meant(network, names)}; "
            f"known are {', '.join(dict.fromkeys(names))}."
        )
    config = METHODS[method].Config
    known = [f.name for f in config.settings()]
    for key in given:
        if key not in known:
            whose = [n for n, m in METHODS.items() if key in {f.name for f in m.Config.settings()}]
            if whose:
                raise SystemExit(f"{files[key]}: {key} is a setting of {' and '.join(whose)}, not of {method}.")
            raise SystemExit(
                f"{files[key]}: unknown setting {key}{meant(key, known)}; "
                f"'python -m training settings {method}' lists them."
            )
    return config.read(given, files)


def _of_run(given: dict) -> dict:
    """What a run's config.yaml says of its own method."""
    method = method_of(given.get("network", ""), given.get("method") or given.get("task"))
    if method is None:
        return given
    known = {f.name for f in METHODS[method].Config.settings()}
    return {k: v for k, v in given.items() if k in known} | {"method": method}


def _yaml(path: Path) -> dict:
    """A YAML file of settings. Raises `SystemExit` for one that is missing or is none."""
    try:
        return _mapping(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, path)
    except OSError:
        raise SystemExit(f"{path} is missing or cannot be read; give a YAML file of settings.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise SystemExit(f"{path}{where}: this is not YAML ({getattr(error, 'problem', None) or error}).") from None


def _mapping(value, file) -> dict:
    if not isinstance(value, dict):
        raise SystemExit(f"{file}: it must be settings, as 'steps: 1000' a line each, and is {str(value)[:40]!r}.")
    return {str(k): v for k, v in value.items()}
