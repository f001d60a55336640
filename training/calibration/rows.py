"""Rows that evaluations write and calibrations read: of volumes, and of the agreement of two contours."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from pathlib import Path

from rtuncertainty.uncertainty.fit.volumes import VolumeRow
from rtuncertainty.uncertainty.volume_distribution import PERCENTILES

from ..core.files import replace_text

FORMAT = 1


def write_rows(rows: list[VolumeRow], path: Path, **more) -> Path:
    """Write rows.json; `more` is stored beside the rows (for example weights_sha256)."""
    plain = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(r).items()} for r in rows]
    return replace_text(
        path, json.dumps({"format": FORMAT, "percentiles": PERCENTILES, **more, "rows": plain}, allow_nan=False)
    )


def read_rows(path: Path) -> list[VolumeRow]:
    """What `write_rows` wrote. Raises `SystemExit` for a file that is missing, damaged, or of other percentiles."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        if found["format"] != FORMAT or tuple(found["percentiles"]) != PERCENTILES:
            raise SystemExit(f"{path} was written by another version; evaluate again.")
        unknown = [f.name for f in fields(VolumeRow) if f.type == "float"]
        return [
            VolumeRow(**{**r, "ml": tuple(r["ml"]), **{k: math.nan for k in unknown if r.get(k) is None}})
            for r in found["rows"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path} is missing or damaged ({error}); evaluate again.") from None


def agreement_rows(found: dict, method: str | None = None) -> list[dict]:
    """Rows for `lights` of what `propagation_eval` wrote: patient, msd_mm and dice (of the two paths), sd_mm,
    true_msd_mm.

    `method`: whose contours, by default the first one's. Without "agreements" (older files, one path) only the spread
    is known.
    """
    rows = found.get("agreements") or []
    rows = [r for r in rows if r["method"] == (method or rows[0]["method"])]
    if not rows:
        rows = [
            {"pair": r["pair"], "sd_mm": r["sd_mm"], "true_msd_mm": r["msd_mm"]}
            for r in found["spreads"]
            if r["path"] == "propagated"
        ]
    return [
        {**r, "patient": r["pair"].rsplit("_day", 1)[0]}
        for r in rows
        if r["true_msd_mm"] is not None and math.isfinite(r["true_msd_mm"])
    ]
