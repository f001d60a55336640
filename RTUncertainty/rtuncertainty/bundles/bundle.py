"""Bundles: a folder with `model.json` (the card) and the weights. Nothing in a bundle is ever executed.

Reading a card needs no torch; `load` does.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from ..core.ct import window_of
from ..core.errors import InputError
from ..core.structures import unions as union_of
from . import card as card_check

FORMAT = 1
REQUIRED = (
    "name",
    "version",
    "title",
    "task",
    "architecture",
    "input",
    "outputs",
    "dropout",
    "training",
    "accuracy",
    "calibration",
    "intended_use",
    "licence",
    "weights",
)


def search_path() -> list[Path]:
    """Folders in which bundles are looked for by name: those in RTU_MODELS, then the extension's own."""
    given = [Path(p) for p in os.environ.get("RTU_MODELS", "").split(os.pathsep) if p]
    here = Path(__file__).resolve()
    # in the source tree, in an installed extension (…/qt-scripted-modules/rtuncertainty), in a wheel (see setup.py)
    own = [
        here.parents[3] / "Resources" / "Models",
        here.parents[2] / "Resources" / "Models",
        here.parents[1] / "models",
    ]
    return given + own


def missing_folders() -> list[str]:
    """A line for each folder in RTU_MODELS that is none."""
    given = [p for p in os.environ.get("RTU_MODELS", "").split(os.pathsep) if p]
    return [f"RTU_MODELS: {p} is no folder; no model is looked for there." for p in given if not Path(p).is_dir()]


def find(model) -> Path:
    """The folder of a bundle.

    Args:
        model: name in its card, name of its folder, or a path.

    Returns:
        The folder with the model.json.

    Raises:
        InputError: there is none.
    """
    path = Path(model)
    if (path / "model.json").is_file():
        return path
    for folder in search_path():
        for inner in sorted(folder.glob("*/model.json")):
            if _name_in(inner) == str(model):
                return inner.parent
        if str(model) and (folder / str(model) / "model.json").is_file():
            return folder / str(model)
    known = ", ".join(c["name"] for c in list_bundles()) or "none"
    raise InputError(
        " ".join(
            [
                f"model '{model}' is neither a folder with a model.json nor one of the known names ({known}).",
                *missing_folders(),
            ]
        )
    )


def read_card(folder) -> dict:
    """The card of a bundle, checked.

    Args:
        folder: of the bundle.

    Returns:
        What model.json says, and "folder".

    Raises:
        InputError: names the file and what is wrong in it.
    """
    path = Path(folder) / "model.json"
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: a bundle is a folder with a model.json and its weights.") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a model card: {error}.") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        version = card.get("format") if isinstance(card, dict) else None
        raise InputError(
            f"{path}: card format {version!r} is unknown to this version, which reads format {FORMAT}; "
            "update RTUncertainty or use another model."
        )
    missing = [k for k in REQUIRED if k not in card]
    if missing:
        raise InputError(f"{path}: the card lacks {', '.join(missing)}.")
    wrong = card_check.fault(card)
    if wrong:
        raise InputError(f"{path}: {wrong}; copy the bundle again, or correct the card.")
    return {**card, "folder": str(Path(folder).resolve())}


def _name_in(file: Path) -> str | None:
    """The name in a card that is whole."""
    try:
        return read_card(file.parent)["name"]
    except InputError:
        return None


def _bundles() -> tuple[dict[str, dict], dict[str, str], list[dict]]:
    """(name → card, folder → fault, cards of a name that was there before) of all bundles on the search path."""
    cards: dict[str, dict] = {}
    hidden: list[dict] = []
    faults: dict[str, str] = {}
    for folder in search_path():
        for path in sorted(folder.glob("*/model.json")):
            try:
                card = read_card(path.parent)
            except InputError as error:
                faults[str(path.parent)] = str(error)
            else:
                if cards.setdefault(card["name"], card)["folder"] != card["folder"]:
                    hidden.append(card)
    return cards, faults, hidden


def list_bundles() -> list[dict]:
    """The cards of all bundles on the search path, by name; of the others `broken_bundles` says what is wrong."""
    cards = _bundles()[0]
    return [cards[k] for k in sorted(cards)]


def broken_bundles() -> dict[str, str]:
    """Folders on the search path whose card cannot be used, each with its fault in one line."""
    return _bundles()[1]


def hidden_bundles() -> list[dict]:
    """The cards of bundles whose name another one has that comes before them on the search path."""
    return _bundles()[2]


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def uncalibrated(card: dict) -> dict:
    """The card without its calibration: of a result that was made in another way than it was fitted on."""
    return card | {"calibration": dict.fromkeys(card["calibration"])}


def deforms(card: dict) -> bool:
    """Whether a model of two scans gives a deformation; one that only segments the daily scan (Seg) does not."""
    return bool(((card.get("outputs") or {}).get("deformation") or {}).get("given", True))


def refinement(card: dict) -> str:
    """How a propagation is refined unless the user says otherwise: fast, and full where no network begins it."""
    return "full" if card["architecture"]["name"] == card_check.REGISTRATION else "fast"


def load(folder, device="cpu"):
    """The networks of a bundle; weights are checked against the card's SHA-256.

    Args:
        folder: of the bundle.
        device: of torch.

    Returns:
        (card, list of networks in evaluation mode on `device`, one for each checkpoint; of a card without a network it
        holds None).

    Raises:
        InputError: weights that are missing, truncated, changed, not finite, or do not fit the architecture.
    """
    import torch

    from .. import networks

    card = read_card(find(folder))
    if card["architecture"]["name"] == card_check.REGISTRATION:
        return card, [None]
    name = card["weights"].get("file", "")
    path = Path(card["folder"]) / Path(name).name
    if not path.is_file():
        raise InputError(f"{path} is missing: the card names it as the model's weights; copy the whole bundle again.")
    if sha256(path) != card["weights"].get("sha256"):
        raise InputError(
            f"{path} is not the file that the card describes (its SHA-256 differs): it is truncated or was "
            "changed; copy the bundle again from where you had it."
        )
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "the file is empty")
        raise InputError(f"{path} cannot be read as weights: {reason.split('. ')[0][:200]}.") from error
    checkpoints = stored.get("checkpoints") if isinstance(stored, dict) else None
    if (
        not isinstance(checkpoints, list)
        or not checkpoints
        or not all(
            isinstance(s, dict)
            and all(isinstance(v, torch.Tensor) and bool(torch.isfinite(v).all()) for v in s.values())
            for s in checkpoints
        )
    ):
        raise InputError(f"{path} holds no weights, or some that are NaN or infinite; export the model again.")
    built = []
    for state in checkpoints:
        network = networks.build(card["architecture"]["name"], **card["architecture"]["arguments"])
        try:
            network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
        except RuntimeError as error:
            raise InputError(
                f"{path} does not fit the architecture of its card: {str(error).splitlines()[1].strip()}"
            ) from error
        network.window = window_of(card["input"].get("normalisation"))
        network.unions = union_of(card["outputs"]["structures"])
        volumetric = any(p.dim() == 5 for p in network.parameters())
        built.append(
            network.eval().to(device, memory_format=torch.preserve_format if volumetric else torch.channels_last)
        )
    return card, built
