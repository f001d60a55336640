"""Learning from few labels: one loop (`loop`), one module for each method, and what the adversarial ones add (`adversary`)."""

METHODS = ("vnet", "ua_mt", "sassnet", "mt_ctl")


def build(hyper: dict):
    """The Lightning module of the method `hyper["network"]`."""
    if hyper["network"] == "ua_mt":
        from .ua_mt import UAMT as Task
    elif hyper["network"] == "sassnet":
        from .sassnet import SASSNet as Task
    elif hyper["network"] == "mt_ctl":
        from .mt_ctl import MTCTLTask as Task
    else:
        from .loop import FewLabels as Task
    return Task(hyper)
