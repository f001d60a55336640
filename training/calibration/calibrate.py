"""From the rows of a network's volumes to what its card says of them."""

from __future__ import annotations

import json
from pathlib import Path

from rtuncertainty.uncertainty.fit import volume_card
from rtuncertainty.uncertainty.fit.quality import BAD

from ..core.files import replace_text
from .rows import read_rows


def into_evaluation(rows: Path, evaluation: Path, method: str | None = None, limit: float = BAD) -> Path:
    """Write the calibration that rows.json gives into an evaluation.json, from which `export` makes the card; returns
    it. `method` and `limit` (a Dice below is bad): see `volume_card.fit`.

    Raises `SystemExit` when the two are of different weights.
    """
    found, made = (json.loads(p.read_text(encoding="utf-8")) for p in (rows, evaluation))
    if found.get("weights_sha256") != made["weights_sha256"]:
        raise SystemExit(f"{rows} and {evaluation} are of different weights; evaluate again.")
    if "scored" in made and "scored" not in found:
        raise SystemExit(f"{rows} does not say whom it scored; run 'python -m training evaluate' again.")
    if "scored" in made:
        made["scored"] |= found["scored"]
    fitted = volume_card.fit(read_rows(rows), method, limit, training=found.get("training"))
    made["calibration"] |= fitted.as_card()
    if found.get("input_statistics"):
        made["input_statistics"] = found["input_statistics"]
    return replace_text(evaluation, json.dumps(made, indent=1, ensure_ascii=False, allow_nan=False))
