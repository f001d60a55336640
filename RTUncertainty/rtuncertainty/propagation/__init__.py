"""Planning CT and structures to a daily CT: see `job.propagate`. Names are loaded when they are used."""

from ..core.lazy import exports

__all__, __getattr__, __dir__ = exports(__name__, {"Propagation": "result", "propagate": "job"})
