"""A plan made on a CT: fields shaped to the target, scaled to the prescription, and the same fields on any other
volume.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from rtuncertainty.core.errors import InputError
from rtuncertainty.dose import dvh

from .density import Table
from .grid import SCATTER_MM, DoseGrid
from .patient import AIR, Patient
from .plan import PHOTON, TARGET, Plan


@dataclass
class Delivery:
    """Fields with their monitor units or spot weights, as they were made on the CT; `dose` gives what they deliver
    elsewhere.
    """

    plan: Plan
    table: Table
    grid: DoseGrid
    patient: Patient
    fields: Any  # PhotonFields or ProtonFields, once they are made
    body: torch.Tensor  # bool, on the grid
    ct_dose: torch.Tensor = field(default=None)  # Gy, on the grid

    def volume(self, hu: np.ndarray) -> torch.Tensor:
        """An image [z, y, x] in HU of the patient's grid as the beams' medium on the dose grid, float32."""
        air = float(self.table.relative(AIR, self.plan.modality))
        return self.grid.averaged(self.table.relative(self.patient.ready(hu), self.plan.modality), air)

    def dose(self, volumes: torch.Tensor, batch: int = 1) -> torch.Tensor:
        """Doses [t, z, y, x] in Gy of all fractions on media [t, z, y, x] (see `volume`); nothing outside of the
        body.
        """
        return self.fields.dose(volumes, batch) * self.body


def planned(plan: Plan, patient: Patient, target, table: Table, device="cpu", tell=None) -> Delivery:
    """Make the plan on the patient's CT.

    target: a region (`rtuncertainty.dose.structure_region`). tell: called with the fraction of spots (protons) that are
    done. Raises `InputError` for a target without a voxel or outside of the patient, an isocentre outside of the
    patient, a target too large for a field, too deep or with too many spots, and one that the fields give no dose.
    """
    if target.empty:
        raise InputError(f"the target {target.reason}; give a structure with a volume.")
    box = target.box()
    isocentre = (box.min(0) + box.max(0)) / 2 if plan.isocentre == TARGET else np.array(plan.isocentre)
    grid = DoseGrid(patient.grid, patient.body, isocentre, box, plan.grid_mm, SCATTER_MM + plan.margin_mm)
    delivery = Delivery(plan, table, grid, patient, None, grid.averaged(patient.body, 0.0) > 0.5)
    inside = (target.fraction(grid.image) > 0.5) & delivery.body.numpy()
    inside[: grid.inside.start] = inside[grid.inside.stop :] = False
    if not inside.any():
        raise InputError(
            "the target fills no dose voxel inside of the patient; give structures of this patient, or a smaller "
            "grid_mm in the plan."
        )
    medium = delivery.volume(patient.ct)
    middles = grid.isocentre + grid.spacing * (
        np.argwhere(inside)[:, ::-1] - np.array(grid.isocentre_mm)[::-1] / grid.spacing
    )
    if plan.modality == PHOTON:
        from .photon import PhotonFields

        delivery.fields = PhotonFields(plan, grid, middles, device)
    else:
        from .proton import ProtonFields

        delivery.fields = ProtonFields(plan, grid, inside, medium, delivery.body, device, tell)
    delivery.body = delivery.body.to(device)
    dose = delivery.dose(medium[None])[0]
    found = dvh.of_region(grid.dose_image(dose), target)
    half = float(found.dose_at_volume(50))
    if not half > 0:
        raise InputError("the fields give the target no dose; look at the isocentre and the beams of the plan.")
    factor = plan.prescription_gy / half
    delivery.fields.scale(factor)
    delivery.ct_dose = dose * factor
    return delivery
