"""Tables of the joint networks: contours, deformation, spread; and the figures that go into the card."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from scipy import stats

from rtuncertainty.propagation import agreement

from ...calibration import spread as spread_calibration
from ...calibration.rows import agreement_rows
from ...core import provenance
from ...core.files import replace_text
from ...evaluation.comparison import tables
from ...evaluation.pairs import BOTH_WAYS, ONE_WAY

BASELINES = ("rigid", "elastix")
# contours: metric -> (title, digits)
METRICS = {
    "msd_mm": ("Mean surface distance (mm)", 2),
    "dsc": ("Dice", 3),
    "hd95_mm": ("95 % Hausdorff distance (mm)", 1),
    # as the paper prints them; ours above counts the voxels of both surfaces alike
    "msd_of_means_mm": ("Mean of the two mean surface distances (mm; Elmahdy 2021, Eq. 10)", 2),
    "hd_mm": ("Hausdorff distance (mm; Eq. 11)", 1),
}
DEFORMATION = {
    "tre_mm": ("error (mm)", 2),
    "tre_p95_mm": ("95th percentile (mm)", 2),
    "jacobian_sd": ("sd of the Jacobian", 3),
    "folding": ("folding (%)", 3),
    "correlation": ("correlation", 4),
    "seconds": ("CPU seconds", 1),
}


def gather(files: dict[str, Path], baselines: Path | None) -> dict[str, list[dict]]:
    """All rows of networks (by title) and baselines, with the method's title as "title"."""
    found: dict[str, list[dict]] = {"contours": [], "deformations": [], "spreads": [], "symmetry": [], "errors": []}
    for title, file in [*files.items(), *([(None, baselines)] if baselines else [])]:
        for kind, rows in json.loads(file.read_text(encoding="utf-8")).items():
            if kind in found:
                found[kind] += [{**r, "title": _title(title, r.get("method", "network"))} for r in rows]
    return found


def _title(network: str | None, method: str) -> str:
    return method if network is None else method.replace("network", network)


def write(files: dict[str, Path], baselines: Path | None, results: Path, hardware: str) -> Path:
    """propagation.md, contours.csv and deformations.csv in `results`; returns the folder.

    `files`: rows.json by the network's title; `baselines`: that of elastix and the rigid alignment, if they were
    scored; `hardware`: what the networks were trained on.
    """
    rows = gather(files, baselines)
    results.mkdir(parents=True, exist_ok=True)
    pairs = sorted({r["pair"] for r in rows["contours"]})
    lines = [
        "# Propagation on validation pairs",
        f"{len(pairs)} pairs of {len({p.rsplit('_day', 1)[0] for p in pairs})} patients on whom nothing was trained; "
        "daily "
        f"scans are simulated with a known deformation. Trained on {hardware}. Mean ± sd (median) over the structures "
        "that were drawn. "
        '"rigid" is the alignment that all others start from.',
    ]
    for metric, (title, digits) in METRICS.items():
        lines += [f"## {title}", _contours(rows["contours"], metric, digits)]
    lines += ["## Deformation in the body, and processor time", _deformations(rows["deformations"])]
    lines += ["## Between the networks", between_networks(rows["contours"])]
    if any(r["organ"] == "bladder" for r in rows["contours"]):
        lines += [
            "## Bladder filling",
            f"Mean surface distance of the bladder (mm) where its volume changed by less than {FILLING[1]:.0%} "
            "against the planning scan, and by more.",
            bladder_filling(rows["contours"]),
        ]
    if baselines:
        lines += ["## Against elastix, structure by structure", _against(rows["contours"])]
    lines += [
        "## Does the sampled spread tell the error?",
        _spreads(rows["spreads"]),
        "## Is the spread as large as the error?",
        _calibration(rows["errors"]),
        "## Symmetry",
        _symmetry(rows["symmetry"]),
    ]
    for kind in ("contours", "deformations"):
        columns = list(dict.fromkeys(k for r in rows[kind] for k in r if k != "method"))
        replace_text(
            results / f"{kind}.csv", tables.csv_text(columns, ([r.get(c, "") for c in columns] for r in rows[kind]))
        )
    replace_text(results / "propagation.md", "\n\n".join(lines) + "\n")
    return results


def _methods(rows: list[dict]) -> list[tuple]:
    """(title, path) in order: baselines first."""
    found = list(dict.fromkeys((r["title"], r.get("path")) for r in rows))
    return sorted(found, key=lambda m: (m[0] not in BASELINES, BASELINES.index(m[0]) if m[0] in BASELINES else 0))


