"""T = 20 samples with the trunk computed once and antithetic masks, against 20 full passes, on the same work.

Prints ratios of one run: `python Testing/benchmarks/sampling.py [--model NAME] [--size 160] [--slices 2] [--repeat 3]`.
Also checks that both ways give the same numbers for the same masks.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "RTUncertainty"))

import torch  # noqa: E402

from rtuncertainty import networks
from rtuncertainty.bundles import bundle
from rtuncertainty.networks.uncertainty import class_probabilities  # noqa: E402
from rtuncertainty.sampling import slices  # noqa: E402


@torch.inference_mode()
def naive(network, x, samples, seed, keep=False):
    """As many full forward passes as samples; returns the mean, and with `keep` uses the sampler's own masks."""
    total, probabilities = 0, 0
    if keep:
        masks = [m for mask in slices.masks(network.trunk(x).shape, samples, seed, x.device) for m in (mask, 1 - mask)]
    for t in range(samples):
        features = network.trunk(x)
        features = features * 2 * masks[t] if keep else torch.nn.functional.dropout(features, 0.5, True)
        mean, _, logits, s = (branch(features) for branch in network.branches)
        total, probabilities = total + mean, probabilities + class_probabilities(logits, s)
    return total / samples, probabilities / samples


def clock(work, repeat):
    best = float("inf")
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="limb-t1-synct", help="bundle, or 'paper' for M4 at the paper's size")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--slices", type=int, default=2)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    if args.model == "paper":
        network = networks.build("m4").eval().to(memory_format=torch.channels_last)
    else:
        network = bundle.load(args.model)[1][0]
    torch.manual_seed(0)
    x = torch.randn(args.slices, 1, args.size, args.size).to(memory_format=torch.channels_last)
    ours = slices.sample([network], x, args.samples, 0)
    mean, probability = naive(network, x, args.samples, 0, keep=True)
    print(
        f"largest difference to {args.samples} full passes with the same masks: mean "
        f"{float((ours.mean - mean).abs().max()):.1e}, "
        f"probability {float((ours.probability - probability).abs().max()):.1e}"
    )
    fast = clock(lambda: slices.sample([network], x, args.samples, 0), args.repeat)
    slow = clock(lambda: naive(network, x, args.samples, 0), args.repeat)
    print(
        f"{args.model}, {args.slices} slices of {args.size}², T = {args.samples}, {torch.get_num_threads()} threads: "
        f"{fast:.2f} s against {slow:.2f} s, ratio {fast / slow:.2f} (with all moments and entropies in ours)"
    )


if __name__ == "__main__":
    main()
