"""Tables and figures of volumes and their intervals, from rows: volumes.md, CSVs and PNGs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from rtuncertainty.uncertainty.fit import quality, volume_card, volume_coverage, volume_ranges
from rtuncertainty.uncertainty.fit.volume_coverage import ALL, BINS, Coverage
from rtuncertainty.uncertainty.fit.volumes import VolumeRow, usable
from rtuncertainty.uncertainty.volume_calibration import CV_PLUS
from rtuncertainty.uncertainty.volume_calibration import METHODS as CALIBRATIONS

from ...core.files import replace_text, replaced
from ...evaluation.comparison import tables
from ...evaluation.comparison.figures import COLOURS
from . import noise as noise_experiment

METHODS = {
    "none": "uncalibrated",
    "log_affine": "affine in log-volume",
    "conformal": "conformal",
    "conformal_scaled": "conformal, scaled",
    "cv_plus": "CV+",
    "uninformed": "no image seen",
}
SHOWN = (0.5, 0.8, 0.9, 0.95)
STYLES = {
    "none": ("#8a8a8a", ":"),
    "log_affine": (COLOURS[0], "-"),
    "conformal": (COLOURS[1], "-"),
    "conformal_scaled": (COLOURS[2], "-"),
    "cv_plus": (COLOURS[3], "-"),
    "uninformed": ("#222222", "--"),
}
NOISE = {
    "volume": "volume / true volume",
    "width": "width of the 90 % interval / true volume",
    "coverage": "intervals that hold the truth",
    "dice": "Dice",
    "expected_dice": "expected Dice",
    "score": "score of the input",
}
FLAGS = {
    "interval_width": "wide interval",
    "expected_dice": "low expected Dice",
    "surface_entropy": "uncertain surface",
    "usual_volume": "unusual volume",
}
AMOUNT = {
    "noise": "noise, sd over mean intensity",
    "blur": "blur, sd in mm",
    "resolution": "voxel edge over the image's own",
}


def write(
    networks: dict[str, list[VolumeRow]],
    out: Path,
    training: dict[str, list[float]] | None = None,
    noise: Path | None = None,
    intro: str = "",
    limit: float = quality.BAD,
) -> Path:
    """volumes.md, volumes.csv, coverage.csv and figures in `out`; returns volumes.md.

    networks: rows by the network's title; training: volumes (ml) of the training patients by structure; noise:
    noise.json of `noise_experiment`; intro: what the reader must know of patients and training; limit: a Dice below is
    bad.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = {name: volume_coverage.evaluate(rows, training) for name, rows in networks.items()}
    rows = [r for mine in networks.values() for r in mine if r.present]
    missed = {name: sum(r.present and r.distribution.volume_ml <= 0 for r in mine) for name, mine in networks.items()}
    absent = {(r.patient, r.case, r.structure) for mine in networks.values() for r in mine if not r.present}
    lines = ["# Volumes and their intervals"] + ([intro] if intro else [])
    caption = (
        f"{len({r.patient for r in rows})} patients on whom nothing was trained. Calibrations are fitted on other "
        "patients (cross-validated by patient). "
    )
    if absent:
        caption += (
            f"{len(absent)} structure{'s' * (len(absent) > 1)} that a patient lacks "
            f"{'do' if len(absent) > 1 else 'does'} not count. "
        )
    if any(missed.values()):
        caption += (
            "Not found, and left out of all but the first table: "
            f"{', '.join(f'{n} by {name}' for name, n in missed.items() if n)}. "
        )
    lines += [
        caption + "Width is the median over structures of upper − lower, over the volume of the shown contour.",
        "## How good the volumes are",
        accuracy_table(networks),
        "## Do intervals hold what they promise?",
        coverage_table(found),
        _picture("coverage.png"),
        "### Structure by structure, 90 %",
        structure_table(found),
        "## How wide are they?",
        width_table(found),
        _picture("width.png"),
        "### Interval score",
        "Width and what the truth lies outside of the interval, over the true volume, mean over structures (Gneiting & "
        "Raftery 2007, Eq. 43): smaller is better, and neither a wide nor a wrong interval wins.",
        score_table(found),
        "### From patient to patient",
        "Of each patient the share of his structures whose 90 % interval holds the truth. An SD much above that of "
        "chance says that some patients are wrong throughout.",
        patient_table(found),
        *_as_printed(networks, training),
        "## Where truths lie in the distributions",
        "A tenth of the truths in each bar is a distribution that is right; heaps at both ends are one that is too "
        "sure.",
        _picture("pit.png"),
        "## Does the network know its bad contours?",
        quality_table(networks, limit),
        flag_table(networks, training, limit),
        f"Bad is a Dice below {limit:g}, for an unusual volume (more than {volume_ranges.BEYOND:g} times beyond "
        "what training patients had) below "
        f"{volume_ranges.LOST:g}.",
    ]
    coverage_figure(found, out / "coverage.png")
    width_figure(found, out / "width.png")
    pit_figure(found, out / "pit.png")
    if noise is not None:
        curves = noise_experiment.curves(noise_experiment.read_rows(noise))
        lines += ["## On worse images (Eaton-Rosen 2018, Fig. 4)", noise_table(curves), _picture("noise.png")]
        noise_figure(curves, out / "noise.png")
    replace_text(out / "volumes.csv", rows_csv(networks))
    replace_text(out / "coverage.csv", coverage_csv(found))
    return replace_text(out / "volumes.md", "\n\n".join(lines) + "\n")


