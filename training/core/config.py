"""Settings of a training, typed: `Config` has what all methods share; each method's own (`methods/*/config.py`) too.

A setting is a field made by `setting`, which carries its meaning and limits. `Config.read` turns what YAML files say
into one, and names file and key of what is wrong in one line.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import math
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from rtuncertainty import networks


def setting(default, meaning: str, *, choices=(), least=None, most=None, above=None, learnt: bool = True):
    """A field of a `Config`.

    Args:
        default: its value where nothing is said.
        meaning: in one line, with unit and source.
        choices: the words that it may be.
        least: limit of a number.
        most: limit of a number.
        above: limit of a number, which it is not itself.
        learnt: whether it changes what is learnt; a run may go on with another value of one that does not.

    Returns:
        A field of a dataclass.
    """
    metadata = {"meaning": meaning, "choices": choices, "least": least, "most": most, "above": above, "learnt": learnt}
    if isinstance(default, (dict, list)):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def meant(word: str, known) -> str:
    """What somebody may have meant.

    Args:
        word: that is not known.
        known: words that are.

    Returns:
        " (did you mean …?)" where the word is much like one that is known, else empty.
    """
    close = difflib.get_close_matches(str(word), [str(k) for k in known], 1, 0.6)
    return f" (did you mean {close[0]}?)" if close else ""


@dataclass(frozen=True)
class Config:
    """Settings of every training. A method says in `NETWORKS` which networks it trains, its default first."""

    METHOD: ClassVar[str] = ""
    NETWORKS: ClassVar[tuple[str, ...]] = ()
    # networks that are trained under a name of their own → what is built; arguments that the method gives itself
    BUILT: ClassVar[dict[str, str]] = {}
    GIVEN: ClassVar[tuple[str, ...]] = ()

    method: str = setting("", "the paper; told by the network where it is not said")
    network: str = setting("", "which network to train")
    arguments: dict = setting({}, "of the network; the paper's sizes where nothing is said")
    initialise: str | None = setting(None, "a bundle's name or folder, with whose weights to begin")
    seed: int = setting(0, "of weights, patches and dropout", least=0)
    folds: int = setting(5, "parts that the patients are dealt to", least=2)
    fold: int = setting(0, "the part that validates, from 0", least=0)
    cross_fit: bool = setting(False, "deal all patients to the folds even where the data say who validates")
    steps: int = setting(19000, "of the optimiser", least=1)
    batch: int = setting(4, "patches in a step, of all processes together", least=1)
    patch: Any = setting(152, "voxels along an edge", least=1)
    learning_rate: float = setting(2e-3, "the highest one", least=0)
    warm_up: int = setting(100, "steps in which the learning rate rises to it", least=0)
    schedule: str = setting(
        "cosine",
        "of the learning rate: to 1 % of it, as it is, or a tenth after each 5/12 of the steps",
        choices=("cosine", "constant", "steps"),
    )
    validate_every: int = setting(500, "steps", least=1)
    checkpoint_every: int = setting(250, "steps", least=1, learnt=False)
    log_every: int = setting(25, "steps", least=1, learnt=False)
    logger: str = setting(
        "csv",
        "who besides log/metrics.csv is told; mlflow and wandb write where their own variables say, else to the run",
        choices=("csv", "tensorboard", "mlflow", "wandb"),
        learnt=False,
    )
    images_every: int = setting(
        0,
        "validations from one picture of a validation patient to the next, for the logger; 0: none",
        least=0,
        learnt=False,
    )
    kept_steps: tuple[int, ...] = setting(
        (), "earlier steps whose weights go into the bundle of a run beside its last, and share the samples", least=1
    )
    early_stop: int = setting(0, "validations without a better score after which training ends; 0: never", least=0)
    settle_batches: int = setting(
        200, "batches for the final statistics of batch normalisation; 0: the running ones stay", least=0
    )
    precision: str = setting("auto", "16-mixed on a GPU, 32-true on a CPU; or what Lightning knows", learnt=False)
    devices: int = setting(1, "GPUs or processes of a machine", least=1, learnt=False)
    num_nodes: int = setting(1, "machines", least=1, learnt=False)
    workers: int = setting(0, "processes that make patches", least=0, learnt=False)

    @classmethod
    def read(cls, given: dict, files="settings"):
        """The settings of this method, those not given at their defaults. Names must be known: `methods.load` sees to
        it.

        Args:
            given: values as YAML has them, by name.
            files: where they are from, for errors: one place, or one for each name.

        Returns:
            The settings.

        Raises:
            SystemExit: in one line, for a value that there cannot be.
        """
        place = (lambda key: files.get(key, "settings")) if isinstance(files, dict) else (lambda key: files)
        fields = {f.name: f for f in cls.settings()}
        values = {key: _converted(fields[key], value, place(key)) for key, value in given.items()}
        made = cls(**(values | {"method": cls.METHOD, "network": values.get("network") or cls.NETWORKS[0]}))
        if made.fold >= made.folds:
            raise SystemExit(
                f"{place('fold')}: fold {made.fold} is not one of 0 to {made.folds - 1}: there are {made.folds} folds."
            )
        if made.network not in cls.NETWORKS:
            raise SystemExit(
                f"{place('network')}: network '{made.network}' is not one of {', '.join(cls.NETWORKS)}, "
                f"which {cls.METHOD} trains{meant(made.network, cls.NETWORKS)}."
            )
        made.arguments.update(_arguments(made, place("arguments")))
        wrong = made.patch_fault()
        if wrong:
            raise SystemExit(f"{place('patch')}: patch is {made.plain()['patch']}; {wrong}.")
        return made

    @classmethod
    def settings(cls) -> list[dataclasses.Field]:
        """All settings, with the resolved type of each in `type`."""
        return list(_fields(cls))

    @classmethod
    def arguments_of(cls, network: str) -> dict[str, Any]:
        """The arguments that a config may give to a network.

        Args:
            network: its name.

        Returns:
            {name: default}.
        """
        module, name = networks.REGISTRY[cls.BUILT.get(network, network)]
        signature = inspect.signature(getattr(importlib.import_module(f"{networks.__name__}.{module}"), name))
        return {p.name: p.default for p in signature.parameters.values() if p.name not in cls.GIVEN}

    def network_arguments(self) -> dict[str, Any]:
        """See `arguments_of`."""
        return self.arguments_of(self.network)

    @property
    def built_arguments(self) -> dict[str, Any]:
        """The arguments with which what is shipped is built: those that were given, and what a setting adds."""
        return self.arguments

    def patch_fault(self) -> str | None:
        """Why patches of this size cannot be trained on, as a text; None where they can."""
        return None

    def plain(self) -> dict:
        """All settings as YAML holds them."""
        return {f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v for f in self.settings()}

    def changed(self, known: dict) -> list[str]:
        """The settings that changed and change what is learnt.

        Args:
            known: values as `plain` gives them; what an earlier version did not know is at its default.

        Returns:
            Names.
        """
        known = type(self)().plain() | known
        return [f.name for f in self.settings() if f.metadata["learnt"] and known.get(f.name) != self.plain()[f.name]]


@cache
def _fields(cls) -> tuple[dataclasses.Field, ...]:
    hints = get_type_hints(cls)
    found = dataclasses.fields(cls)
    for f in found:
        f.type = hints[f.name]
    return found


def type_name(of) -> str:
    """A type in words: "number", "list of 3 numbers" …"""
    words = {int: "whole number", float: "number", bool: "true or false", str: "text", dict: "mapping", Any: "anything"}
    inner = [a for a in get_args(of) if a is not type(None)]
    if get_origin(of) is tuple:
        return f"list of {words[inner[0]]}s" if inner[-1] is Ellipsis else f"list of {len(inner)} {words[inner[0]]}s"
    if type(None) in get_args(of):
        return f"{type_name(inner[0])}, or nothing"
    return words[of]


def _converted(of: dataclasses.Field, value, file: str):
    """`value` as the type of a setting, within its limits; `SystemExit` otherwise."""
    limits, choices = of.metadata, of.metadata["choices"]
    if choices and value not in choices and isinstance(value, str):
        raise SystemExit(f"{file}: {of.name} '{value}' is not one of {', '.join(choices)}{meant(value, choices)}.")
    try:
        found = _as_type(of.type, value)
        for number in found if isinstance(found, tuple) else [found]:
            _within(limits, number)
    except ValueError as error:
        raise SystemExit(f"{file}: {of.name} is {value}; it must be {error}.") from None
    return found


def _arguments(config: Config, file: str) -> dict:
    """The network's arguments as their defaults' types; `SystemExit` for one that it has not or that cannot be."""
    known, found = config.network_arguments(), {}
    for name, value in config.arguments.items():
        if name not in known:
            raise SystemExit(
                f"{file}: arguments: network '{config.network}' has no {name}{meant(name, known)}; "
                f"it has {', '.join(known)}."
            )
        default = known[name]
        try:
            made = _as_type(tuple[type(default[0]), ...] if isinstance(default, tuple) else type(default), value)
            for number in made if isinstance(made, tuple) else [made]:
                _within({"least": 0, "above": None, "most": None}, number)
        except ValueError as error:
            raise SystemExit(f"{file}: arguments: {name} is {value}; it must be {error}.") from None
        found[name] = list(made) if isinstance(made, tuple) else made
    return found


def _within(limits, number) -> None:
    if isinstance(number, (int, float)) and not isinstance(number, bool):
        if limits["least"] is not None and number < limits["least"]:
            raise ValueError(f"{limits['least']} or more")
        if limits["above"] is not None and not number > limits["above"]:
            raise ValueError(f"more than {limits['above']}")
        if limits["most"] is not None and number > limits["most"]:
            raise ValueError(f"{limits['most']} or less")


def _as_type(of, value):
    """`value` as a setting's type; text written like a number (YAML reads "1e-3" so) is one, or `ValueError`."""
    name, args = type_name(of), get_args(of)
    fits = ValueError(name if name.startswith(("text", "true")) else f"a {name}")
    if type(None) in args:
        try:
            return None if value is None else _as_type(next(a for a in args if a is not type(None)), value)
        except ValueError:
            raise fits from None
    if get_origin(of) is tuple:
        if not isinstance(value, (list, tuple)) or (args[-1] is not Ellipsis and len(value) != len(args)):
            raise fits
        try:
            return tuple(_as_type(args[0], v) for v in value)
        except ValueError:
            raise fits from None
    if of in (int, float):
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise fits from None
        if isinstance(value, bool) or not math.isfinite(number) or (of is int and number != int(number)):
            raise fits
        return of(number)
    if not isinstance(value, of):
        raise fits
    return value
