"""1TN-GL, 1TN-FL, 2TN, 3TN: synthetic CT with its focus on bone (Kaushik 2022); see README.md."""

from .config import Kaushik2022 as Config


def make_task(config: Config):
    """The Lightning module."""
    from .task import RoiFocusedTask

    return RoiFocusedTask(config)


def make_feed(prepared, config: Config):
    """The patients, split, and patches of them."""
    from ...data.slice_feed import SliceFeed

    return SliceFeed(prepared, config)
