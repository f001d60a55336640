"""RTUncertainty's backend: predictions with uncertainty, in any Python with torch, numpy, scipy and SimpleITK.

`predict(image, bundle, …)` and `propagate(planning, structures, daily, bundle, …)` are the jobs. torch is loaded when
it is first used, not by importing this package.
"""

__version__ = "0.1.0"

_LAZY = {
    "predict": "prediction.predict",
    "Prediction": "prediction.predict",
    "propagate": "propagation.job",
    "commission": "commissioning.run",
    "monitor": "commissioning.watch",
    "Propagation": "propagation.result",
    "collect": "foreign.job",
    "read_card": "bundles.bundle",
    "list_bundles": "bundles.bundle",
    "broken_bundles": "bundles.bundle",
    "CancelToken": "core.events",
    "digital_limb": "phantoms.limb",
    "digital_pelvis": "phantoms.pelvis",
}
__all__ = sorted([*_LAZY, "__version__"])


def __getattr__(name):
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
