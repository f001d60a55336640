"""The structures of a propagation: the rows of its structures.csv as numbers."""

from __future__ import annotations

from dataclasses import dataclass

from rtuncertainty.core.errors import InputError
from rtuncertainty.results import Result
from rtuncertainty.results.tables import number

LIGHTS = ("red", "amber", "green")
"""Agreement of the two paths, worst first."""
PATHS = ("propagated", "segmented")


@dataclass(frozen=True)
class StructureRow:
    """One structure on the daily scan.

    `volumes` maps a path to (ml, lower, upper), `sd_mm` to the SD of its surface; `dice` and `msd_mm` compare the two
    paths. None stands for what does not apply. `worst_slice` is the index along the third axis of the daily image.
    """

    name: str
    paths: tuple[str, ...]
    default: str
    light: str
    flag: str
    reason: str
    planning_ml: float | None
    volumes: dict[str, tuple]
    sd_mm: dict[str, float | None]
    dice: float | None
    msd_mm: float | None
    worst_slice: int | None


def structure_rows(result: Result, accepted: dict[str, str] | None = None) -> list[StructureRow]:
    """The structures of a result, in the order of its table.

    Args:
        result: of a folder, or of a run in the scene.
        accepted: structure -> the path that the user accepted, which is then the chosen one.

    Raises:
        InputError: a number is none, or a word is one that this version does not know.
    """
    paths = {
        s["name"]: tuple(p for p in PATHS if p in s.get("paths", PATHS[:1]))
        for s in result.summary.get("structures", [])
    }
    file = result.path("structure_table") if result.folder else result.name
    return [
        _row(row, paths.get(row["structure"], PATHS[:1]), file, accepted or {})
        for row in result.table("structure_table")
    ]


def _row(row: dict[str, str], known: tuple[str, ...], file, accepted: dict[str, str]) -> StructureRow:
    name, values = (
        row["structure"],
        {c: number(row, c, file) for c in row if c.endswith(("_ml", "_mm")) or c in ("dice", "worst_slice")},
    )
    if row["light"] not in LIGHTS or row["default"] not in known:
        raise InputError(
            f"{file}: {name} has the light {row['light']!r} and the default {row['default']!r}, which this version "
            "does not know; update RTUncertainty."
        )
    worst = values["worst_slice"]
    return StructureRow(
        name=name,
        paths=known,
        default=accepted[name] if accepted.get(name) in known else row["default"],
        light=row["light"],
        flag=row["flag"],
        reason=row["reason"],
        planning_ml=values["planning_ml"],
        volumes={p: (values[f"{p}_ml"], values[f"{p}_lower_ml"], values[f"{p}_upper_ml"]) for p in known},
        sd_mm={p: values[f"{p}_sd_mm"] for p in known},
        dice=values["dice"],
        msd_mm=values["msd_mm"],
        worst_slice=None if worst is None else int(worst),
    )
