"""What a bundle of K checkpoints costs: a whole `predict` of a digital limb, against its first checkpoint alone.

`python Testing/benchmarks/folds.py [--size 256 256 80] [--samples 20] [--checkpoints 4] [--network m4]`. Weights are
random: times depend on the architecture alone, which is that of the folds' configs. Times are of the processor, which
other programs disturb least; the goal is a ratio of at most 1.2.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "RTUncertainty"))

import torch  # noqa: E402
import yaml  # noqa: E402

from rtuncertainty import networks  # noqa: E402
from rtuncertainty.bundles import bundle  # noqa: E402
from rtuncertainty.core import runtime  # noqa: E402
from rtuncertainty.phantoms import limb  # noqa: E402
from rtuncertainty.prediction.predict import predict  # noqa: E402

STUDIES = Path(__file__).resolve().parents[2] / "training" / "studies"
# the card that is borrowed, and the config of the folds
OF = {
    "m4": ("limb-t1-synct", STUDIES / "mr_only" / "limb_m4_folds.yaml"),
    "vnet": ("left-atrium-mr", STUDIES / "few_labels" / "left_atrium_vnet.yaml"),
}
runtime.prepare()


def made(folder: Path, name: str, count: int) -> Path:
    """A bundle of `count` checkpoints with random weights, its volumes calibrated as those of folds are."""
    borrowed, config = OF[name]
    card = json.loads((bundle.find(borrowed) / "model.json").read_text(encoding="utf-8"))
    arguments = yaml.safe_load(config.read_text(encoding="utf-8"))["arguments"]
    states = []
    for seed in range(count):
        torch.manual_seed(seed)
        states.append(networks.build(name, **arguments).state_dict())
    folder.mkdir()
    torch.save({"checkpoints": states}, folder / "weights.pt")
    scores = [[[0.01 * j] for j in range(10)] for _ in range(count)]
    group = {"cases": 10 * count, "patients": 10 * count, "scores": scores}
    card["calibration"]["volumes"] = {"method": "cv_plus", "unit": "none", "groups": {"pooled": group}}
    card |= {
        "architecture": {"name": name, "arguments": arguments},
        "weights": {"file": "weights.pt", "sha256": bundle.sha256(folder / "weights.pt")},
        "input": card["input"] | {"spacing_mm": [None, None, None], "spacing_range_mm": None, "statistics": None},
    }
    (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--size", type=int, nargs=3, default=(256, 256, 80))
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--checkpoints", type=int, default=4)
    parser.add_argument("--network", choices=OF, default="m4")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        limb.write_limb(Path(folder) / "in", 1, size=tuple(args.size), spacing=(0.9, 0.9, 3.0))
        spent = {}
        for count in (1, args.checkpoints):
            model = made(Path(folder) / str(count), args.network, count)
            started = time.process_time()
            found = predict(Path(folder) / "in" / "mr.nii.gz", model, samples=args.samples, device="cpu")
            spent[count] = time.process_time() - started
            stages = ", ".join(f"{k} {v:.1f}" for k, v in found.seconds.items())
            print(f"{count} checkpoints: {spent[count]:.1f} s of the processor (stages, wall: {stages})", flush=True)
    size = "×".join(map(str, args.size))
    print(
        f"{args.network}, {size}, T = {args.samples}, {torch.get_num_threads()} threads: {args.checkpoints} "
        f"checkpoints take {spent[args.checkpoints] / spent[1]:.2f} of one"
    )


if __name__ == "__main__":
    main()
