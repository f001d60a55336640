"""What the two papers claim, and whether the networks trained here agree: measured differences, patient by patient."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from ...core.files import replace_text
from ...evaluation.comparison import store

BODY, BONE = "MAE body", "MAE bone ≥ 250 HU"
# z-scores of this sd are called calibrated
CALIBRATED = (0.9, 1.1)


@dataclass(frozen=True)
class Claim:
    """`better` has a smaller `metric` than `worse`, says the paper."""

    text: str
    source: str
    metric: str
    better: str
    worse: str


CLAIMS = (
    Claim("dropout helps", "Bragman 2018, Table 1", BODY, "M2a", "M1"),
    Claim("heteroscedastic noise helps", "Bragman 2018, Table 1", BODY, "M2b", "M2a"),
    Claim("heteroscedastic noise helps at bone", "Bragman 2018, Table 1", BONE, "M2b", "M2a"),
    Claim("the second task helps", "Bragman 2018, Table 1", BODY, "M4", "M2b"),
    Claim("the second task helps at bone", "Bragman 2018, Table 1", BONE, "M4", "M2b"),
    Claim("task weights for every voxel beat one for each task", "Bragman 2018, Table 1", BODY, "M4", "M3"),
    Claim("task weights for every voxel beat one for each task at bone", "Bragman 2018, Table 1", BONE, "M4", "M3"),
    Claim("all together beat the baseline", "Bragman 2018, Table 1", BODY, "M4", "M1"),
    Claim("the body-weighted loss beats the global one", "Kaushik 2022, Table I", BODY, "1TN-FL", "1TN-GL"),
    Claim("the body-weighted loss beats the global one at bone", "Kaushik 2022, Table I", BONE, "1TN-FL", "1TN-GL"),
    Claim("a bone regression helps at bone", "Kaushik 2022, Table I", BONE, "2TN", "1TN-FL"),
    Claim("the bone class helps at bone", "Kaushik 2022, Table I", BONE, "3TN", "2TN"),
    Claim("the bone class helps", "Kaushik 2022, Table I", BODY, "3TN", "2TN"),
)


def write(folders: dict[str, Path | list[Path]], out: Path) -> Path:
    """claims.md from the rows.json of the networks in `folders` (name → folder, or one folder a fold); a claim whose
    networks are missing is left out.
    """
    networks = {n.name: n for n in store.gather(folders)}
    lines = [
        "# The papers' claims on these patients",
        "",
        "Differences are better − worse, mean over the patients, in HU; negative agrees with the paper. p: Wilcoxon "
        "signed-rank, "
        'two-sided, not corrected for the number of claims. "undecided": p ≥ 0.05, whichever way the mean points.',
        "",
        "| claim | source | metric | networks | difference (HU) | patients that agree | p | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for claim in CLAIMS:
        if {claim.better, claim.worse} <= networks.keys():
            lines.append(_line(claim, networks))
    lines += [
        "",
        "| network | z mean | z sd (uncalibrated) | within the 90 % interval | z-scores calibrated |",
        "|---|---|---|---|---|",
    ]
    for name, network in networks.items():
        sd = np.array(network.column("z sd"), float)
        if np.isnan(sd).all():
            continue
        mean, inside = np.nanmean(network.column("z mean")), np.nanmean(network.column("within 90 %"))
        verdict = "yes" if CALIBRATED[0] <= np.nanmean(sd) <= CALIBRATED[1] else "no"
        lines.append(
            f"| {name} | {mean:.2f} | {np.nanmean(sd):.2f} ± {np.nanstd(sd, ddof=1):.2f} | {inside:.0%} | {verdict} |"
        )
    return replace_text(out, "\n".join(lines) + "\n")


def _line(claim: Claim, networks: dict) -> str:
    difference = np.subtract(networks[claim.better].column(claim.metric), networks[claim.worse].column(claim.metric))
    difference = difference[np.isfinite(difference)]
    agree, n = int((difference < 0).sum()), len(difference)
    p = float(stats.wilcoxon(difference).pvalue) if n and difference.any() else 1.0
    verdict = "undecided" if p >= 0.05 else "holds" if difference.mean() < 0 else "contradicted"
    return (
        f"| {claim.text} | {claim.source} | {claim.metric} | {claim.better} against {claim.worse} | "
        f"{difference.mean():+.1f} | "
        f"{agree} of {n} | {p:.3f} | {verdict} |"
    )
