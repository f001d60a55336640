"""Networks by name: `build("m4", classes=3, width=16)`. Names and default sizes are the papers'."""

from __future__ import annotations

import importlib

from ..core.errors import InputError

# name -> (module, class): modules are imported on demand, so that listing names needs no torch
REGISTRY = {
    "m1": ("highresnet", "M1"),
    "m2a": ("highresnet", "M2a"),
    "m2b": ("highresnet", "M2b"),
    "m3": ("highresnet", "M3"),
    "m4": ("highresnet", "M4"),
    "1tn-gl": ("atrous", "OneTask"),
    "1tn-fl": ("atrous", "OneTask"),
    "2tn": ("atrous", "TwoTask"),
    "3tn": ("atrous", "ThreeTask"),
    "seg": ("joint", "Seg"),
    "reg": ("joint", "Reg"),
    "jrs_reg": ("joint", "Reg"),
    "dense": ("joint", "Dense"),
    "sedd": ("joint", "Sedd"),
    "cross_stitch": ("joint", "CrossStitchNetwork"),
    "hr_default": ("highres3d", "HRDefault"),
    "hr_drop_last": ("highres3d", "HRDropLast"),
    "hr_drop_all": ("highres3d", "HRDropAll"),
    "hr_hetero": ("highres3d", "HRHetero"),
    "vnet": ("vnet", "VNet"),
    "mt_ctl": ("mt_ctl", "MTCTL"),
}


def names() -> list[str]:
    """The names that `build` knows."""
    return sorted(REGISTRY)


def build(name: str, **arguments):
    """The network `name` as a `torch.nn.Module`; `arguments` override the paper's sizes.

    Raises `InputError` for an unknown name or unknown arguments.
    """
    if name not in REGISTRY:
        raise InputError(f"network '{name}' is unknown; known are {', '.join(names())}.")
    module, cls = REGISTRY[name]
    network = getattr(importlib.import_module(f".{module}", __name__), cls)
    try:
        return network(**arguments)
    except TypeError as error:
        raise InputError(f"network '{name}' cannot be built with {arguments}: {error}.") from error
