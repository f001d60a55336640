"""M1, M2a, M2b, M3, M4: synthetic CT, organs and their uncertainty from slices (Bragman 2018); see README.md."""

from .config import Bragman2018 as Config


def make_task(config: Config):
    """The Lightning module."""
    from .task import HighResTask

    return HighResTask(config)


def make_feed(prepared, config: Config):
    """The patients, split, and patches of them."""
    from ...data.slice_feed import SliceFeed

    return SliceFeed(prepared, config)
