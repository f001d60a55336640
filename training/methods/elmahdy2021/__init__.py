"""Seg, Reg, JRS-reg, Dense, SEDD, Cross-stitch: registration and segmentation (Elmahdy 2021); see README.md."""

from .config import Elmahdy2021 as Config


def make_task(config: Config):
    """The Lightning module."""
    from .task import JointTask

    return JointTask(config)


def make_feed(prepared, config: Config):
    """The pairs of scans, split, and patches of them."""
    from .feed import PairFeed

    return PairFeed(prepared, config)
