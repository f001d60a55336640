"""RTUncertainty's backend: predictions with uncertainty, in any Python with torch, numpy, scipy and SimpleITK.

`predict(image, bundle, …)` and `propagate(planning, structures, daily, bundle, …)` are the jobs. torch is loaded when it is first used, not by importing this package.
"""

__version__ = "0.1.0"

_LAZY = {"predict": "prediction", "Prediction": "prediction", "propagate": "propagation.job", "Propagation": "propagation.result", "read_card": "bundle", "list_bundles": "bundle",
         "CancelToken": "events", "digital_limb": "phantom", "digital_pelvis": "phantom_pelvis"}
__all__ = sorted([*_LAZY, "__version__"])


def __getattr__(name):
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
