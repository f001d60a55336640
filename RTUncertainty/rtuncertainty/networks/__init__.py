"""Networks by name: `build("m4", classes=3, width=16)`. Names and default sizes are the papers'."""

from __future__ import annotations

import importlib

from ..core.errors import InputError

# name -> (module, class): modules are imported on demand, so that listing names needs no torch
REGISTRY = {
    "m1": ("bragman2018", "M1"),
    "m2a": ("bragman2018", "M2a"),
    "m2b": ("bragman2018", "M2b"),
    "m3": ("bragman2018", "M3"),
    "m4": ("bragman2018", "M4"),
    "1tn-gl": ("kaushik2022", "OneTask"),
    "1tn-fl": ("kaushik2022", "OneTask"),
    "2tn": ("kaushik2022", "TwoTask"),
    "3tn": ("kaushik2022", "ThreeTask"),
    "seg": ("elmahdy2021", "Seg"),
    "reg": ("elmahdy2021", "Reg"),
    "jrs_reg": ("elmahdy2021", "Reg"),
    "dense": ("elmahdy2021", "Dense"),
    "sedd": ("elmahdy2021", "Sedd"),
    "cross_stitch": ("elmahdy2021", "CrossStitchNetwork"),
    "hr_default": ("eatonrosen2018", "HRDefault"),
    "hr_drop_last": ("eatonrosen2018", "HRDropLast"),
    "hr_drop_all": ("eatonrosen2018", "HRDropAll"),
    "hr_hetero": ("eatonrosen2018", "HRHetero"),
    "vnet": ("vnet", "VNet"),
    "mt_ctl": ("hasan2021", "MTCTL"),
}


def names() -> list[str]:
    """The names that `build` knows."""
    return sorted(REGISTRY)


def build(name: str, **arguments):
    """A network by its name, with its paper's sizes unless the arguments say otherwise.

    Args:
        name: one of `names`; "1tn_gl" and "1tn_fl" are "1tn-gl" and "1tn-fl".
        **arguments: of the network's class, such as `in_channels`, `classes`, `width`, `dropout`.

    Returns:
        A `torch.nn.Module` with random weights, in training mode.

    Raises:
        InputError: an unknown name or unknown arguments.
    """
    name = name.replace("1tn_", "1tn-")
    if name not in REGISTRY:
        raise InputError(f"network '{name}' is unknown; known are {', '.join(names())}.")
    module, cls = REGISTRY[name]
    network = getattr(importlib.import_module(f".{module}", __name__), cls)
    try:
        return network(**arguments)
    except TypeError as error:
        raise InputError(f"network '{name}' cannot be built with {arguments}: {error}.") from error
