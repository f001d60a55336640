"""A model's intervals and limits fitted again on a site's patients, with what they do for patients who were left out.

Every number on coverage, width, catch and false alarms is of a patient on whom nothing was fitted (cross-conformal
prediction, Vovk 2015). What is fitted has the form of a card's `calibration`, so that all that reads a card reads it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from ..propagation import agreement
from ..uncertainty import hu_calibration, volume_calibration
from ..uncertainty.cross_conformal import score
from ..uncertainty.fit import hu, volume_card, volume_coverage
from ..uncertainty.fit import volumes as volume_fit
from ..uncertainty.fit.flags import Validated
from ..uncertainty.fit.volumes import VolumeRow
from ..uncertainty.volume_calibration import CONFORMAL, CV_PLUS, POOLED, Group, VolumeCalibration
from . import statistics
from .evidence import Evidence
from .statistics import Estimate

LEVEL = 0.9
# from so many patients on scale and residual of the SD are fitted anew; of fewer the factors alone
LEAST_FULL = 5
FOLDS = 10
# a card's patients are not taken in where the site's differ from them with this p (Kolmogorov-Smirnov)
DIFFERENT = 0.1


@dataclass
class Coverage:
    """How often intervals of `LEVEL` hold, as the card gives them and as recalibrated here.

    Attributes:
        what: of what.
        unit: of the widths.
        before, after: share, over patients.
        width_before, width_after: mean over patients.
    """

    what: str
    unit: str
    before: Estimate
    after: Estimate
    width_before: float
    width_after: float


@dataclass
class Recalibrated:
    """What a site's patients make of a model.

    Attributes:
        entries: of `bundles.site.ENTRIES`; None where nothing could be fitted.
        coverage: of voxels and volumes, over all and by structure.
        limits: flag → what its limit does; of a propagation "amber, msd_mm" and the like too.
        notes: what to know, whole sentences.
    """

    entries: dict[str, dict | None] = field(default_factory=dict)
    coverage: list[Coverage] = field(default_factory=list)
    limits: dict[str, Validated] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def fit(found: list[Evidence], card: dict, bad_dice: float = volume_card.BAD) -> Recalibrated:
    """Everything that can be fitted on these patients.

    Args:
        found: of each patient.
        card: of the model.
        bad_dice: a contour below this Dice is a bad one.

    Returns:
        Entries for a site file, and what they do on patients left out.
    """
    out = Recalibrated()
    _hounsfield(out, [e for e in found if e.voxels], card)
    _volumes(out, found, card, bad_dice)
    _lights(out, found)
    return out


# -- synthetic CT


def _patient(e: Evidence) -> hu.Patient:
    synct, error, variance = (np.asarray(e.voxels[k], float) for k in ("synct", "error", "variance"))
    return hu.Patient(synct, error, variance, np.zeros(len(variance)))


def _inside(recalibration, patient: hu.Patient) -> tuple[float, float]:
    """(share of voxels in the 90 % interval, its mean width in HU) of a patient."""
    sd = np.sqrt(sum(recalibration.apply(patient.synct, patient.intrinsic, patient.parameter)))
    half = recalibration.factor(LEVEL) * sd
    return float((np.abs(patient.error) <= half).mean()), float(2 * half.mean())


def _hounsfield(out: Recalibrated, found: list[Evidence], card: dict) -> None:
    if not found:
        return
    patients = [_patient(e) for e in found]
    known = hu_calibration.of_card(card) if card.get("calibration") else None
    as_given = known or hu_calibration.Recalibration([0.0], [1.0], [0.0])
    before, n = [_inside(as_given, p) for p in patients], len(patients)
    # a model that tells no SD states no interval; the site's errors alone give one
    stated = any(p.intrinsic.any() for p in patients)
    if n >= LEAST_FULL:
        held = [_held(patients, k) for k in range(min(n, FOLDS))]
        after = {i: pair for fold in held for i, pair in fold.items()}
        chosen, how = hu.fit(patients), f"each patient recalibrated on others, {min(n, FOLDS)} folds"
        everyone = [after[i] for i in range(n)]
    elif known is not None:
        # the card's patients as one body of n_card, those of the site as they are
        theirs = float((card["calibration"]["synct"] or {}).get("n") or 0)
        alike = n == 1 or not statistics.mean([b[0] for b in before], (0, 1)).excludes(LEVEL)
        count = theirs if alike else 0.0
        everyone = [_inside(_pooled(known, count, patients[:i] + patients[i + 1 :]), p) for i, p in enumerate(patients)]
        chosen = _pooled(known, count, patients)
        how = "factors pooled with those of the card's patients" if alike else "factors of the site's patients alone"
        whose = (
            f"with the card's {count:.0f} patients counted in, which holds as far as the site's are like those"
            if alike
            else "by the site's patients alone, as the card's intervals hold another share of their voxels"
        )
        out.notes.append(
            f"Error bars in HU: {n} patients are too few to fit the SD anew; only the factors of the intervals are "
            f"corrected, {whose}."
        )
    elif n >= 2:
        everyone = [_inside(hu.fit(patients[:i] + patients[i + 1 :]), p) for i, p in enumerate(patients)]
        chosen, how = hu.fit(patients), "each patient recalibrated on all others"
    else:
        out.notes.append("Error bars in HU: one patient recalibrates nothing.")
        return
    out.coverage.append(
        Coverage(
            "voxels in the body",
            "HU",
            statistics.mean([b[0] for b in before] if stated else [], (0, 1)),
            statistics.mean([a[0] for a in everyone], (0, 1)),
            float(np.mean([b[1] for b in before])) if stated else math.nan,
            float(np.mean([a[1] for a in everyone])),
        )
    )
    z = [hu.z_scores(chosen, p) for p in patients]
    out.entries["synct"] = {
        "z_mean": round(float(np.mean([v.mean() for v in z])), 3),
        "z_sd": round(float(np.mean([v.std() for v in z])), 3),
        "within_90": round(float(np.mean([a[0] for a in everyone])), 3),
        "within_90_before": round(float(np.mean([b[0] for b in before])), 3) if stated else None,
        "n": n,
        "how": how,
        "recalibrated": True,
        "recalibration": chosen.as_card(),
        "body_sd_range_hu": hu.mean_sd_range(chosen, patients),
    }


def _held(patients: list[hu.Patient], fold: int) -> dict[int, tuple[float, float]]:
    """Of each patient of a fold what a fit on the other folds does."""
    count = min(len(patients), FOLDS)
    fitted = hu.fit([p for i, p in enumerate(patients) if i % count != fold])
    return {i: _inside(fitted, p) for i, p in enumerate(patients) if i % count == fold}


def _pooled(known: hu_calibration.Recalibration, count: float, patients: list[hu.Patient]):
    """The card's recalibration with the interval factors of its patients and these together: quantiles of the mixture
    of their distributions of |z|, each patient weighing the same.
    """
    levels = np.array(sorted(known.factors))
    theirs = np.array([known.factors[k] for k in levels])
    sizes = [np.sort(np.abs(hu.z_scores(known, p))) for p in patients]
    grid = np.unique(np.concatenate([theirs, *(np.quantile(s, levels) for s in sizes)]))
    total = count + len(sizes)
    # beyond the card's last level its tail is taken as that of a Gaussian through it
    tail = 2 * stats.norm.cdf(hu_calibration.gaussian_factor(float(levels[-1])) * grid / theirs[-1]) - 1
    mixed = np.where(grid > theirs[-1], tail, np.interp(grid, np.append(0, theirs), np.append(0, levels)))
    mixed = count / total * mixed
    for s in sizes:
        mixed = mixed + np.searchsorted(s, grid, "right") / len(s) / total
    factors = {float(k): float(np.interp(k, mixed, grid)) for k in levels}
    return hu_calibration.Recalibration(known.knots, known.scale, known.residual, factors)


# -- volumes, expected Dice, flags


def _volumes(out: Recalibrated, found: list[Evidence], card: dict, bad_dice: float) -> None:
    every = [r for e in found for r in e.volume_rows()]
    rows = volume_fit.usable(every)
    patients = len({r.patient for r in rows})
    if patients < 2:
        if rows:
            out.notes.append("Volumes: one patient calibrates nothing.")
        return
    if len(rows) < len(every):
        out.notes.append(
            f"{len(every) - len(rows)} of {len(every)} structures were not found by the model at all; intervals do not "
            "speak of such."
        )
    pooled = _pooled_volumes(out, rows, card) if patients < volume_calibration.patients_needed(LEVEL) else None
    method = ("conformal",) if patients <= volume_calibration.patients_needed(LEVEL) else CONFORMAL
    fitted = volume_card.fit(rows, method, bad_dice, FOLDS, promised=True)
    out.entries |= fitted.as_card()
    if pooled is not None:
        out.entries["volumes"] = pooled
    elif patients < volume_calibration.patients_needed(LEVEL) and (card.get("calibration") or {}).get("volumes"):
        out.entries["volumes"] = None
        out.notes.append("Volumes: the intervals of the model's card stay.")
    out.limits |= fitted.tried
    if out.entries["flags"] is not None:
        for entry in out.entries["flags"].values():
            entry["images"] = "of this site"
    _volume_coverage(out, found, rows, fitted.volumes if pooled is None else pooled, pooled is not None, card)


def _volume_coverage(out: Recalibrated, found, rows: list[VolumeRow], entry: dict | None, pooled: bool, card) -> None:
    """Coverage and width over volumes, before and after, over all and by structure."""
    if entry is None:
        return
    before = {
        (e.patient, r["structure"]): (s.get("lower_ml"), s.get("upper_ml"))
        for e in found
        for s, r in zip(e.structures.values(), e.rows)
    }
    if pooled:
        after = {(r.patient, r.structure): pooled_held(rows, r, card) for r in rows}
    else:
        held = volume_coverage.cross_validated(rows, entry["method"], FOLDS)
        after = {
            (r.patient, r.structure): c.interval(r.distribution, LEVEL, members=(r.member,)).shown for r, c in held
        }
    names = list(dict.fromkeys(r.structure for r in rows))
    if not any(_covered(rows, ends)[0] for ends in (before, after)):
        return
    for name in ["all structures", *names] if len(names) > 1 else names:
        own = [r for r in rows if name in ("all structures", r.structure)]
        (shares, width_before), (shares_after, width_after) = (_covered(own, ends) for ends in (before, after))
        out.coverage.append(
            Coverage(
                f"volumes of {name}",
                "of the volume",
                _estimate(own, shares),
                _estimate(own, shares_after),
                width_before,
                width_after,
            )
        )


def _covered(rows: list[VolumeRow], ends: dict) -> tuple[dict[str, list[bool]], float]:
    """({patient: whether each of his intervals holds}, their mean width over the volume); rows without an interval are
    left out.
    """
    inside: dict[str, list[bool]] = {}
    widths = []
    for r in rows:
        low, high = ends.get((r.patient, r.structure), (None, None))
        if low is None or high is None or not math.isfinite(low + high):
            continue
        inside.setdefault(r.patient, []).append(low - 1e-6 <= r.true_ml <= high + 1e-6)
        widths.append((high - low) / r.distribution.volume_ml)
    return inside, float(np.mean(widths)) if widths else math.nan


def _estimate(rows: list[VolumeRow], inside: dict[str, list[bool]]) -> Estimate:
    """Of one structure a patient the exact interval of a proportion; of several that of the patients' shares."""
    if all(len(v) == 1 for v in inside.values()):
        return statistics.share(sum(v[0] for v in inside.values()), len(inside))
    return statistics.mean([float(np.mean(v)) for v in inside.values()], (0, 1))