def _as_printed(networks: dict[str, list[VolumeRow]], training) -> list[str]:
    """The section on volumes as the paper takes them, beside ours; none of rows that an earlier version wrote."""
    rows = {n: [replace(r, ml=r.sums_ml) for r in mine if r.sums_ml] for n, mine in networks.items()}
    rows = {n: mine for n, mine in rows.items() if usable(mine)}
    if not rows:
        return []
    found = {name: volume_coverage.evaluate(mine, training) for name, mine in rows.items()}
    return [
        "## Volumes as sums of probabilities (Eaton-Rosen 2018, Sec. 2.2)",
        "Above, a volume is that of a contour, and a percentile that of a nested contour. Here it is the sum of the "
        "probabilities of all voxels, and a percentile the sum of the voxels' own.",
        coverage_table(found),
        width_table(found),
    ]


def _picture(name: str) -> str:
    return f"![{name.removesuffix('.png')}]({name})"


def _number(value: float, digits: int = 2) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.0f} %"


def accuracy_table(networks: dict[str, list[VolumeRow]]) -> str:
    """Dice, bias and absolute error of the shown contour's volume, mean ± sd over patients and structures."""
    body = []
    for name, rows in networks.items():
        for structure in [ALL, *dict.fromkeys(r.structure for r in rows)]:
            mine = [r for r in rows if r.present and r.true_ml > 0 and structure in (ALL, r.structure)]
            if mine:
                error = [r.distribution.volume_ml / r.true_ml - 1 for r in mine]
                body.append(
                    [
                        name,
                        structure,
                        str(len(mine)),
                        tables.cell([r.dice for r in mine], 3),
                        f"{100 * np.median(error):+.1f} %".replace("-", "−"),
                        f"{100 * np.median(np.abs(error)):.1f} %",
                    ]
                )
    return tables.markdown(
        ["network", "structure", "n", "Dice", "median error of the volume", "median absolute error"], body
    )


def coverage_table(found: dict[str, dict[str, dict[str, Coverage]]]) -> str:
    """Observed coverage at the levels SHOWN, and its mean distance from nominal over all levels."""
    body = [
        [
            network,
            METHODS[method],
            str(c[ALL].n),
            *(_percent(c[ALL].coverage[level]) for level in SHOWN),
            _number(c[ALL].error, 3),
        ]
        for network, methods in found.items()
        for method, c in methods.items()
        if c[ALL].n
    ]
    return tables.markdown(
        ["network", "interval", "n", *(f"within {100 * level:.0f} %" for level in SHOWN), "mean distance from nominal"],
        body,
    )


def structure_table(found) -> str:
    """Coverage and width at 90 % of every structure."""
    titles = {m: t for m, t in METHODS.items() if any(m in methods for methods in found.values())}
    body = [
        [
            network,
            structure,
            str(c.n),
            *(
                f"{_percent(m[structure].coverage[0.9])}, {_number(m[structure].width[0.9])}"
                if m is not None and structure in m and m[structure].n
                else "–"
                for m in map(methods.get, titles)
            ),
        ]
        for network, methods in found.items()
        for structure, c in methods["none"].items()
        if structure != ALL
    ]
    return tables.markdown(
        ["network", "structure", "n", *(f"{title}: within, width" for title in titles.values())], body
    )


