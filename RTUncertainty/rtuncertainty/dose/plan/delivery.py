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
    """Fields with their monitor units or spot weights, as they were made on the CT.

    Attributes:
        plan: what was asked for.
        table: HU to density.
        grid: of the dose.
        patient: CT and synthetic CT.
        fields: `PhotonFields` or `ProtonFields`, once they are made.
        body: bool [z, y, x] on the grid.
        ct_dose: Gy [z, y, x] on the grid.
    """

    plan: Plan
    table: Table
    grid: DoseGrid
    patient: Patient
    fields: Any
    body: torch.Tensor
    ct_dose: torch.Tensor = field(default=None)

    def volume(self, hu: np.ndarray) -> torch.Tensor:
        """An image as the beams' medium on the dose grid.

        Args:
            hu: [z, y, x] on the patient's grid.

        Returns:
            float32 [z, y, x], relative to water.
        """
        air = float(self.table.relative(AIR, self.plan.modality))
        return self.grid.averaged(self.table.relative(self.patient.ready(hu), self.plan.modality), air)

    def dose(self, volumes: torch.Tensor, batch: int = 1) -> torch.Tensor:
        """Doses of all fractions; nothing outside of the body.

        Args:
            volumes: media [t, z, y, x], see `volume`.
            batch: how many at a time.

        Returns:
            Gy [t, z, y, x].
        """
        return self.fields.dose(volumes, batch) * self.body


def planned(plan: Plan, patient: Patient, target, table: Table, device="cpu", tell=None) -> Delivery:
    """Makes a plan on the patient's CT.

    Args:
        plan: what is asked for.
        patient: whose CT.
        target: a region (`rtuncertainty.dose.structure_region`).
        table: HU to density.
        device: of torch.
        tell: called with the fraction of spots (protons) that are done.

    Returns:
        The fields, scaled to the prescription.

    Raises:
        InputError: a target without a voxel or outside of the patient, an isocentre outside of the patient, a target
            too large for a field, too deep or with too many spots, and one that the fields give no dose.
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
