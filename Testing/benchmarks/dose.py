"""T doses of one plan in one batch against T single ones, and what the fields' fluence saves when it is made once: CPU
seconds and ratios.

`python Testing/benchmarks/dose.py [--samples 20] [--threads 1] [--device cpu]` (needs pydosert): a limb of 12 cm, four
photon fields on 3 mm voxels, and two proton fields. Protons have no batch: the engine takes one image at a time.
"""

import argparse
import os
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "RTUncertainty"), str(ROOT / "Testing" / "backend")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--protons", type=int, default=2, help="proton doses to take the time of (default 2; 0: none)")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)

    import torch
    from make_plan import patient

    from rtuncertainty.dose.plan.delivery import planned
    from rtuncertainty.dose.plan.density import SCHNEIDER
    from rtuncertainty.dose.plan.photon import quiet
    from rtuncertainty.dose.plan.plan import DEFAULTS

    torch.set_num_threads(args.threads)

    def timed(what):
        if args.device != "cpu":
            torch.cuda.synchronize()
        # of all threads; a GPU is waited for
        clock = time.process_time if args.device == "cpu" else time.perf_counter
        started = clock()
        found = what()
        if args.device != "cpu":
            torch.cuda.synchronize()
        return clock() - started, found

    p, target = patient(bone=800)
    d = planned(DEFAULTS["photon"], p, target, SCHNEIDER, args.device)
    medium = d.volume(p.ct).to(args.device)
    generator = torch.Generator().manual_seed(0)
    volumes = medium * (1 + 0.02 * torch.randn((args.samples, 1, 1, 1), generator=generator)).to(args.device)
    d.dose(volumes[:1])

    def with_fluence():
        with quiet():
            return torch.cat(
                [
                    d.fields.engine.forward(
                        d.fields.sequence.leaf_positions[None],
                        d.fields.mu[None],
                        d.fields.sequence.jaw_positions[None],
                        v[None],
                    )
                    for v in volumes[:4]
                ]
            )

    print(f"photons, grid {d.grid.shape}, T = {args.samples}, {args.device}, {args.threads} threads", flush=True)
    singles, one = timed(lambda: d.dose(volumes, batch=1))
    print(f"T single doses: {singles:.2f} s, {singles / args.samples:.3f} s each; peak {peak()} MiB", flush=True)
    fluence, _ = timed(with_fluence)
    print(
        f"single doses that make the fluence again: {fluence / 4:.3f} s each, ratio "
        f"{fluence / 4 * args.samples / singles:.2f}",
        flush=True,
    )
    for batch in (4, args.samples):
        together, many = timed(lambda batch=batch: d.dose(volumes, batch=batch))
        print(
            f"batches of {batch}: {together:.2f} s, ratio {together / singles:.2f}; largest difference "
            f"{float((many - one).abs().max()) / 50:.1e} of the "
            f"prescription; peak {peak()} MiB",
            flush=True,
        )
    if args.protons:
        seconds, d = timed(
            lambda: planned(
                replace(DEFAULTS["proton"], spot_spacing_mm=10.0, layer_spacing_mm=8.0),
                p,
                target,
                SCHNEIDER,
                args.device,
            )
        )
        each, _ = timed(lambda: d.dose(volumes[: args.protons]))
        print(
            f"protons: {seconds:.1f} s to fit the plan, {len(d.fields.spots)} spots left, {each / args.protons:.2f} s "
            "a dose",
            flush=True,
        )


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
