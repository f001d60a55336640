"""From HU to what beams feel: mass density by a table, electron density and proton stopping power by the tissue that
has this density.

The default table is that of Schneider, Bortfeld and Schlegel, Phys Med Biol 45:459 (2000), as it is used in Monte Carlo
codes: air, fat, soft tissue and bone, linear in between. Its branch for connective tissue (23 to 100 HU) is left out:
it jumps down by 4 % at 100 HU, and without it the lines of soft tissue and bone meet, at 24 HU. HU depend on the
scanner and its tube voltage: replace the table by your own.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtuncertainty.core.errors import InputError

# mean Z/A of tissues and their density in g/cm³: Hubbell and Seltzer, NIST XCOM table 2 (air, and ICRU 44 lung,
# adipose, muscle, cortical bone)
_WATER_Z_A = 0.55508
_Z_A = ((0.0012, 0.49919), (0.26, 0.55048), (0.95, 0.55579), (1.05, 0.55000), (1.92, 0.51478))
# MeV, in the middle of what a treatment uses; stopping power relative to water changes by less than 0.5 % from 50 to
# 200 MeV
PROTON_MEV = 100.0
COLUMNS = ("hu", "density", "electron_density", "stopping_power")


@dataclass(frozen=True)
class Table:
    """HU against density. Linear in between, constant beyond the ends.

    Attributes:
        hu: rising.
        density: mass density, g/cm³.
        electron_density, stopping_power: relative to water; None: they follow from the mass density.
        name: for messages.
    """

    hu: tuple[float, ...]
    density: tuple[float, ...]
    electron_density: tuple[float, ...] | None = None
    stopping_power: tuple[float, ...] | None = None
    name: str = "a table"

    def mass_density(self, hu) -> np.ndarray:
        """Mass density of HU, g/cm³."""
        return np.interp(hu, self.hu, self.density).astype(np.float32)

    def relative(self, hu, modality: str) -> np.ndarray:
        """What a beam's depth is counted in.

        Args:
            hu: any shape.
            modality: electron density for "photon", stopping power for "proton".

        Returns:
            float32, relative to water.
        """
        given = self.electron_density if modality == "photon" else self.stopping_power
        if given is not None:
            return np.interp(hu, self.hu, given).astype(np.float32)
        density = self.mass_density(hu)
        return (relative_electron_density if modality == "photon" else relative_stopping_power)(density)


SCHNEIDER = Table(
    (-1000.0, -98.0, 14.0, 24.0, 1600.0, 3000.0), (0.00121, 0.93, 1.03, 1.0312, 1.9642, 2.793), name="Schneider 2000"
)


def relative_electron_density(density: np.ndarray) -> np.ndarray:
    """Electrons per volume of tissues.

    Args:
        density: mass density, g/cm³.

    Returns:
        float32, relative to water.
    """
    densities, ratios = zip(*_Z_A)
    return (density * np.interp(density, densities, ratios) / _WATER_Z_A).astype(np.float32)


def relative_stopping_power(density: np.ndarray) -> np.ndarray:
    """Stopping power for protons of tissues.

    The fit of Fippel and Soukup, Med Phys 31:2263 (2004), for protons of `PROTON_MEV`; linear from lung to fat and from
    air to lung.

    Args:
        density: mass density, g/cm³.

    Returns:
        float32, relative to water.
    """
    density = np.asarray(density, np.float64)

    def fitted(rho):
        return 1.0123 - 3.386e-5 * PROTON_MEV + 0.291 * (1 + PROTON_MEV**-0.3421) * (rho**-0.7 - 1)

    light = np.interp(density, (0.0012, 0.26, 0.9), (0.8815, 0.9925, fitted(0.9)))
    return (density * np.where(density >= 0.9, fitted(np.maximum(density, 0.9)), light)).astype(np.float32)


def read_table(path) -> Table:
    """A table of densities.

    Args:
        path: a CSV file with the columns hu and density (g/cm³), and where wanted electron_density and stopping_power
            (relative to water).

    Returns:
        The table.

    Raises:
        InputError: a file that cannot be read, unknown columns, fewer than two rows, HU that do not rise, and negative
            values.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(line for line in file if line.strip() and not line.startswith("#"))
            names = [n.strip() for n in reader.fieldnames or ()]
            reader.fieldnames = names
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read as a table of densities: {getattr(error, 'strerror', None) or error}."
        ) from error
    if names[:2] != list(COLUMNS[:2]) or not set(names) <= set(COLUMNS):
        raise InputError(
            f"{path}: its columns are {', '.join(names) or 'none'}; give hu, density and, if you like, "
            f"{' and '.join(COLUMNS[2:])}."
        )
    columns = {}
    for name in names:
        try:
            columns[name] = tuple(float(r[name]) for r in rows)
        except (TypeError, ValueError):
            raise InputError(
                f"{path}: column {name} holds an entry that is no number; give a number in every row."
            ) from None
        if not all(map(math.isfinite, columns[name])):
            raise InputError(f"{path}: column {name} holds an entry that is not finite; give a number in every row.")
    if len(rows) < 2 or np.any(np.diff(columns["hu"]) <= 0):
        raise InputError(f"{path}: needs two rows or more with rising HU.")
    if any(min(columns[n]) < 0 for n in names[1:]):
        raise InputError(f"{path}: holds a negative density; give densities in g/cm³ and relative to water.")
    return Table(**columns, name=path.name)
