"""Commissioning: a site's own patients to its calibration (`site.json`), limits and a document; and the watch on drift
afterwards.

The seam to other tools' results: `of_result` takes any `rtuncertainty.results.Result` and a `Reference` and makes one
patient's `Evidence`; `conclude` makes of several the site's calibration and the recommendation.
"""

from __future__ import annotations

from ..core import lazy

__all__, __getattr__, __dir__ = lazy.exports(
    __name__,
    {
        "commission": "run",
        "conclude": "run",
        "Commissioned": "run",
        "of_result": "evidence",
        "Evidence": "evidence",
        "Reference": "evidence",
        "monitor": "watch",
    },
)
