"""T = 20 samples of a 3-D network that segments, against one pass of it and against 20, on the same work.

Prints ratios of one run: `python Testing/benchmarks/volumetric.py [--edge 40] [--repeat 2] [--width 24 --features 96]`.
Times are of the processor, which other programs disturb least. HR-drop-last must come out below 2: it computes its
features once.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "RTUncertainty"))

import torch  # noqa: E402

from rtuncertainty import networks
from rtuncertainty.sampling import volumes  # noqa: E402


def clock(work, repeat):
    """The least of several times, in seconds."""
    best = float("inf")
    for _ in range(repeat):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--edge", type=int, default=40, help="voxels of the cube")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--features", type=int, default=96)
    parser.add_argument("--networks", nargs="+", default=["hr_drop_last", "hr_hetero", "hr_drop_all"])
    args = parser.parse_args()
    x = torch.randn(1, 1, *[args.edge] * 3)
    for name in args.networks:
        network = networks.build(name, in_channels=1, classes=8, width=args.width, features=args.features).eval()
        one = clock(lambda: network(x).logits.softmax(1), args.repeat)
        drawn = clock(lambda: volumes.sample([network], x, args.samples, 0), args.repeat)
        print(
            f"{name}, {args.edge}³ voxels, T = {args.samples}, {torch.get_num_threads()} threads: samples with all "
            "moments and entropies take "
            f"{drawn / one:.2f} of one pass ({one:.2f} s), {drawn / one / args.samples:.3f} of {args.samples} passes",
            flush=True,
        )


if __name__ == "__main__":
    main()
