"""A result in memory whose structures are called as clinics may call them."""

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core.segmentation_file import with_segments
from rtuncertainty.results import Result, tables

NASTY = [
    "GTV, left",
    'he said "GTV"',
    "back\\slash",
    "CTV 50/60",
    "Größe",
    " lead",
    "trail ",
    "=cmd|' /C calc'!A0",
    "-1",
    "@x",
    "a;b:c",
    "..",
    "..\\up",
    "R&D",
    "日本",
    "%20",
    "a=b",
    "<b>&amp;",
    "'",
    "~^|",
    "#1",
]


def result(names) -> Result:
    """A result of `predict` in memory, with these structures side by side."""
    labels = np.zeros((4, 6, 2 * len(names) + 2), np.uint8)
    image = sitk.GetImageFromArray(labels)
    structures = [{"name": n, "label": k, "color": [200, 5 * k, 30], "code": None} for k, n in enumerate(names, 1)]
    for k in range(len(names)):
        labels[1:3, 1:5, 2 * k : 2 * k + 2] = k + 1
    of = {n: sitk.GetImageFromArray((100 * (labels == k)).astype(np.uint8)) for k, n in enumerate(names, 1)}
    table = {
        key: [dict.fromkeys(tables.COLUMNS[key], "1") | {"structure": n, "calibrated": "no"} for n in names]
        for key in ("volumes", "volume_intervals", "quality")
    }
    table["volume_distribution"] = [
        {"structure": n, "percentile": "50", "volume_ml": "1", "calibrated_ml": ""} for n in names
    ]
    table["flags"] = [
        {"subject": n, "severity": "info", "flag": f"about {n}", "reason": f"'{n}', \"{n}\"\nand a second line"}
        for n in names
    ]
    return Result(
        {
            "format": 1,
            "job": "predict",
            "name": "m on x",
            "model": {"name": "m", "version": "1"},
            "structures": structures,
            "notes": [],
        },
        {
            "synct": image + 0,
            "body": image + 1,
            "structures": with_segments(sitk.GetImageFromArray(labels), structures),
            "inside": of,
            "probabilities": of,
            **table,
        },
    )
