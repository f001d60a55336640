"""Names of a package that are loaded when they are used, so that importing the package imports neither torch nor an
optional library.
"""

from __future__ import annotations

import importlib


def exports(package: str, where: dict[str, str]):
    """(`__all__`, `__getattr__`, `__dir__`) of `package` (its `__name__`); `where`: name → the module of the package
    that has it.
    """
    names = sorted(where)

    def find(name: str):
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f".{where[name]}", package), name)

    return names, find, lambda: names
