"""HR-default, -drop-last, -drop-all, -hetero: organs with calibrated volumes (Eaton-Rosen 2018); see README.md."""

from .config import EatonRosen2018 as Config


def make_task(config: Config):
    """The Lightning module."""
    from .task import OrganTask

    return OrganTask(config)


def make_feed(prepared, config: Config):
    """The scans, split, and patches of them."""
    from .feed import VolumeFeed

    return VolumeFeed(prepared, config)
