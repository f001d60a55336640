"""Peak memory of `predict` at T = 5 and T = 50, and of a large volume; each run in a process of its own.

`python Testing/benchmarks/memory.py [--large]`: --large adds a 512 × 512 × 200 volume with T = 2 (some minutes).
"""

import argparse
import subprocess
import sys
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[2] / "RTUncertainty"
CODE = """
import resource, sys, time
sys.path.insert(0, {library!r})
from rtuncertainty import phantom, prediction, runtime
runtime.prepare()
limb = phantom.digital_limb(1, size={size}, spacing={spacing})
started = time.time()
prediction.predict(limb.mr, "limb-t1-synct", samples={samples}, device="cpu")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.time() - started)
"""


def peak(size, spacing, samples):
    """(peak resident MiB, seconds) of one prediction."""
    code = CODE.format(library=str(LIBRARY), size=size, spacing=spacing, samples=samples)
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout.split()
    return float(out[-2]), float(out[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--large", action="store_true")
    args = parser.parse_args()
    few, _ = peak((160, 160, 24), (1.0, 1.0, 3.0), 5)
    many, _ = peak((160, 160, 24), (1.0, 1.0, 3.0), 50)
    print(f"160 × 160 × 24: peak {few:.0f} MiB at T = 5, {many:.0f} MiB at T = 50, ratio {many / few:.3f}")
    if args.large:
        size, seconds = peak((512, 512, 200), (0.9, 0.9, 2.0), 2)
        print(f"512 × 512 × 200, T = 2: peak {size / 1024:.1f} GiB, {seconds / 60:.0f} min")


if __name__ == "__main__":
    main()