def width_table(found) -> str:
    """Median width over volume at the levels SHOWN."""
    body = [
        [network, METHODS[method], *(_number(c[ALL].width[level]) for level in SHOWN)]
        for network, methods in found.items()
        for method, c in methods.items()
        if c[ALL].n
    ]
    return tables.markdown(["network", "interval", *(f"width at {100 * level:.0f} %" for level in SHOWN)], body)


def score_table(found) -> str:
    """Mean interval score over the true volume at the levels SHOWN."""
    body = [
        [network, METHODS[method], *(_number(c[ALL].score[level]) for level in SHOWN)]
        for network, methods in found.items()
        for method, c in methods.items()
        if c[ALL].n
    ]
    return tables.markdown(["network", "interval", *(f"score at {100 * level:.0f} %" for level in SHOWN)], body)


def patient_table(found) -> str:
    """Mean, SD and least of the patients' coverage at 90 %, beside the SD of independent structures."""
    body = []
    for network, methods in found.items():
        for method, c in methods.items():
            if c[ALL].n:
                share, every = np.array(c[ALL].by_patient), c[ALL].coverage[0.9]
                chance = math.sqrt(every * (1 - every) * c[ALL].patients / c[ALL].n)
                cells = (_percent(share.mean()), _percent(share.std()), _percent(chance), _percent(share.min()))
                body.append([network, METHODS[method], str(c[ALL].patients), *cells])
    return tables.markdown(["network", "interval", "patients", "mean", "SD", "SD by chance", "least"], body)


def quality_table(networks: dict[str, list[VolumeRow]], limit: float = quality.BAD) -> str:
    """Expected Dice, surface entropy and interval width against the true Dice."""
    body = []
    for name, rows in networks.items():
        mine = [r for r in usable(rows) if math.isfinite(r.dice)]
        if not mine:
            continue
        widths = [-np.subtract(*r.distribution.interval(0.9)[::-1]) / r.distribution.volume_ml for r in mine]
        for what, score in (
            ("expected Dice", [r.expected_dice for r in mine]),
            ("surface entropy", [-r.surface_entropy for r in mine]),
            ("interval width", widths),
        ):
            s = quality.scores(score, [r.dice for r in mine], [r.patient for r in mine], limit)
            body.append(
                [
                    name,
                    what,
                    str(s["n"]),
                    str(s["bad"]),
                    _number(s["spearman"]),
                    _number(s["auroc"]),
                    _number(s.get("mae", math.nan), 3),
                    _number(s.get("mae_of_mean", math.nan), 3),
                ]
            )
    head = [
        "network",
        "told by",
        "n",
        f"Dice < {limit:g}",
        "Spearman with Dice",
        f"AUROC of Dice < {limit:g}",
        "mean error of Dice told, left out",
        "of the mean Dice",
    ]
    return tables.markdown(head, body)


def flag_table(
    networks: dict[str, list[VolumeRow]],
    training: dict[str, list[float]] | None = None,
    limit: float = quality.BAD,
) -> str:
    """Every limit that was tried, with what it caught and missed on patients left out, and whether it was validated."""
    body = []
    for name, rows in networks.items():
        for flag, e in volume_card.fit(rows, limit=limit, training=training).tried.items():
            body.append(
                [
                    name,
                    FLAGS[flag],
                    f"{e.threshold:.3g}",
                    str(e.cases),
                    str(e.caught),
                    str(e.missed),
                    str(e.false_alarms),
                    _number(e.p, 3) if e.p >= 0.001 else "< 0.001",
                    "yes" if e.validated else "no",
                ]
            )
    if not body:
        return "Too few bad contours to choose a limit for any flag."
    return tables.markdown(
        ["network", "flag", "limit", "n", "caught", "missed", "false alarms", "p", "validated"], body
    )


def noise_table(curves: dict[str, list[dict]]) -> str:
    """Medians over structures at every step."""
    body = [
        [AMOUNT[kind], f"{c['amount']:g}", str(c["n"]), *(_number(c[k]) for k in NOISE)]
        for kind, steps in curves.items()
        for c in steps
    ]
    return tables.markdown(["what", "amount", "n", *NOISE.values()], body)