def _pooled_volumes(out: Recalibrated, rows: list[VolumeRow], card: dict) -> dict | None:
    """Intervals by the scores of the site's patients and of the card's, which weigh less (`weighted`); None, and a
    note that says why, where that cannot be.
    """
    n, needed = len({r.patient for r in rows}), volume_calibration.patients_needed(LEVEL)
    stored = (card.get("calibration") or {}).get("volumes") or {}
    if stored.get("method") != CV_PLUS:
        out.notes.append(
            f"Volumes: {n} patients are too few for an interval of {100 * LEVEL:.0f} % ({needed} are needed), and the "
            f"model's "
            "card keeps no scores of single patients that could be taken in."
        )
        return None
    known = volume_calibration.of_card(card)
    theirs = [float(np.mean(p)) for fold in known.groups[POOLED].scores for p in fold]
    own = _scores(rows, known.unit)
    p = float(stats.ks_2samp([float(np.mean(s)) for s in own], theirs).pvalue)
    if p < DIFFERENT:
        out.notes.append(
            f"Volumes: the errors of the {n} patients differ from those of the card's (Kolmogorov-Smirnov, p = "
            f"{p:.2g}), so they were not taken together; an interval of {100 * LEVEL:.0f} % takes {needed} patients "
            f"of the "
            f"site."
        )
        return None
    found = weighted(rows, card)
    total = found.groups[POOLED].patients
    out.notes.append(
        f"Volumes: {n} patients are too few for an interval of {100 * LEVEL:.0f} %, so the {len(theirs)} patients of "
        f"the "
        f"card were taken in with a weight of {(total - n) / len(theirs):.2f} each (weighted conformal prediction, "
        f"Barber "
        f"et al. 2023). The promise then rests on the card's patients being like the site's; no difference was seen "
        f"(p = "
        f"{p:.2g}), which {n} patients can hardly show."
    )
    entry = found.as_card() or {}
    return entry | {
        "within_90": None,
        "how": f"{n} patients of the site and, weighing less, {len(theirs)} of the card",
        "site_patients": n,
    }


