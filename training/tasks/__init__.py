"""How each network is trained: `build(hyper)` gives its Lightning module."""


def build(hyper: dict):
    """The Lightning module for the config `hyper` of a run (see training/train.py: DEFAULTS)."""
    from .highres import HighResTask
    from .roi_focused import RoiFocusedTask

    return (RoiFocusedTask if hyper["network"].endswith(("tn", "tn-gl", "tn-fl")) else HighResTask)(hyper)
