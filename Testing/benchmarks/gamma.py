"""The gamma index against pymedphys: the same pairs, processor seconds of one thread each, and the pass rates.

`python Testing/benchmarks/gamma.py --pymedphys PYTHON [--finer 2]`, where PYTHON is an interpreter that has pymedphys
and numba (see Testing/backend/make_gamma_reference.py); without it only our own times are printed.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "RTUncertainty"), str(ROOT / "Testing" / "backend")]
os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

import SimpleITK as sitk  # noqa: E402
from make_gamma_reference import pairs  # noqa: E402

from rtuncertainty.dose.gamma import gamma  # noqa: E402

SCRIPT = ROOT / "Testing" / "backend" / "make_gamma_reference.py"


def image(dose, axes):
    """A dose [z, y, x] on even axes (z, y, x) as an image."""
    out = sitk.GetImageFromArray(dose)
    out.SetSpacing([float(a[1] - a[0]) for a in reversed(axes)])
    out.SetOrigin([float(a[0]) for a in reversed(axes)])
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pymedphys", metavar="PYTHON", help="an interpreter that has pymedphys")
    parser.add_argument(
        "--finer", type=int, default=2, help="with so many times as many voxels along every edge (default 2)"
    )
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    for name, p in pairs(args.finer).items():
        doses = image(p.dose, p.axes), image(p.evaluated, p.axes_evaluated)
        best = float("inf")
        for _ in range(args.repeat):
            started = time.process_time()
            found = gamma(*doses, p.dose_percent, p.distance_mm, cutoff=p.cutoff, local=p.local, max_gamma=p.max_gamma)
            best = min(best, time.process_time() - started)
        told = f"{name}: {found.evaluated} voxels, {found.pass_rate():.2f} % pass, {best:.2f} s"
        if args.pymedphys:
            command = [args.pymedphys, str(SCRIPT), "--time", name, "--finer", str(args.finer)]
            theirs = min(
                float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8").stdout)
                for _ in range(args.repeat)
            )
            told += f"; pymedphys {theirs:.2f} s, ratio {best / theirs:.3f}"
        print(told, flush=True)


if __name__ == "__main__":
    main()
