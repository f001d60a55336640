"""Planning CT and structures to a daily CT: see `job.propagate`. Names are loaded when they are used."""

__all__ = ["Propagation", "propagate"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import job

    return getattr(job, name)
