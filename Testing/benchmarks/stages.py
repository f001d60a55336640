"""Where the time of a whole `predict` goes: 256 × 256 × 80 digital limb, T = 20, files and all.

`python Testing/benchmarks/stages.py [--size 256 256 80] [--samples 20]`.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "RTUncertainty"))

from rtuncertainty.core import runtime  # noqa: E402
from rtuncertainty.jobs import prediction as job
from rtuncertainty.phantoms import limb

runtime.prepare()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--size", type=int, nargs=3, default=(256, 256, 80))
    parser.add_argument("--samples", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        limb.write_limb(Path(folder) / "in", 1, size=tuple(args.size), spacing=(0.9, 0.9, 3.0))
        out = job.predict_to_folder(
            Path(folder) / "in" / "mr.nii.gz", "limb-t1-synct", Path(folder) / "out", samples=args.samples, device="cpu"
        )
        seconds = json.loads((out / "summary.json").read_text(encoding="utf-8"))["seconds"]
    total = sum(seconds.values())
    print(
        f"{'×'.join(map(str, args.size))}, T = {args.samples}: {total:.0f} s; "
        + ", ".join(f"{k} {v / total:.1%}" for k, v in seconds.items())
    )
    print(f"outside of the network: {1 - seconds['network'] / total:.1%}")


if __name__ == "__main__":
    main()