def _scores(rows: list[VolumeRow], unit: str) -> list[list[float]]:
    """The scores of `cross_conformal` of each patient."""
    by: dict[str, list[float]] = {}
    for r in rows:
        by.setdefault(r.patient, []).append(score(r.member, r.true_ml, unit))
    return list(by.values())


def weighted(rows: list[VolumeRow], card: dict) -> VolumeCalibration:
    """CV+ intervals by the scores of these patients and those of the card's, which weigh so much that all together
    count as twice the patients that the level takes (Barber, Candès, Ramdas & Tibshirani 2023, Theorem 2a: the coverage
    is at least the level less the card's share of the weight times how far their distribution is from the site's).

    Args:
        rows: of the site's patients.
        card: whose calibration of volumes is by CV+.

    Returns:
        The calibration, all structures pooled.
    """
    known = volume_calibration.of_card(card)
    theirs = [list(p) for fold in known.groups[POOLED].scores for p in fold]
    own = _scores(rows, known.unit)
    wanted = 2 * volume_calibration.needed(CV_PLUS, LEVEL)
    weight = min(1.0, max(0.0, (wanted - len(own)) / max(1, len(theirs))))
    weights = [1.0] * len(own) + [weight] * len(theirs)
    every = own + theirs
    total = int(sum(weights) + 1e-6)
    group = Group(sum(map(len, every)), total, scores=[every], weights=[weights])
    return VolumeCalibration(CV_PLUS, {POOLED: group}, unit=known.unit)


def pooled_held(rows: list[VolumeRow], row: VolumeRow, card: dict) -> tuple[float, float]:
    """The interval (ml) of a row by `weighted` on all other patients."""
    others = [r for r in rows if r.patient != row.patient]
    return weighted(others, card).interval(row.distribution, LEVEL, members=(row.member,)).shown


# -- agreement of two contours


def _lights(out: Recalibrated, found: list[Evidence]) -> None:
    rows = [r for e in found for r in e.agreement if r.get("true_msd_mm") is not None]
    rows = [r for r in rows if math.isfinite(r["true_msd_mm"])]
    if not rows:
        return
    tried = agreement.lights(rows, promised=True)
    out.limits |= {f"{level}, {name}": v for level, own in tried.items() for name, v in own.items()}
    out.entries["lights"] = agreement.lights_for_card(tried)
