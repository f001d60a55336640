"""What a dose does to structures when it is computed on another image: doses of DVHs, gamma pass rates, and bands
over samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk
import torch

from rtuncertainty.core.errors import InputError
from rtuncertainty.dose import bands, dvh
from rtuncertainty.dose.gamma import ROUNDING, gamma
from rtuncertainty.dose.table import Row, dose_axis
from rtuncertainty.results import tables

LEVEL = 0.9
# percent and mm, both global with a cut-off of 10 %
CRITERIA = ((2.0, 2.0), (3.0, 3.0))
CUTOFF = 10.0
DOSES = ("d98", "davg", "d2")


@dataclass
class Compared:
    """A structure's doses on the CT and on another image (Kaushik 2022, Table III).

    Attributes:
        structure: its name.
        volume_ml: of the structure.
        ct, other: Gy by `DOSES`.
        difference: other − CT, percent of the prescription.
        passed: gamma pass rates inside the structure by `CRITERIA`, percent.
        lower, upper: of the difference over samples.
        calibrated: (lower, upper) of the target's, see `calibrated`.
    """

    structure: str
    volume_ml: float
    ct: dict[str, float]
    other: dict[str, float]
    difference: dict[str, float]
    passed: dict[tuple, float] = field(default_factory=dict)
    lower: dict[str, float] = field(default_factory=dict)
    upper: dict[str, float] = field(default_factory=dict)
    calibrated: dict[str, tuple[float, float]] = field(default_factory=dict)

    def holds(self, dose: str) -> bool | None:
        """Whether the band over samples holds the CT's dose.

        Args:
            dose: of `DOSES`.

        Returns:
            None without a band.
        """
        return self.lower[dose] <= 0 <= self.upper[dose] if self.lower else None


@dataclass
class Comparison:
    """What differs between two doses.

    Attributes:
        structures: those in the dose grid.
        passed: pass rates over the whole dose, percent.
        gamma: image of the first criterion.
        ct_rows, rows: the DVHs.
    """

    structures: list[Compared]
    passed: dict[tuple, float]
    gamma: sitk.Image
    ct_rows: list[Row]
    rows: list[Row]


def doses(found: dvh.Dvh) -> dict[str, float]:
    """D98 %, the mean and D2 % in Gy."""
    return {"d98": float(found.dose_at_volume(98)), "davg": float(found.mean()), "d2": float(found.dose_at_volume(2))}


def rows_of(dose: sitk.Image, regions: dict) -> list[Row]:
    """The DVH of every region in a dose.

    Args:
        dose: Gy.
        regions: by name.

    Returns:
        A row each; one without a DVH has a note that says why.
    """
    rows = []
    for name, region in regions.items():
        if region.empty:
            rows.append(Row(name, note=region.reason))
            continue
        try:
            found = dvh.of_region(dose, region)
        except InputError as error:
            rows.append(Row(name, note=str(error)))
            continue
        outside = 1 - found.covered
        rows.append(
            Row(
                name,
                found,
                note=f"{outside:.1%} of it lie outside of the dose grid and do not count" if outside > 0 else "",
            )
        )
    return rows


def compare(
    ct_dose: sitk.Image, other: sitk.Image, regions: dict, prescription: float, members: list[sitk.Image] = ()
) -> Comparison:
    """Compares doses of one plan, on one grid.

    Args:
        ct_dose: Gy.
        other: Gy.
        regions: by name.
        prescription: Gy.
        members: doses on samples of the other image, for bands of 5 to 95 %.

    Returns:
        What differs.

    Raises:
        InputError: no region lies in the dose grid.
    """
    ct_rows, rows = rows_of(ct_dose, regions), rows_of(other, regions)
    if all(r.dvh is None for r in ct_rows):
        raise InputError("none of the structures lies in the dose grid; give structures of this patient.")
    images, passed = {}, {}
    for percent, distance in CRITERIA:
        found = gamma(ct_dose, other, percent, distance, cutoff=CUTOFF)
        images[percent, distance] = found.values
        passed[percent, distance] = found.pass_rate()
    axis = dose_axis(max(float(r.dvh.dose[0]) for r in [*ct_rows, *rows] if r.dvh is not None))
    compared = []
    for before, after in zip(ct_rows, rows):
        if before.dvh is None or after.dvh is None:
            continue
        region = regions[before.structure]
        one, two = doses(before.dvh), doses(after.dvh)
        made = Compared(
            before.structure, before.dvh.volume_ml, one, two, {d: 100 * (two[d] - one[d]) / prescription for d in DOSES}
        )
        inside = torch.from_numpy(region.fraction(ct_dose) >= 0.5)
        made.passed = {c: _passed(values, inside) for c, values in images.items()}
        if len(members) > 1:
            curves = [dvh.of_region(m, region) for m in members]
            after.band = bands.band(curves, axis, LEVEL, prescription)
            made.lower, made.upper = interval([doses(c) for c in curves], one, prescription)
        compared.append(made)
    first = np.nan_to_num(images[CRITERIA[0]].numpy(), nan=-1.0)
    picture = sitk.GetImageFromArray(first)
    picture.CopyInformation(ct_dose)
    return Comparison(compared, passed, picture, ct_rows, rows)


def _passed(values: torch.Tensor, inside: torch.Tensor) -> float:
    there = values[inside & ~values.isnan()]
    return 100 * float((there <= 1 + ROUNDING).float().mean()) if len(there) else math.nan


def interval(found: list[dict], ct: dict, prescription: float) -> tuple[dict, dict]:
    """5 and 95 % of the members' doses minus the CT's.

    Args:
        found: `doses` of each member.
        ct: `doses` of the CT.
        prescription: Gy.

    Returns:
        (lower, upper), each by name of the dose, percent of the prescription.
    """
    ends = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    quantiles = {
        d: np.quantile([100 * (f[d] - ct[d]) / prescription for f in found], ends, method="hazen") for d in DOSES
    }
    return {d: float(q[0]) for d, q in quantiles.items()}, {d: float(q[1]) for d, q in quantiles.items()}


def table(found: Comparison) -> str:
    """`comparison.csv` as text: a row for each structure, and one, "(dose above 10 %)", for the pass rates over all of
    the dose.

    Args:
        found: what differs.

    Returns:
        CSV.
    """
    banded, calibrated = any(c.lower for c in found.structures), any(c.calibrated for c in found.structures)
    head = ["structure", "volume_ml"]
    for d in DOSES:
        head += [f"{d}_ct_gy", f"{d}_synct_gy", f"{d}_difference_rx_percent"]
        head += [f"{d}_difference_lower", f"{d}_difference_upper", f"{d}_band_holds_ct"] if banded else []
        head += [f"{d}_calibrated_lower", f"{d}_calibrated_upper"] if calibrated else []
    head += [f"gamma_{p:g}percent_{mm:g}mm_pass_percent" for p, mm in CRITERIA]
    lines = []
    for c in found.structures:
        line = [c.structure, f"{c.volume_ml:.2f}"]
        for d in DOSES:
            line += [f"{c.ct[d]:.3f}", f"{c.other[d]:.3f}", f"{c.difference[d]:.3f}"]
            if banded:
                line += (
                    [f"{c.lower[d]:.3f}", f"{c.upper[d]:.3f}", "yes" if c.holds(d) else "no"]
                    if c.lower
                    else ["", "", ""]
                )
            if calibrated:
                line += [f"{v:.3f}" for v in c.calibrated[d]] if c.calibrated else ["", ""]
        lines.append(line + [f"{c.passed[k]:.2f}" for k in CRITERIA])
    lines.append(
        [f"(dose above {CUTOFF:g} %)"]
        + [""] * (len(head) - 1 - len(CRITERIA))
        + [f"{found.passed[k]:.2f}" for k in CRITERIA]
    )
    return tables.text(head, lines)
