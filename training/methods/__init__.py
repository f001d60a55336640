"""How each network is trained: `build(hyper)` gives its Lightning module, `feed(hyper, prepared)` what it is trained on."""

from .hasan2021 import METHODS as FEW_LABELS

ORGANS = ("hr_default", "hr_drop_last", "hr_drop_all", "hr_hetero")
JOINT = ("seg", "reg", "jrs_reg", "dense", "sedd", "cross_stitch")


def learns_organs(hyper: dict) -> bool:
    """Whether a config segments organs in CT, of which some were not drawn: the four networks of Eaton-Rosen 2018, or a V-Net with `task: organs`."""
    return hyper["network"] in ORGANS or hyper.get("task") == "organs"


def build(hyper: dict):
    """The Lightning module for the config `hyper` of a run (see training/run/train.py: DEFAULTS)."""
    if learns_organs(hyper):
        from .eatonrosen2018.task import OrganTask as Task
    elif hyper["network"] in FEW_LABELS:
        from .hasan2021 import build as Task
    elif hyper["network"] in JOINT:
        from .elmahdy2021.task import JointTask as Task
    elif hyper["network"].endswith(("tn", "tn-gl", "tn-fl")):
        from .kaushik2022.task import RoiFocusedTask as Task
    else:
        from .bragman2018.task import HighResTask as Task
    return Task(hyper)


def feed(hyper: dict, prepared):
    """The patients of a run, split, and the patches that are drawn of them.

    Raises `SystemExit` where `prepared` holds nothing to train on.
    """
    if learns_organs(hyper):
        from .eatonrosen2018.feed import VolumeFeed as Feed
    elif hyper["network"] in FEW_LABELS:
        from .hasan2021.feed import FewLabelsFeed as Feed
    elif hyper["network"] in JOINT:
        from .elmahdy2021.feed import PairFeed as Feed
    else:
        from ..data.slice_feed import SliceFeed as Feed
    return Feed(prepared, hyper)
