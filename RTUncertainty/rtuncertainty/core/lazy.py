"""Names of a package that are loaded when they are used, so that importing the package imports neither torch nor an
optional library.
"""

from __future__ import annotations

import importlib


def exports(package: str, where: dict[str, str]):
    """What a package needs to load its names when they are used.

    Args:
        package: its `__name__`.
        where: name → the module of the package that has it.

    Returns:
        (`__all__`, `__getattr__`, `__dir__`).
    """
    names = sorted(where)

    def find(name: str):
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f".{where[name]}", package), name)

    return names, find, lambda: names