def _contours(rows, metric, digits) -> str:
    organs, body = list(dict.fromkeys(r["organ"] for r in rows)), []
    for title, path in _methods(rows):
        mine = [r for r in rows if (r["title"], r["path"]) == (title, path)]
        # rows of an earlier version have not all metrics
        cells = [np.array([r.get(metric) for r in mine if r["organ"] == o], float) for o in organs]
        found = [c[np.isfinite(c)] for c in cells]
        body.append(
            [
                title,
                path,
                *(
                    f"{c.mean():.{digits}f} ± {c.std():.{digits}f} ({np.median(c):.{digits}f})" if len(c) else "–"
                    for c in found
                ),
                f"{np.mean([c.mean() for c in found if len(c)]):.{digits}f}" if any(map(len, found)) else "–",
            ]
        )
    drawn = {(r["pair"], r["organ"]) for r in rows}
    heads = [f"{o} (n = {sum(organ == o for _, organ in drawn)})" for o in organs]
    return tables.markdown(["method", "path", *heads, "mean of organs"], body)


def _deformations(rows) -> str:
    body = []
    for title, _ in _methods(rows):
        mine = [r for r in rows if r["title"] == title]
        body.append(
            [
                title,
                *(_mean_sd([r[k] for r in mine], 100 if k == "folding" else 1, d) for k, (_, d) in DEFORMATION.items()),
            ]
        )
    return tables.markdown(["method", *(name for name, _ in DEFORMATION.values())], body)


# of the bladder's volume against the planning scan, less 1: below the first it is emptier, above the second fuller
FILLING = (-0.1, 0.1)


def bladder_filling(rows) -> str:
    """The mean surface distance (mm) of the bladder by how much fuller it is than on the planning scan (Figs. 5, 6)."""
    bladder = [r for r in rows if r["organ"] == "bladder" and r.get("change") is not None]
    change = {r["pair"]: r["change"] for r in bladder if math.isfinite(r["change"])}
    if not change:
        return "No pair has a bladder."
    groups = dict.fromkeys(change)
    for pair, by in change.items():
        groups[pair] = "emptier" if by < FILLING[0] else "fuller" if by > FILLING[1] else "alike"
    names = [n for n in ("emptier", "alike", "fuller") if n in groups.values()]
    body = []
    for title, path in _methods(bladder):
        mine = [r for r in bladder if (r["title"], r["path"]) == (title, path) and r["pair"] in groups]
        cells = [np.array([r["msd_mm"] for r in mine if groups[r["pair"]] == n], float) for n in names]
        cells = [c[np.isfinite(c)] for c in cells]
        body.append([title, path, *(f"{c.mean():.2f} ± {c.std():.2f}" if len(c) else "–" for c in cells)])
    heads = [f"{n} (n = {sum(g == n for g in groups.values())})" for n in names]
    return tables.markdown(["method", "path", *heads], body)


def _mean_sd(values, factor: float, digits: int) -> str:
    """Mean ± sd of `values`, as Elmahdy's Table 5 has them."""
    scaled = factor * np.asarray(values, float)
    return f"{scaled.mean():.{digits}f} ± {scaled.std():.{digits}f}"


def between_networks(rows) -> str:
    """Do the networks differ? Friedman's test over patients (the mean surface distance of all structures of one, by
    the better path of each network), the rank form of the one-way ANOVA with repeated measures that the paper names;
    then each network against the best by Wilcoxon's signed-rank test, with Holm's correction.
    """
    names = [t for t in dict.fromkeys(r["title"] for r in rows) if t not in BASELINES]
    means: dict[str, dict[str, float]] = {}
    for title in names:
        found: dict[str, dict] = {}
        for path in dict.fromkeys(r["path"] for r in rows if r["title"] == title):
            values: dict[str, list] = {}
            for r in rows:
                if (r["title"], r["path"]) == (title, path) and math.isfinite(
                    math.nan if r["msd_mm"] is None else r["msd_mm"]
                ):
                    values.setdefault(r["pair"].rsplit("_day", 1)[0], []).append(r["msd_mm"])
            found[path] = {patient: float(np.mean(v)) for patient, v in values.items()}
        means[title] = min(found.values(), key=lambda m: np.mean(list(m.values())) if m else math.inf)
    common = sorted(set.intersection(*[set(m) for m in means.values()])) if len(means) > 1 else []
    if len(common) < 2:
        return "Nothing to test: it needs two networks that were scored on the same two patients or more."
    table = {title: np.array([m[p] for p in common]) for title, m in means.items()}
    best = min(table, key=lambda t: table[t].mean())
    overall = (
        f"Friedman's test over {len(common)} patients and {len(table)} networks: p = "
        f"{stats.friedmanchisquare(*table.values()).pvalue:.2g}."
        if len(table) > 2
        else f"{len(common)} patients, two networks."
    )
    others = [t for t in table if t != best]
    p = [
        float(stats.wilcoxon(table[t], table[best]).pvalue) if np.any(table[t] != table[best]) else 1.0 for t in others
    ]
    corrected, last = dict.fromkeys(others, 1.0), 0.0
    for place, k in enumerate(np.argsort(p, kind="stable")):
        last = max(last, min(1.0, (len(p) - place) * p[k]))
        corrected[others[k]] = last
    body = [[t, f"{table[t].mean():.2f}", "best" if t == best else f"{corrected[t]:.2g}"] for t in table]
    return overall + "\n\n" + tables.markdown(["network", "mean surface distance (mm)", f"p against {best}"], body)


