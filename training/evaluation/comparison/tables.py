"""Several networks over the same patients as Markdown tables and CSV: those of Bragman 2018 and Kaushik 2022, z-scores,
uncertainty, image similarity, and which differences are significant."""

from __future__ import annotations

import csv
import io
import math

import numpy as np

from rtuncertainty.uncertainty import metrics

from ..score import TISSUES
from .significance import LEVEL, Test
from .store import Network

# metrics of the square tables of all pairs
MAIN = ("MAE body", "MAE bone ≥ 250 HU", "Dice synCT > 250 HU")
# and of the table against a reference, structures added
COMPARED = (
    "MAE body",
    "MAE bone ≥ 250 HU",
    "MAE soft tissue",
    "MAE air",
    "PSNR (SynthRAD2023)",
    "SSIM (SynthRAD2023)",
    "Dice synCT > 250 HU",
    "|z mean|",
    "|z sd − 1|",
    "AUSE",
    "ECE",
)


def structures(networks: list[Network]) -> list[str]:
    """The names of the labelled structures, as the rows have them."""
    return [c.removeprefix("fuzzy Dice ") for c in networks[0].rows[0] if c.startswith("fuzzy Dice ")]


def cell(values, digits: int) -> str:
    """Mean ± SD (n − 1) over patients.

    Args:
        values: one a patient, NaN where there is none.
        digits: behind the point.

    Returns:
        "(n = …)" besides where some have no value, "–" where none has.
    """
    found = np.array([v for v in values if not math.isnan(v)])
    if found.size == 0:
        return "–"
    text = f"{found.mean():.{digits}f}"
    if found.size > 1 and np.isfinite(found).all():
        text += f" ± {found.std(ddof=1):.{digits}f}"
    text += f" (n = {found.size})" if found.size < len(values) else ""
    return text.replace("-", "−")


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; a bar in a cell is escaped."""
    lines = ["| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def table(networks: list[Network], columns: dict[str, tuple[str, int]]) -> str:
    """One row a network, mean ± SD over patients.

    Args:
        networks: the rows.
        columns: heading → (metric, digits).

    Returns:
        Markdown.
    """
    return markdown(
        ["network", *columns], [[n.name, *(cell(n.column(c), d) for c, d in columns.values())] for n in networks]
    )


def document(networks: list[Network]) -> str:
    """The tables of both papers, of image similarity and of uncertainty, as Markdown."""
    names, n = structures(networks), len(networks[0].rows)
    bragman = (
        {"all": ("MAE body", 1)}
        | {s: (f"MAE {s}", 1) for s in names}
        | {f"fuzzy Dice {s}": (f"fuzzy Dice {s}", 3) for s in names}
    )
    tissues = ("body", *(t for t in reversed(TISSUES) if t != "bone > 200 HU"))
    kaushik = {f"MAE {t}": (f"MAE {t}", 1) for t in tissues} | {f"Dice {t}": (f"Dice {t}", 3) for t in tissues}
    more = {
        "ME body": ("ME body", 1),
        "MAE bone > 200 HU": ("MAE bone > 200 HU", 1),
        "Dice synCT > 250 HU": ("Dice synCT > 250 HU", 3),
    }
    more |= {f"Dice {s}": (f"Dice {s}", 3) for s in names}
    images = {
        "PSNR (SynthRAD2023), dB": ("PSNR (SynthRAD2023)", 1),
        "SSIM (SynthRAD2023)": ("SSIM (SynthRAD2023)", 3),
        "PSNR (SynthRAD2025), dB": ("PSNR (SynthRAD2025)", 1),
        "MS-SSIM (SynthRAD2025)": ("MS-SSIM (SynthRAD2025)", 3),
    }
    text = [
        f"Mean ± sd over {n} patients, in the body inside the field of view of MR and CT; MAE and ME in HU; – where a "
        "network has "
        "no such output or no patient the structure, (n = …) where some patients lack it. A structure goes by its name "
        "alone, "
        "a tissue class of the same name by its HU.",
        "## MAE per structure and fuzzy Dice (Bragman 2018, Table 1)",
        table(networks, bragman),
        "## MAE and Dice per tissue class (Kaushik 2022, Tables I and II)",
        table(networks, kaushik),
        "Tissue by HU, in both images for Dice: air up to −400, soft tissue −250 to 250, bone from 250; the body is "
        "what is denser than air, its Dice taken over all that was measured and not in the body alone.",
        "## More of accuracy",
        table(networks, more),
        "## Image similarity",
        table(networks, images),
    ]
    sure = [network for network in networks if not all(math.isnan(v) for v in network.column("z sd"))]
    if sure:
        bone = {
            "z sd, bone > 200 HU": ("z sd bone > 200 HU", 2),
            "z sd, soft tissue": ("z sd soft tissue", 2),
            "z sd, air": ("z sd air", 2),
            "beyond 3 sd": ("beyond 3 SD", 4),
        }
        uncertainty = {
            "AUSE": ("AUSE", 3),
            "AUSE of a random order": ("AUSE random", 3),
            "Spearman": ("Spearman |error| and sd", 2),
            "ECE": ("ECE", 3),
            "within 90 %": ("within 90 %", 3),
            "mean predictive SD": ("mean predictive SD", 1),
            "intrinsic": ("mean intrinsic SD", 1),
            "parameter": ("mean parameter SD", 1),
        }
        text += [
            "## z-scores",
            _z_table(sure, {"z mean": ("z mean", 2), "z sd": ("z sd", 2), **bone}),
            "z = (synthetic CT − CT) / predictive sd. A normal distribution has 0.0027 beyond 3 sd. Fit to N(0,1) by "
            "Kolmogorov-Smirnov and chi-square on the voxels of all patients, thinned in each to the correlation "
            "length of z "
            "(at least 10 mm); with few voxels a poor fit may pass, and below 20 there is no test.",
            "## Uncertainty",
            table(sure, uncertainty),
            "AUSE: area between the sparsification curve by predictive sd and the oracle's, relative to the MAE (0 is "
            "a perfect ranking). ECE: mean distance of the observed from the nominal coverage of 10 to 95 % intervals. "
            "SDs in HU.",
        ]
    return "\n\n".join(text) + "\n"


def _z_table(networks, columns):
    rows = []
    for network in networks:
        sample = [z for c in network.curves for z in c.get("thinned z", {}).get("z", [])]
        fit = metrics.fit_to_normal(sample, math.nan)
        tests = ["–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}" for p in (fit.ks_p, fit.chi_square_p)]
        rows.append([network.name, *(cell(network.column(c), d) for c, d in columns.values()), str(fit.n), *tests])
    return markdown(["network", *columns, "thinned voxels", "KS p", "chi-square p"], rows)


def significance(tests: list[Test], names: list[str], reference: str | None) -> str:
    """The tests as tables.

    Args:
        tests: all.
        names: of the networks.
        reference: one row a network against it; None: a square table for each of `MAIN`.

    Returns:
        Markdown.
    """
    if not tests:
        return "Nothing to test: a test needs two networks that have a metric in common.\n"
    found = {(t.metric, t.a, t.b): t for t in tests}
    structural = [t.metric for t in tests if t.metric.startswith("fuzzy Dice ")]
    wanted = dict.fromkeys(
        [*COMPARED, *(m for s in structural for m in (s.replace("fuzzy Dice", "MAE"), s))] if reference else MAIN
    )
    shown = [metric for metric in wanted if any(t.metric == metric for t in tests)]
    text = [
        "Wilcoxon's signed-rank test over patients, two-sided, p after Holm's correction over the tests of one metric. "
        f"▲ better, ▼ worse{' than ' + reference if reference else ': the row against the column'} by the median "
        "difference; "
        f"**bold** below {LEVEL}. Every test is in significance.csv.",
        _smallest([t for t in tests if t.metric in shown]),
    ]
    if reference:
        rows = [
            [name, *(_p(found.get((m, name, reference)), name) for m in shown)] for name in names if name != reference
        ]
        text.append(markdown([f"against {reference}", *shown], rows))
    else:
        # a network against itself or a baseline has no test
        tested = [name for name in names if any(name in (t.a, t.b) for t in tests)]
        for metric in shown:
            rows = [
                [a, *("" if a == b else _p(found.get((metric, a, b)) or found.get((metric, b, a)), a) for b in tested)]
                for a in tested
            ]
            text += [f"### {metric}", markdown(["", *tested], rows)]
    return "\n\n".join(text) + "\n"


def _smallest(tests):
    """For each number of patients and of tests: the smallest p that is attainable, and what follows."""
    lines = []
    for n, family in sorted({(t.n, t.family) for t in tests}, reverse=True):
        alike = [t for t in tests if (t.n, t.family) == (n, family)]
        count = "1 test" if family == 1 else f"{family} tests"
        line = (
            f"- n = {n} patients, {count} a metric: the smallest attainable p is {2.0 ** (1 - n):.2g}, "
            f"{alike[0].smallest:.2g} after correction ({', '.join(dict.fromkeys(t.metric for t in alike))})."
        )
        lines.append(
            line + (" **No difference can be significant with so few patients.**" if alike[0].smallest >= LEVEL else "")
        )
    return "\n".join(lines)


def _p(test: Test | None, name: str) -> str:
    if test is None:
        return "–"
    text = f"{test.p_holm:.3f}" if test.p_holm >= 0.001 else "< 0.001"
    arrow = "" if not test.better else " ▲" if test.better == name else " ▼"
    return (f"**{text}**" if test.p_holm < LEVEL else text) + arrow


def csv_text(head: list[str], rows) -> str:
    """Rows as CSV; numbers with six digits, empty where there is none.

    Args:
        head: names of the columns.
        rows: sequences.

    Returns:
        The file's content.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        writer.writerow(
            ["" if isinstance(v, float) and math.isnan(v) else f"{v:.6g}" if isinstance(v, float) else v for v in row]
        )
    return out.getvalue()


