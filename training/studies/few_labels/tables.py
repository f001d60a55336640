"""Tables of learning from few labels: the seven figures, paired tests, what the parts bring, and whether uncertainty
flags bad contours.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from ...core import provenance
from ...core.files import replace_text
from ...evaluation.comparison import significance, tables
from ...evaluation.overlap import METRICS
from . import flags as few_labels_flags
from . import quality as few_labels_quality

# of files that name no structure
STRUCTURE = "left_atrium"
# Hasan & Linte 2021, Table 1, mean over the challenge's 20 other scans, by method and labelled scans
PAPER = {
    ("V-Net", 8): (79.98, 68.14, 21.12, 5.47, -1.34, 83.67, 74.55),
    ("UA-MT", 8): (84.25, 73.48, 13.84, 3.36, -0.13, 87.57, 77.85),
    ("SASSNet", 8): (87.32, 77.72, 12.56, 2.55, -0.09, 87.66, 87.22),
    ("MT-CTL", 8): (89.28, 80.92, 7.74, 2.00, 0.56, 89.74, 89.40),
    ("V-Net", 16): (85.64, 75.40, 16.96, 4.03, -0.05, 88.78, 83.79),
    ("UA-MT", 16): (88.88, 80.20, 8.13, 2.35, -2.74, 89.57, 88.82),
    ("SASSNet", 16): (89.54, 81.24, 8.24, 2.27, 0.03, 89.86, 90.42),
    ("MT-CTL", 16): (91.80, 84.80, 5.50, 1.55, 0.01, 91.15, 91.04),
}


def write(
    files: dict[str, Path], runs: dict, results: Path, hardware: str, quality: dict[str, Path] | None = None
) -> Path:
    """few_labels.md, few_labels.csv, significance.csv and flags.csv in `results`; returns the folder.

    files: rows.json by the run's name; runs: name → an object with `title`, `method` (as in PAPER), `labelled` (0: all)
    and `part_of` ("" for the methods themselves); hardware: what they were trained on; quality: quality.json
    (`few_labels_quality`) of runs that have one. Raises `SystemExit` where runs were scored on different scans or
    grids.
    """
    found = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in files.items()}
    first = next(iter(found.values()))
    for name, f in found.items():
        if list(f["cases"]) != list(first["cases"]) or f["spacing_mm"] != first["spacing_mm"]:
            raise SystemExit(
                f"{files[name]}: other scans or another grid than {next(iter(files.values()))}; evaluate all runs with "
                "one set of "
                "prepared scans."
            )
    results.mkdir(parents=True, exist_ok=True)
    main, ablation = ([n for n in found if bool(runs[n].part_of) == part] for part in (False, True))
    tests = paired_tests(found, runs)
    flags = {"all": few_labels_flags.scores(found)} | {n: few_labels_flags.scores({n: f}) for n, f in found.items()}
    structure, challenge = first.get("structure", STRUCTURE), first.get("challenge", True)
    window, stride = (" × ".join(map(str, first[k])) for k in ("window", "stride"))
    lines = [
        f"# Learning from few labels: the {structure.replace('_', ' ')}",
        f"Mean ± sd over {len(first['cases'])} validation scans of {first['spacing_mm'][0]:.3g} mm voxels, windows of "
        f"{window} voxels every {stride}, "
        f"after the card's rule; trained on {hardware}. "
        + (
            "The scans are cropped around the atrium, so that finding it is easier than in a clinic. "
            if challenge
            else ""
        )
        + "ASD is the mean over both surfaces, RAVD has its sign.",
        "## Methods",
        _table(found, runs, main, challenge),
    ]
    if challenge:
        lines.append("In italics what the paper reports, on 20 other scans of 0.625 mm after 6000 iterations.")
    if ablation:
        whole = runs[ablation[0]].part_of
        lines += [
            "## What the parts bring",
            _table(found, runs, [*ablation, *([whole] if whole in found else [])], paper=False),
        ]
    lines += [
        "## Paired tests",
        _tests(tests, runs, len(first["cases"])),
        "## Does the uncertainty flag bad contours?",
        few_labels_flags.text(flags, runs, _labelled),
    ]
    lines += [few_labels_flags.of_worse_scans({runs[n].title: file for n, file in quality.items()})] if quality else []
    rows = [
        [n, runs[n].title, f["labelled"], case, *r["scores"].values(), *r["sampled"].values()]
        for n, f in found.items()
        for case, r in f["cases"].items()
    ]
    example = next(iter(first["cases"].values()))
    head = ["run", "title", "labelled", "case", *example["scores"], *("sampled_" + k for k in example["sampled"])]
    replace_text(results / "few_labels.csv", tables.csv_text(head, rows))
    replace_text(
        results / "significance.csv",
        tables.csv_text(
            ["metric", "first", "second", "n", "median_difference", "p", "p_holm", "tests"],
            ([t.metric, t.a, t.b, t.n, t.median, t.p, t.p_holm, t.family] for t in tests),
        ),
    )
    columns = list(next(iter(flags["all"].values())))
    replace_text(
        results / "flags.csv",
        tables.csv_text(
            ["run", "told_by", *columns],
            (
                [run, name, *(s.get(c, math.nan) for c in columns)]
                for run, by_score in flags.items()
                for name, s in by_score.items()
            ),
        ),
    )
    replace_text(results / "few_labels.md", "\n\n".join(lines) + "\n")
    return results


def _table(found, runs, names, paper=True) -> str:
    body = []
    for name in names:
        run, cases = runs[name], found[name]["cases"].values()
        cells = [
            tables.cell([factor * r["scores"][m] for r in cases], digits)
            for m, (_, factor, digits, _) in METRICS.items()
        ]
        body.append([run.title, _labelled(run), *cells])
        if paper and (run.method, run.labelled) in PAPER:
            body.append(
                [
                    f"*{run.method}, paper*",
                    _labelled(run),
                    *(f"*{v:.2f}*".replace("-", "−") for v in PAPER[run.method, run.labelled]),
                ]
            )
    return tables.markdown(["method", "labelled scans", *(title for title, *_ in METRICS.values())], body)


def _labelled(run) -> str:
    return str(run.labelled) if run.labelled else "all"


def paired_tests(found: dict, runs: dict) -> list[significance.Test]:
    """Wilcoxon's signed-rank test of every pair of methods with as many labels, and of every part against its whole.

    Holm's correction takes the tests of one metric together that have as many labels, and those of parts. RAVD is
    compared by its size.
    """
    families: dict[tuple, list] = {}
    for i, a in enumerate(found):
        for b in list(found)[:i]:
            whole, part = (a, b) if runs[b].part_of == a else (b, a)
            if runs[part].part_of == whole or (
                not runs[a].part_of and not runs[b].part_of and runs[a].labelled == runs[b].labelled
            ):
                families.setdefault((runs[a].labelled, bool(runs[part].part_of)), []).append((a, b))
    return [test for pairs in families.values() for test in _family(found, pairs)]


def _family(found: dict, pairs: list[tuple[str, str]]) -> list[significance.Test]:
    out = []
    for metric, (_, _, _, more) in METRICS.items():
        values = {n: np.array([r["scores"][metric] for r in f["cases"].values()], float) for n, f in found.items()}
        if more is None:
            values = {n: np.abs(v) for n, v in values.items()}
        tests = []
        for a, b in pairs:
            both = np.isfinite(values[a]) & np.isfinite(values[b])
            if both.any():
                different, p = significance.signed_rank(values[a][both], values[b][both])
                tests.append(
                    significance.Test(
                        metric, a, b, int(both.sum()), different, float(np.median(values[a][both] - values[b][both])), p
                    )
                )
        for test, p in zip(tests, significance.holm([t.p for t in tests])):
            test.p_holm, test.family = p, len(tests)
        out += tests
    return out


def _tests(tests, runs, n) -> str:
    """Dice, 95HD and ASD of every pair; all seven are in significance.csv."""
    shown = {(t.a, t.b): {} for t in tests}
    for t in tests:
        shown[t.a, t.b][t.metric] = t
    if not shown:
        return "Nothing to test: a test needs two runs with as many labels."

    def cell(test, metric):
        _, factor, digits, _ = METRICS[metric]
        return (
            "–"
            if test is None
            else f"{factor * test.median:+.{digits}f} ({test.p:.3f}; {test.p_holm:.3f})".replace("-", "−")
        )

    metrics = ("dice", "hd95_mm", "asd_mm")
    body = [
        [runs[a].title, runs[b].title, _labelled(runs[a]), *(cell(of.get(m), m) for m in metrics)]
        for (a, b), of in shown.items()
    ]
    largest = max(t.family for t in tests)
    return (
        "Median difference, first minus second (Wilcoxon's signed-rank p; after Holm's correction over up to "
        f"{largest} tests a metric). "
        f"With {n} scans the smallest p that can be reached is {2.0 ** (1 - n):.2g}, after correction "
        f"{min(1.0, largest * 2.0 ** (1 - n)):.2g}.\n\n"
        + tables.markdown(["first", "second", "labelled scans", *(METRICS[m][0] for m in metrics)], body)
    )


def for_card(file: Path, out: Path, quality: Path | None = None, statistics: dict | None = None) -> Path:
    """evaluation.json for `export`: the seven figures, the Dice of the contour that `predict` shows, and what
    quality.json calibrates (`few_labels_quality.for_card`), if it is given.

    file: rows.json; statistics: of the images that were trained on (`input_statistics`). Raises `SystemExit` for files
    of different weights.
    """
    found = json.loads(file.read_text(encoding="utf-8"))
    cases, structure, challenge = (
        list(found["cases"].values()),
        found.get("structure", STRUCTURE),
        found.get("challenge", True),
    )
    shown = {}
    for metric, (title, factor, _, _) in METRICS.items():
        values = [factor * r["scores"][metric] for r in cases if math.isfinite(r["scores"][metric])]
        if values:
            name, _, unit = title.partition(" (")
            shown[f"{name}, {structure.replace('_', ' ')} ({unit}"] = round(float(np.mean(values)), 2)
    seen = [r["sampled"]["dice"] for r in cases if math.isfinite(r["sampled"]["dice"])]
    if seen:  # windows are what the literature reports; the mean of samples over the whole scan is what predict shows
        shown[f"Dice as predict shows it, {structure.replace('_', ' ')} (%)"] = round(100 * float(np.mean(seen)), 2)
    where = "same challenge" if challenge else "same collection"
    calibration = {"synct": None, "volumes": None, "quality": None}
    if quality is not None:
        if json.loads(quality.read_text(encoding="utf-8"))["weights_sha256"] != found["weights_sha256"]:
            raise SystemExit(f"{file} and {quality} are of different weights; evaluate again.")
        calibration |= few_labels_quality.for_card(few_labels_quality.read(quality))
    made = (
        provenance.training_entry(found)
        | {
            "weights_sha256": found["weights_sha256"],
            "accuracy": {
                "cases": provenance.described(
                    len(cases),
                    f"validation scans of the {where} on voxels of {found['spacing_mm'][0]:.3g} mm",
                    found,
                )
                + ("; cropped around the atrium" if challenge else ""),
                "n": len(cases),
                "table": shown,
            },
            "calibration": calibration,
        }
        | ({"input_statistics": statistics} if statistics else {})
    )
    return replace_text(out, json.dumps(made, indent=1, ensure_ascii=False, allow_nan=False))