def _against(rows) -> str:
    """Mean differences of the surface distance to elastix by structure, with a paired test."""
    reference = {(r["pair"], r["organ"]): r["msd_mm"] for r in rows if r["title"] == "elastix"}
    organs, body = list(dict.fromkeys(r["organ"] for r in rows)), []
    for title, path in _methods(rows):
        mine = {(r["pair"], r["organ"]): r["msd_mm"] for r in rows if (r["title"], r["path"]) == (title, path)}
        if title == "elastix":
            continue
        differences = {o: _differences(mine, reference, o) for o in organs}
        better = [o for o, d in differences.items() if len(d) and d.mean() < 0]
        every = np.concatenate(list(differences.values()))
        p = stats.wilcoxon(every).pvalue if np.any(every) else 1.0
        body.append(
            [
                title,
                path,
                f"{every.mean():+.2f}",
                f"{np.median(every):+.2f}",
                f"{p:.1e}",
                str(len(every)),
                f"{len(better)} of {len(organs)}",
                ", ".join(better),
            ]
        )
    return tables.markdown(
        ["method", "path", "mean difference (mm)", "median", "p (Wilcoxon)", "structures", "better for", "which"], body
    )


def _differences(mine, reference, organ) -> np.ndarray:
    """Of one organ, in the pairs in which both found it."""
    found = np.array([mine[k] - reference[k] for k in mine if k in reference and k[1] == organ], float)
    return found[np.isfinite(found)]


def rank_correlation(rows: list[dict]) -> tuple[float, int]:
    """(Spearman's ρ of sampled spread and true surface distance, number of structures)."""
    both = np.array([(r["sd_mm"], r["msd_mm"]) for r in rows], float).reshape(-1, 2)
    both = both[np.isfinite(both).all(1)]
    return (float(stats.spearmanr(*both.T).statistic) if len(both) > 2 else math.nan), len(both)


def _spreads(rows) -> str:
    body = []
    for title, path in _methods(rows):
        mine = [r for r in rows if (r["title"], r["path"]) == (title, path)]
        rho, n = rank_correlation(mine)
        body.append(
            [
                title,
                path,
                f"{rho:.2f}",
                str(n),
                *(f"{_mean_of(mine, key):.2f}" for key in ("sd_mm", "msd_mm")),
            ]
        )
    return tables.markdown(
        ["method", "path", "Spearman's ρ", "structures", "mean spread (mm)", "mean surface distance (mm)"], body
    )


def _mean_of(rows, key: str) -> float:
    """The mean of the numbers among the rows' `key`; NaN where there is none, as without samples."""
    numbers = [r[key] for r in rows if r[key] is not None and math.isfinite(r[key])]
    return float(np.mean(numbers)) if numbers else math.nan


def _calibration(rows) -> str:
    """Errors of the displacement along an axis over its sd, before and after `spread_calibration`, on patients left
    out of the fit.
    """
    body = []
    for title in dict.fromkeys(r["title"] for r in rows):
        mine = {r["pair"]: r for r in rows if r["title"] == title}
        z = np.concatenate(
            [np.ravel(np.array(r["error"]) / np.sqrt(np.maximum(r["variance"], 1e-12))) for r in mine.values()]
        )
        fitted, checked = spread_calibration.fit(list(mine.values())), spread_calibration.left_out(mine)
        body.append(
            [
                title,
                f"{np.median(np.abs(z)) / 0.6745:.1f}",
                f"{fitted.scale:.2f}",
                f"{fitted.residual_mm:.2f}",
                f"{checked['z_sd']:.2f}",
                f"{checked['within_90']:.0%}",
                str(checked["patients"]),
            ]
        )
    heads = [
        "method",
        "error / sd, as sampled (from its median)",
        "scale",
        "residual (mm)",
        "error / sd, calibrated, left out",
        "within 90 %, left out",
        "patients",
    ]
    return tables.markdown(heads, body)


