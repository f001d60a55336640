"""Coverage after commissioning with 20 patients of a shifted digital site, on new patients of that site.

`python Testing/benchmarks/commissioning.py [--sites 5] [--patients 20] [--new 40]`

The patients are digital limbs, the model a pretended one whose errors are known by construction
(Testing/backend/make_site.py): at the shifted sites its errors, and the noise of the images, are twice those of its
card, or bone is 10 % denser, or fat is suppressed. Each site is commissioned on its own patients, and its site.json is
applied to the card as `predict --site` does; coverage is of the 90 % intervals of voxels and of volumes on patients
whom the commissioning has not seen.

`python Testing/benchmarks/commissioning.py --necks DATA/openkbp_hn --work DIR [--patients 12] [--model BUNDLE]`

A pretended clinic of real patients: the first of the training patients of the collection whom the weights of
headneck-ct-organs have not seen, nor its calibration, are written into DIR as a clinic would lay them out, and
commissioned with 4 samples.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "RTUncertainty"), str(ROOT / "Testing" / "backend")]

import make_site  # noqa: E402

from rtuncertainty.bundles import bundle  # noqa: E402
from rtuncertainty.bundles import site as sites  # noqa: E402
from rtuncertainty.commissioning import commission, conclude  # noqa: E402
from rtuncertainty.uncertainty import hu_calibration, volume_calibration  # noqa: E402

SITES = {
    "as the card": make_site.Site(),
    "noise doubled": make_site.Site(noise=2.0),
    "bone 10 % denser": make_site.Site(bone=1.1),
    "fat suppressed": make_site.Site(contrast=-0.5),
}
EXPECTED = {
    "as the card": "",
    "noise doubled": "The noise",
    "bone 10 % denser": "too low in the region bone",
    "fat suppressed": "The contrast",
}


def voxels(found, card) -> float:
    """Share of the sampled voxels in their 90 % interval, mean over patients."""
    recalibration, shares = hu_calibration.of_card(card), []
    for e in found:
        synct, error, variance = (np.array(e.voxels[k]) for k in ("synct", "error", "variance"))
        sd = np.sqrt(sum(recalibration.apply(synct, variance, 0 * variance)))
        shares.append((np.abs(error) <= recalibration.factor(0.9) * sd).mean())
    return float(np.mean(shares))


def volumes(found, card) -> list[bool]:
    """Whether each volume lies in the 90 % interval of a site's card."""
    calibration, inside = volume_calibration.of_card(card), []
    for r in (r for e in found for r in e.volume_rows()):
        i = calibration.interval(r.distribution, 0.9)
        inside.append(bool(i.calibrated and i.lower <= r.true_ml <= i.upper))
    return inside


def stated(found) -> list[bool]:
    """The same of the interval that the pretended model's results state."""
    return [s["lower_ml"] <= s["true_ml"] <= s["upper_ml"] for e in found for s in e.structures.values()]


def necks(data: Path, work: Path, count: int, model: str) -> None:
    """Commission a model of organs of the neck on patients whom it has not seen."""
    bits = json.loads((data / "structure_bits.json").read_text(encoding="utf-8"))
    card = bundle.read_card(bundle.find(model))
    if "case_names" not in card["training"]:
        raise SystemExit(f"{model} {card['version']} has seen the whole collection; give an earlier one by --model.")
    seen = {*card["training"]["case_names"], *card["training"]["validation_names"]}
    fresh = sorted((p for p in (data / "train").iterdir() if p.name not in seen), key=lambda p: int(p.name[3:]))
    for home in fresh[:count]:
        stored = sitk.ReadImage(str(home / "structures_bits.nii.gz"))
        array, labels, names = sitk.GetArrayFromImage(stored), np.zeros(stored.GetSize()[::-1], np.uint8), {}
        for name, bit in bits.items():
            mask = (array >> bit) & 1 > 0
            if mask.any() and not name.startswith("PTV"):
                names[name] = bit + 1
                labels[mask & (labels == 0)] = bit + 1
        folder = work / "clinic" / home.name
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "ct.nii.gz").exists():
            (folder / "ct.nii.gz").symlink_to((home / "ct.nii.gz").resolve())
        made = sitk.GetImageFromArray(labels)
        made.CopyInformation(stored)
        sitk.WriteImage(made, str(folder / "contours.nii.gz"), True)
        (folder / "contours.json").write_text(json.dumps(names), encoding="utf-8")
    began = time.process_time()
    done = commission(card["folder"], work / "clinic", work / "commissioned", samples=4, site_name="Pretended clinic")
    print(f"{time.process_time() - began:.0f} s of a processor for {len(done.found)} patients; {done.advice.sentence}")
    for c in done.fitted.coverage:
        print(
            f"{c.what:28} card {c.before.mean:6.1%} of {c.width_before:6.2f} volumes' width, "
            f"site {c.after.mean:6.1%} of {c.width_after:6.2f}, {c.after.n} patients"
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sites", type=int, default=5, help="repetitions of each site, each with patients of its own")
    options.add_argument("--patients", type=int, default=20)
    options.add_argument("--new", type=int, default=40, help="new patients of each")
    options.add_argument("--necks", type=Path, help="openkbp_hn")
    options.add_argument("--model", default="headneck-ct-organs", help="of the necks; a name or a bundle's folder")
    options.add_argument("--work", type=Path, help="folder for the pretended clinic")
    args = options.parse_args()
    if args.necks:
        necks(args.necks, args.work, args.patients, args.model)
        return
    card, began, seed = make_site.card(), time.perf_counter(), 0
    print(f"{'site':18} {'voxels: card':>13} {'site':>6} {'volumes: card':>14} {'site':>6} {'found':>8}  verdicts")
    for name, site in SITES.items():
        rows, hits_before, hits, noted, verdicts = [], [], [], 0, []
        for _ in range(args.sites):
            own, charts = make_site.evidence(range(seed, seed + args.patients), site, card)
            new, _ = make_site.evidence(range(seed + args.patients, seed + args.patients + args.new), site, card)
            seed += args.patients + args.new
            done = conclude(own, charts, card, "Clinic")
            applied = sites.applied(card, json.loads(json.dumps(done.site)))
            rows.append((voxels(new, card), voxels(new, applied)))
            hits_before += stated(new)
            hits += volumes(new, applied)
            told = " ".join(t for s, t in done.advice.findings if s in ("serious", "warning"))
            noted += EXPECTED[name] in told if EXPECTED[name] else told == ""
            verdicts.append(done.advice.verdict)
        before, after = np.mean(rows, axis=0)
        print(
            f"{name:18} {before:13.1%} {after:6.1%} {np.mean(hits_before):14.1%} {np.mean(hits):6.1%} "
            f"{noted:4} of {args.sites}  {', '.join(dict.fromkeys(verdicts))}",
            flush=True,
        )
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
