"""V-Net, UA-MT, SASSNet, MT-CTL: learning from few labels (Hasan & Linte 2021); see README.md."""

from .config import Hasan2021 as Config


def make_task(config: Config):
    """The Lightning module: what all share is `task.FewLabels`, which by itself is the V-Net.

    Args:
        config: `Hasan2021`.

    Returns:
        Of the method that trains `config.network`.
    """
    if config.network == "ua_mt":
        from .ua_mt import UAMT as Task
    elif config.network == "sassnet":
        from .sassnet import SASSNet as Task
    elif config.network == "mt_ctl":
        from .mt_ctl import MTCTLTask as Task
    else:
        from .task import FewLabels as Task
    return Task(config)


def make_feed(prepared, config: Config):
    """The scans, labelled and unlabelled, split, and crops of them."""
    from .feed import FewLabelsFeed

    return FewLabelsFeed(prepared, config)
