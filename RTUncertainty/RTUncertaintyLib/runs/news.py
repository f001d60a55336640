"""Who wants to know of a new run in the scene: a run of the Python console shows in the panel that is open."""

from __future__ import annotations

from collections.abc import Callable

_listeners: list[Callable] = []


def listen(listener: Callable) -> None:
    """Call `listener(run)` for every run that is put into the scene from now on."""
    if listener not in _listeners:
        _listeners.append(listener)


def forget(listener: Callable) -> None:
    """Call it no more."""
    if listener in _listeners:
        _listeners.remove(listener)


def announce(run) -> None:
    """A run was put into the scene."""
    for listener in list(_listeners):
        listener(run)
