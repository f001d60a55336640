"""Photon fields by pydosert's pencil-beam engine with a depth of its own for every pencil (`PencilDepthEngine`)."""

from __future__ import annotations

import contextlib
import functools
import warnings

import numpy as np
import torch
from pydosert import BeamSequence, MachineConfig, PencilDepthEngine

from rtuncertainty.core.errors import InputError

from . import apertures
from .grid import DoseGrid
from .plan import Plan

# the kernel reaches 48 mm to every side; what scatters farther is missing from all doses alike
KERNEL_MM = 93.0
# water that the machine is calibrated in, mm along (patient, depth, across)
PHANTOM_MM = (186.0, 240.0, 186.0)


@contextlib.contextmanager
def quiet():
    """A context in which no gradient is kept, and pydosert's notes on autocast, which has no effect here, are not
    shown.
    """
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.filterwarnings("ignore", message=".*autocast.*")
        warnings.filterwarnings("ignore", message="CPU Autocast.*")
        yield


def _kernel(spacing: float) -> int:
    return 2 * int(KERNEL_MM / spacing / 2) + 1


def _machine(name: str) -> MachineConfig:
    try:
        return MachineConfig(preset=name)
    except Exception as error:
        raise InputError(f"the machine '{name}' is not known: {' '.join(str(error).split())[:300]}") from error


@functools.lru_cache(maxsize=8)
def calibrated(machine: str, spacing: float) -> float:
    """The energy fluence that gives 1 Gy for the machine's calibration MU, 10 cm deep in water, 10 x 10 cm².

    pydosert calibrates an engine on its own grid; a patient's may be less than 10 cm deep, so water of a fixed size is
    used here.

    Args:
        machine: of pydosert, or the path of its JSON file.
        spacing: of the voxels, mm.

    Returns:
        What pydosert's configuration has as `mean_photon_energy_MeV`.
    """
    config = _machine(machine)
    shape = tuple(int(v / spacing) for v in PHANTOM_MM)
    engine = PencilDepthEngine(config, _kernel(spacing), (spacing,) * 3, shape, device="cpu", dtype=torch.float32)
    with quiet():
        engine.calibrate(verbose=False)
    return float(config.mean_photon_energy_MeV)


class PhotonFields:
    """The fields of a photon plan around a target, ready to give doses.

    `mu`: monitor units [beams] of the whole treatment, at first such that 1 Gy would be given in water; see `scale`.

    Args:
        plan: what is asked for.
        grid: of the dose.
        target: the middles [n, 3] of the dose voxels in the target, LPS, mm.
        device: of torch.
    """

    modality = "photon"

    def __init__(self, plan: Plan, grid: DoseGrid, target: np.ndarray, device="cpu"):
        config = _machine(plan.machine)
        config.mean_photon_energy_MeV = calibrated(plan.machine, grid.spacing)
        count = config.number_of_leaf_pairs
        widths = config.leaf_widths or [apertures.FIELD_MM / count] * count
        self.sequence = BeamSequence.create(
            list(plan.beams),
            count,
            (apertures.FIELD_MM,) * 2,
            grid.isocentre_mm,
            sid=apertures.SOURCE_MM,
            device=device,
            dtype=torch.float32,
            requires_grad=False,
        )
        for number, gantry in enumerate(plan.beams):
            leaves, jaws = apertures.shaped(target, grid.isocentre, gantry, grid.spacing, plan.margin_mm, widths)
            self.sequence.leaf_positions[number] = torch.from_numpy(leaves)
            self.sequence.jaw_positions[number] = torch.from_numpy(jaws)
        weights = torch.tensor(plan.weights or [1.0] * len(plan.beams))
        self.mu = (config.calibration_mu * weights / weights.sum()).to(device)
        self.engine = PencilDepthEngine(
            config,
            _kernel(grid.spacing),
            (grid.spacing,) * 3,
            grid.shape,
            self.sequence,
            device=device,
            dtype=torch.float32,
        )
        with quiet():
            # the fluence depends on the fields alone: made once for all doses
            self.fluence = self.engine.fluence_map_layer(
                self.sequence.leaf_positions[None], self.sequence.jaw_positions[None]
            )[None]

    def scale(self, factor: float) -> None:
        """Multiplies all monitor units by a factor."""
        self.mu = self.mu * factor

    def dose(self, volumes: torch.Tensor, batch: int = 1) -> torch.Tensor:
        """Doses on some media.

        The numbers do not depend on `batch`. On a CPU one at a time is the fastest; a GPU gains from more, and pays
        with memory.

        Args:
            volumes: relative electron density [t, z, y, x].
            batch: how many at a time.

        Returns:
            Gy [t, z, y, x].
        """
        parts = []
        with quiet():
            for some in torch.split(volumes.to(self.mu.device), batch):
                n = len(some)
                parts.append(
                    self.engine.forward(
                        None, self.mu.expand(n, -1), None, some, fluence_maps=self.fluence.expand(n, -1, -1, -1)
                    )
                )
        return torch.cat(parts).clamp(min=0)

    def as_dict(self) -> dict:
        """What was delivered: monitor units, and leaves and jaws in mm of every field."""
        s = self.sequence
        return {
            "mu": [round(float(v), 3) for v in self.mu],
            "leaves_mm": s.leaf_positions.tolist(),
            "jaws_mm": s.jaw_positions.tolist(),
        }
