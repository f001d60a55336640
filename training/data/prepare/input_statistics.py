"""What images a model was trained on, as its card's `input.statistics` keeps it: see
`rtuncertainty.bundles.input_quality`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rtuncertainty.bundles import input_quality

# fewer images tell nothing of what is usual
LEAST = 3


def of_images(images: Iterable[tuple]) -> dict | None:
    """The card's entry from (volume [z, y, x] as the network sees it, body (bool), spacing (x, y, z; mm)) of every
    training image.

    Each image's histogram is held against those of the others. None for fewer than `LEAST`.
    """
    found, quantiles = [], []
    for volume, body, spacing in images:
        found.append(input_quality.statistics(volume, body, spacing))
        quantiles.append(input_quality.quantiles(volume, body))
    if len(found) < LEAST:
        return None
    own = np.array(quantiles)
    for number, measures in enumerate(found):
        measures["histogram"] = input_quality.histogram_distance(own[number], np.delete(own, number, 0).mean(0))
    ranges = {}
    for name in input_quality.MEASURES:
        values = np.array([m[name] for m in found])
        values = values[np.isfinite(values)]
        if values.size < LEAST:
            continue
        evened = input_quality.evened(name, values)
        ranges[name] = {
            "mean": round(float(evened.mean()), 5),
            "sd": round(float(evened.std(ddof=1)), 5),
            "range": [float(f"{v:.4g}") for v in (values.min(), values.max())],
        }
    return {"cases": len(found), "quantiles": [round(float(v), 4) for v in own.mean(0)], "measures": ranges}


def of_cases(cases: Iterable) -> dict | None:
    """Of prepared cases (`data.case.Case`)."""
    return of_images((c.mr, c.body, c.spacing) for c in cases)


def of_scans(scans: Iterable) -> dict | None:
    """Of prepared scans (`data.scan.Scan`); of those that are cropped to an organ all counts."""
    return of_images((s.image, np.ones(s.image.shape, bool) if s.body is None else s.body, s.spacing) for s in scans)


def of_organs(cases: Iterable) -> dict | None:
    """Of prepared CTs or MRs with organs (`data.organ_case.OrganCase`); of several sequences the first."""
    return of_images((c.image, c.body, c.spacing) for c in cases)


def of_pairs(pairs: Iterable) -> dict | None:
    """Of the daily CTs of pairs (`data.pair_case.PairCase`), one of each patient."""
    from rtuncertainty.core.ct import normalised

    seen: set[str] = set()

    def images():
        for p in pairs:
            if p.patient not in seen:
                seen.add(p.patient)
                yield normalised(p.daily), p.body, p.spacing

    return of_images(images())