def rows_csv(networks: dict[str, list[VolumeRow]]) -> str:
    """Every structure on every scan: the uncalibrated distribution's 5th, 50th and 95th percentile, the truth and
    the qualities.
    """
    head = [
        "network",
        "patient",
        "case",
        "structure",
        "present",
        "p5_ml",
        "p50_ml",
        "p95_ml",
        "true_ml",
        "dice",
        "expected_dice",
        "surface_entropy",
    ]
    return tables.csv_text(
        head,
        (
            [
                name,
                r.patient,
                r.case,
                r.structure,
                "yes" if r.present else "no",
                *(r.distribution.quantile(q) for q in (5, 50, 95)),
                r.true_ml,
                r.dice,
                r.expected_dice,
                r.surface_entropy,
            ]
            for name, rows in networks.items()
            for r in rows
        ),
    )


def coverage_csv(found) -> str:
    """network, interval, structure, n, level, observed coverage, median width over volume, interval score over the
    true volume.
    """
    return tables.csv_text(
        ["network", "interval", "structure", "n", "level", "coverage", "width", "score"],
        (
            [network, method, structure, c.n, level, c.coverage[level], c.width[level], c.score[level]]
            for network, methods in found.items()
            for method, groups in methods.items()
            for structure, c in groups.items()
            for level in c.coverage
        ),
    )


def _panels(count: int, height: float = 3.6):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, count, figsize=(0.6 + 3.4 * count, height), squeeze=False, sharey=True)
    for axis in axes[0]:
        axis.grid(color="#e3e6e8")
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes[0]


def _save(figure, path: Path) -> None:
    import matplotlib.pyplot as plt

    with replaced(path) as part:
        figure.savefig(part, dpi=90, bbox_inches="tight")
    plt.close(figure)


def _curves(found, path: Path, what: str, label: str) -> None:
    figure, axes = _panels(len(found))
    for axis, (network, methods) in zip(axes, found.items()):
        for method, c in methods.items():
            if c[ALL].n:
                values = getattr(c[ALL], what)
                colour, dash = STYLES[method]
                axis.plot(
                    [100 * level for level in values],
                    [100 * v if what == "coverage" else v for v in values.values()],
                    color=colour,
                    linestyle=dash,
                    label=METHODS[method],
                )
        if what == "coverage":
            axis.plot([0, 100], [0, 100], color="black", linewidth=0.8, label="what was promised")
            axis.set(xlim=(0, 100), ylim=(0, 100))
        else:  # a network that finds nothing is a hundred times as wide as one that does
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")
        axis.set(xlabel="nominal level, %", title=network)
    if what == "width":  # below nobody can tell; set when all panels, which share it, are drawn
        axes[0].set_ylim(bottom=0.05)
    axes[0].set_ylabel(label)
    axes[-1].legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    _save(figure, path)


def coverage_figure(found, path: Path) -> None:
    """Observed against nominal coverage, a panel for each network."""
    _curves(found, path, "coverage", "true volumes inside, %")


def width_figure(found, path: Path) -> None:
    """Width over volume against the nominal level."""
    _curves(found, path, "width", "width / volume, median")


def pit_figure(found, path: Path) -> None:
    """Histograms of the percentile at which the truth lies, before and after calibration."""
    figure, axes = _panels(len(found))
    edges = np.linspace(0, 100, BINS + 1)
    for axis, (network, methods) in zip(axes, found.items()):
        for method in ("none", *CALIBRATIONS, CV_PLUS):
            if method in methods and methods[method][ALL].n:
                axis.stairs(
                    100 * np.array(methods[method][ALL].pit),
                    edges,
                    color=STYLES[method][0],
                    linewidth=1.6,
                    label=METHODS[method],
                )
        axis.axhline(100 / BINS, color="black", linewidth=0.8)
        axis.set(xlabel="percentile of the true volume", title=network)
    axes[0].set_ylabel("true volumes, %")
    axes[-1].legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    _save(figure, path)


def noise_figure(curves: dict[str, list[dict]], path: Path) -> None:
    """Volume, width, coverage and expected Dice against what was done to the image."""
    figure, axes = _panels(len(curves))
    for axis, (kind, steps) in zip(axes, curves.items()):
        for key, colour in zip(("volume", "width", "coverage", "dice", "expected_dice"), COLOURS):
            axis.plot(
                [c["amount"] for c in steps],
                [c[key] for c in steps],
                marker="o",
                markersize=3,
                color=colour,
                label=NOISE[key],
            )
        axis.set(xlabel=AMOUNT[kind])
    axes[0].set_ylim(0, None)
    axes[-1].legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    _save(figure, path)
