"""Scanned proton fields by pydosert's pencil-beam engine, with spot weights fitted to a uniform dose of the target."""

from __future__ import annotations

import math

import numpy as np
import torch
from pydosert import IonBeamletBatch, IonDoseEngine, IonMachineConfig
from pydosert.geometry.bev import build_bev_sampling_grid
from pydosert.physics import IonKernelTable
from scipy import ndimage, sparse

from rtuncertainty.core.errors import InputError

from .grid import DoseGrid
from .photon import quiet
from .plan import Plan

TABLE = "protons_doserad"
# half a window around a spot in mm; sub-beams of a spot per direction (pydosert: fewer make its core too narrow)
WINDOW_MM, SUB_BEAMS = 24.0, 9
# spots that are computed at a time, and the most of a plan: memory and patience
CHUNK, MOST_SPOTS = 64, 12_000
# beyond the target's edges in water-equivalent mm, so that the last layer's fall-off lies outside of it
RANGE_MARGIN_MM = 3.0
# the fit: steps, the rim (mm) around the target that should get little, and how much that counts
STEPS, RIM_MM, RIM_WEIGHT = 400, (10.0, 20.0), 0.01
# protons of a spot while its dose is being fitted; weights are this many
UNIT = 1e8


class ProtonFields:
    """The spots of a proton plan; see `fit` for their weights, which are protons in all fractions together.

    Args:
        plan: what is asked for.
        grid: of the dose.
        target: bool [z, y, x] on the grid.
        volume: the stopping powers [z, y, x] that the spots are placed and fitted on, the CT's.
        body: bool [z, y, x] on the grid.
        device: of torch.
        tell: called with the fraction of spots that are done.

    Raises:
        InputError: a target too deep or with too many spots.
    """

    modality = "proton"

    def __init__(
        self,
        plan: Plan,
        grid: DoseGrid,
        target: np.ndarray,
        volume: torch.Tensor,
        body: torch.Tensor,
        device="cpu",
        tell=None,
    ):
        self.table = IonKernelTable.load(TABLE, device=device, dtype=torch.float32)
        machine = IonMachineConfig()
        # pydosert has no range shifter: the depths of its kernels are moved by the water in front, through the same
        # term as air is
        self.ssd_mm = (
            plan.range_shifter_mm / 0.0011 + self.table.sad_mm - machine.bams_to_iso_dist_mm + machine.fit_air_offset_mm
        )
        self.body, self.device, self.tell = body.to(device), torch.device(device), tell or (lambda fraction: None)
        window = [min(2 * math.ceil(WINDOW_MM / grid.spacing), n) for n in (grid.shape[0], grid.shape[2])]
        self.engine = IonDoseEngine(
            machine,
            self.table,
            (grid.spacing,) * 3,
            grid.shape,
            window,
            n_sub_beams_per_dim=SUB_BEAMS,
            beamlet_chunk_size=CHUNK,
        )
        self.spots = self._placed(plan, grid, target, volume.cpu())
        self.fit(target, volume, grid.spacing)

    def _layers(self, distance: float) -> list[tuple[float, float]]:
        """(energy in MeV, depth of its peak in mm of water) of the machine's energies, about `distance` apart."""
        chosen: list[np.ndarray] = []
        for energy in reversed(self.table.available_energies):
            curves = self.table.row_curves(energy)
            peak = float(curves["depth_mm"][int(curves["idd"].argmax())])
            if not chosen or chosen[-1][1] - peak >= distance - 0.5:
                chosen.append((energy, peak))
        return chosen

    def _placed(self, plan, grid, target, volume) -> IonBeamletBatch:
        """Spots on a square lattice of each beam's eye view, in the layers that the target and its margins need
        there.
        """
        layers, found = self._layers(plan.layer_spacing_mm), []
        step = grid.spacing
        reach = int(plan.margin_mm // step)
        z, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
        disc = ((z * z + x * x) * step * step <= plan.margin_mm**2)[:, None, :]
        lattice = [
            plan.spot_spacing_mm
            * np.arange(-math.ceil(n * step / plan.spot_spacing_mm), math.ceil(n * step / plan.spot_spacing_mm) + 1)
            for n in (grid.shape[0], grid.shape[2])
        ]
        deepest = layers[0][1] - plan.range_shifter_mm
        for gantry in plan.beams:
            places = build_bev_sampling_grid(grid.shape, (step,) * 3, [math.radians(gantry)], grid.isocentre_mm)
            power, seen = (_turned(v, places) for v in (volume, torch.from_numpy(target.astype(np.float32))))
            depth = (np.cumsum(power, 1) - power / 2) * step
            wide = ndimage.binary_dilation(seen > 0.5, disc)
            for along in lattice[0]:
                row = round((grid.isocentre_mm[0] + along) / step)
                for across in lattice[1]:
                    column = round((grid.isocentre_mm[2] + across) / step)
                    if not (0 <= row < grid.shape[0] and 0 <= column < grid.shape[2]) or not wide[row, :, column].any():
                        continue
                    there = depth[row, wide[row, :, column], column]
                    if there.max() > deepest:
                        raise InputError(
                            f"the target lies {there.max():.0f} mm of water deep at gantry angle {gantry:g}, but the "
                            "machine's protons reach "
                            f"{deepest:.0f} mm; choose other angles, or a smaller range_shifter_mm in the plan."
                        )
                    low, high = there.min() - RANGE_MARGIN_MM, there.max() + RANGE_MARGIN_MM
                    found += [
                        (gantry, across, along, e) for e, peak in layers if low <= peak - plan.range_shifter_mm <= high
                    ]
        if not found:
            raise InputError(
                "no energy of the machine stops in the target; give another range_shifter_mm or smaller "
                "layer_spacing_mm in the plan."
            )
        if len(found) > MOST_SPOTS:
            raise InputError(
                f"the plan would have {len(found)} spots, more than {MOST_SPOTS}; give a larger spot_spacing_mm or "
                "layer_spacing_mm."
            )
        angles, across, along, energies = map(list, zip(*found))
        sigmas = [float(self.table.initial_sigma(e, self.table.sad_mm)) for e in energies]
        return IonBeamletBatch.create(
            gantry_angle_deg=angles,
            position_mm=list(zip(across, along)),
            energy_mev=energies,
            sigma_mm=sigmas,
            weight=[UNIT] * len(found),
            iso_center_mm=grid.isocentre_mm,
            sad_mm=self.table.sad_mm,
            device=self.device,
        )

    def fit(self, target: np.ndarray, volume: torch.Tensor, step: float) -> None:
        """Fits the weights, none negative, that come nearest to 1 Gy in the target and little in a rim around it; spots
        without any are dropped.

        Least squares by accelerated projected gradients.

        Args:
            target: bool [z, y, x] on the grid.
            volume: stopping powers [z, y, x].
            step: edge of a voxel, mm.
        """
        away = ndimage.distance_transform_edt(~target) * step
        rim = (away > RIM_MM[0]) & (away <= RIM_MM[1])
        chosen = np.flatnonzero((target | rim).ravel())
        wanted = target.ravel()[chosen].astype(np.float32)
        importance = np.where(wanted > 0, 1.0, math.sqrt(RIM_WEIGHT * target.sum() / max(rim.sum(), 1))).astype(
            np.float32
        )
        matrix = sparse.diags(importance) @ self._influence(volume, chosen)
        weights = _nonnegative(matrix.tocsr(), wanted * importance)
        kept = np.flatnonzero(weights > 1e-3 * weights.max()).tolist()
        self.spots = self.spots[kept]
        self.spots.weight.copy_(torch.from_numpy(weights[kept]) * UNIT)

    def _influence(self, volume, chosen) -> sparse.csc_matrix:
        """The dose of each spot in the `chosen` voxels (flat indices), Gy per `UNIT` protons."""
        row_of = np.full(int(np.prod(self.engine.dose_grid_shape)), -1, np.int64)
        row_of[chosen] = np.arange(len(chosen))
        row_of = row_of.reshape(self.engine.dose_grid_shape)
        rows, columns, values = [], [], []
        for start, _, some in self.spots.chunks(CHUNK):
            self.tell(start / len(self.spots))
            with quiet():
                doses = self.engine.compute_dose(
                    some, volume.to(self.device), self.body, ssd_mm=self.ssd_mm, return_per_beamlet=True
                )
            for number, found in enumerate(doses, start):
                if found is None:
                    continue
                dose = found.dose[0].cpu().numpy()
                at = row_of[tuple(slice(o, o + n) for o, n in zip(found.offset, dose.shape))]
                used = (at >= 0) & (dose > 1e-4 * dose.max())
                rows.append(at[used])
                values.append(dose[used])
                columns.append(np.full(len(rows[-1]), number))
        shape = (len(chosen), len(self.spots))
        if not rows:
            return sparse.csc_matrix(shape, dtype=np.float32)
        return sparse.csc_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=shape)

    def scale(self, factor: float) -> None:
        """Multiplies all weights by a factor."""
        self.spots.weight.mul_(factor)

    def dose(self, volumes: torch.Tensor, batch: int = 1) -> torch.Tensor:
        """Doses on some media.

        Args:
            volumes: relative stopping power [t, z, y, x].
            batch: has no effect, the engine takes one at a time.

        Returns:
            Gy [t, z, y, x].
        """
        with quiet():
            found = [
                self.engine.compute_dose(self.spots, v.to(self.device), self.body, ssd_mm=self.ssd_mm)[0]
                for v in volumes
            ]
        return torch.stack(found)

    def as_dict(self) -> dict:
        """What was delivered: the number of spots, and of each its angle, place in mm (across, along), energy in MeV
        and protons.
        """
        s = self.spots
        rows = zip(s.gantry_angle_deg.tolist(), s.position_mm.tolist(), s.energy_mev.tolist(), s.weight.tolist())
        return {
            "spots": len(s),
            "columns": ["gantry", "across_mm", "along_mm", "energy_mev", "protons"],
            "rows": [[round(a, 3), *(round(v, 2) for v in p), round(e, 3), round(w)] for a, p, e, w in rows],
        }


def _turned(volume: torch.Tensor, places: torch.Tensor) -> np.ndarray:
    """A volume [z, y, x] in a beam's eye view, [z, depth, across]."""
    slices = volume[:, None]
    return torch.nn.functional.grid_sample(slices, places.expand(len(slices), -1, -1, -1), align_corners=False)[
        :, 0
    ].numpy()


def _nonnegative(matrix, wanted: np.ndarray) -> np.ndarray:
    """x ≥ 0 near to the least of |Ax − b|², by FISTA with a step from power iteration."""
    v = np.ones(matrix.shape[1])
    for _ in range(30):
        v = matrix.T @ (matrix @ (v / np.linalg.norm(v)))
    step = 1 / (1.05 * np.linalg.norm(v))
    x = y = np.full(matrix.shape[1], 1e-3)
    t = 1.0
    for _ in range(STEPS):
        following = np.maximum(y - step * (matrix.T @ (matrix @ y - wanted)), 0)
        t_following = (1 + math.sqrt(1 + 4 * t * t)) / 2
        y = following + (t - 1) / t_following * (following - x)
        x, t = following, t_following
    return x
