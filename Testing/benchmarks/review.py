"""How long a clinician waits in RTReview: opening a result of 20 structures, choosing one, dragging the threshold,
going to a region.

`python Testing/benchmarks/review.py [--structures 20] [--size 256 256 80] [--repeats 3] [--clock cpu]`; needs
slicer-core. Opening is to last less than 2 s, and a threshold less than 40 ms (25 pictures a second), three slice views
of 500 × 500 pixels brought up to date included. On a machine that has other work to do, `--clock cpu` counts the
process's own seconds, of all its threads.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "RTUncertainty"), str(ROOT / "Testing" / "slicer")]

from make_review import make_large  # noqa: E402

from RTUncertaintyLib import scene as run_scene  # noqa: E402
from RTUncertaintyLib.headless import scene  # noqa: E402
from RTUncertaintyLib.review.logic import ReviewLogic  # noqa: E402

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
clock = CLOCKS["wall"]


def seconds(action):
    """(how long it took, what it returned)"""
    start = clock()
    result = action()
    return clock() - start, result


def update(holder):
    """What the slice views do after a change, but for the graphics card's part."""
    for logic in holder.slice_logics.values():
        logic.GetImageDataConnection().GetProducer().Update()


def once(folder, holder):
    """Seconds of each step, and the run."""
    logic, found = ReviewLogic(), {}
    found["open and show"], run = seconds(lambda: (logic.review(folder, show=True), update(holder))[0])
    found["read the tables"], data = seconds(lambda: logic.data(run))
    names = [s.name for s in data.structures]
    times = [
        seconds(lambda n=n: (run_scene.review_structure(run, n), run_scene.show_nested(run, n), update(holder)))[0]
        for n in names
    ]
    found["choose a structure, nested contours included (slowest)"] = max(times)
    for key in ("predictive", "entropy"):
        run_scene.show_run_overlay(run, key)
        update(holder)
        low, high = 0.1, run.overlays[key].GetDisplayNode().GetWindowLevelMax()
        steps = [low + (high - low) * i / 40 for i in range(40)]
        times = [
            seconds(lambda v=v, k=key: (run_scene.set_overlay_threshold(run, k, v), update(holder)))[0] for v in steps
        ]
        found[f"threshold of {key} (median)"], found[f"threshold of {key} (slowest)"] = (
            statistics.median(times),
            max(times),
        )
    found["find the regions"], regions = seconds(
        lambda: run_scene.uncertain_regions(run, "predictive", run_scene.overlay_threshold(run, "predictive"))
    )
    return found, run


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--structures", type=int, default=20)
    parser.add_argument("--size", type=int, nargs=3, default=(256, 256, 80))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    args = parser.parse_args()
    global clock
    clock = CLOCKS[args.clock]
    with tempfile.TemporaryDirectory() as place:
        folder = make_large(Path(place) / "result", args.structures, tuple(args.size))
        holder = scene.new_scene()
        scene.add_views(holder)
        rows = []
        for _ in range(args.repeats):
            found, run = once(folder, holder)
            rows.append(found)
            if len(rows) < args.repeats:
                run_scene.remove_run(run)
        took, _ = seconds(lambda: holder.scene.WriteToMRB(str(Path(place) / "scene.mrb")))
        megabytes = (Path(place) / "scene.mrb").stat().st_size / 1e6
    print(
        f"{args.structures} structures, {'×'.join(map(str, args.size))}, {args.clock} time, median of {args.repeats}:"
    )
    for key in rows[0]:
        print(f"  {key}: {1000 * statistics.median(r[key] for r in rows):.0f} ms")
    print(f"  scene file: {megabytes:.0f} MB, written in {took:.1f} s")


if __name__ == "__main__":
    main()