def rows_csv(networks: list[Network]) -> str:
    """Every number of every network and patient."""
    columns = list(networks[0].rows[0])
    return csv_text(["network", *columns], ([n.name, *(row[c] for c in columns)] for n in networks for row in n.rows))


def summary_csv(networks: list[Network]) -> str:
    """Network, metric, n, mean, SD over patients."""
    rows = []
    for network in networks:
        for column in network.rows[0]:
            values = np.array([v for v in network.column(column) if column != "case" and not math.isnan(v)])
            if values.size:
                sd = float(values.std(ddof=1)) if values.size > 1 and np.isfinite(values).all() else math.nan
                rows.append([network.name, column, values.size, float(values.mean()), sd])
    return csv_text(["network", "metric", "n", "mean", "sd"], rows)


def significance_csv(tests: list[Test]) -> str:
    """Every test with its n, its p before and after correction, and the smallest p that was attainable."""
    head = [
        "metric",
        "network",
        "against",
        "n",
        "n different",
        "median difference",
        "better",
        "p",
        "p Holm",
        "tests",
        "smallest attainable p",
        "smallest attainable p Holm",
    ]
    return csv_text(
        head,
        (
            [
                t.metric,
                t.a,
                t.b,
                t.n,
                t.different,
                t.median,
                t.better,
                t.p,
                t.p_holm,
                t.family,
                2.0 ** (1 - t.n),
                t.smallest,
            ]
            for t in tests
        ),
    )