def _symmetry(rows) -> str:
    body = [
        [t, *(f"{np.mean([r[k] for r in rows if r['title'] == t]):.2f}" for k in ("identity_mm", "inverse_mm"))]
        for t in dict.fromkeys(r["title"] for r in rows)
    ]
    return tables.markdown(["method", "planning scan onto itself (mm)", "there and back (mm)"], body)


# a direct segmentation of less Dice than this on the validation pairs is no check of the other path: the model does not
# offer it
USEFUL = 0.7


def for_card(file: Path, out: Path) -> Path:
    """evaluation.json for `export`: accuracy, the better path of each structure and whether it is segmented directly at
    all, and how far the spread tells the error."""
    found = json.loads(file.read_text(encoding="utf-8"))
    plain = [r for r in found["contours"] if r["method"] == ONE_WAY]
    best = next(
        m
        for m in (f"{BOTH_WAYS} + fast", f"{BOTH_WAYS} + full", ONE_WAY)
        if any(r["method"] == m for r in found["contours"])
    )
    # Seg has contours of its own alone, good or bad
    deforms = bool(found["deformations"])
    shown, paths, unfit = {}, {}, []
    for organ in dict.fromkeys(r["organ"] for r in plain):
        propagated, segmented = (
            _mean_or_infinity(
                [
                    r["msd_mm"]
                    for r in found["contours"]
                    if (r["organ"], r["method"], r["path"]) == (organ, method, path)
                ]
            )
            for method, path in ((best, "propagated"), (ONE_WAY, "segmented"))
        )
        dice = [r["dsc"] for r in plain if (r["organ"], r["path"]) == (organ, "segmented")]
        if deforms and (not dice or np.mean(dice) < USEFUL):
            unfit.append(organ)
            segmented = math.inf
        paths[organ] = "segmented" if segmented < propagated or not deforms else "propagated"
        if min(propagated, segmented) < math.inf:
            shown[f"Mean surface distance, {organ} (mm)"] = round(min(propagated, segmented), 2)
        if organ not in unfit and dice:
            shown[f"Dice of the direct segmentation, {organ}"] = round(float(np.mean(dice)), 2)
    mine = [r for r in found["deformations"] if r["method"] == best]
    if mine:
        shown["Error of the deformation in the body (mm)"] = round(float(np.mean([r["tre_mm"] for r in mine])), 2)
        shown["Folding (%)"] = round(100 * float(np.mean([r["folding"] for r in mine])), 3)
    rho, n = rank_correlation([r for r in found["spreads"] if r["path"] == "propagated"])
    pairs = {r["pair"] for r in plain}
    made = provenance.training_entry(found) | {
        "weights_sha256": found["weights_sha256"],
        "paths": paths,
        "not_segmented": unfit,
        "accuracy": {
            "cases": f"{len(pairs)} simulated days of {len({p.rsplit('_day', 1)[0] for p in pairs})} validation "
            f"patients, {provenance.none_trained_on(found)}; "
            + (f'with the refinement "{best.rpartition("+ ")[2]}"' if deforms else "segmented directly"),
            "n": len(pairs),
            "table": shown,
        },
        "calibration": {
            "synct": None,
            "volumes": None,
            "spread": {
                "spearman": None if math.isnan(rho) else round(rho, 2),
                "structures": n,
                "what": "sampled spread of the surface against its true distance",
                **spread_calibration.for_card({r["pair"]: r for r in found.get("errors", []) if r["method"] == best}),
            },
        },
    }
    if found.get("input_statistics"):
        made["input_statistics"] = found["input_statistics"]
    validated = _lights(found, best, made["calibration"]["spread"])
    if validated:
        made["calibration"]["lights"] = validated
    return replace_text(out, json.dumps(made, indent=1, ensure_ascii=False))


def _mean_or_infinity(values: list) -> float:
    """The mean of the numbers among `values`; infinity where there are none."""
    numbers = [v for v in values if v is not None and not math.isnan(v)]
    return float(np.mean(numbers)) if numbers else math.inf


def _lights(found: dict, best: str, spread: dict) -> dict | None:
    """Limits of the traffic lights that were validated, for the spread as it will be shown: calibrated, where it is."""
    rows = agreement_rows(found, best)
    if "scale" in spread:
        for r in rows:
            if r.get("sd_mm") is not None:
                r["sd_mm"] = math.hypot(spread["scale"] * r["sd_mm"], spread["residual_mm"])
    return agreement.lights_for_card(agreement.lights(rows))
