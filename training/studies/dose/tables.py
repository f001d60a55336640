"""The tables of `dose_study`: dose differences of every network, single patients, and whether the bands hold."""

from __future__ import annotations

import math
from pathlib import Path

from ...calibration import dose
from ...core.files import replace_text, write_csv
from ...evaluation.comparison import tables

DOSES = {"d98": "D98", "davg": "Davg", "d2": "D2"}
SHIPPED = "limb-t1-synct"
# Kaushik 2022, Table III: 9 brain patients, photon plans of a clinic, 3TN on zero-TE MR
PAPER = {"d98": "0.063 ± 0.43", "davg": "0.166 ± 0.18", "d2": "0.116 ± 0.12"}


def write(folder: Path, patients: list[str]) -> Path:
    """Write dose.csv and dose.md into `folder`; returns the latter. Raises `SystemExit` where nothing was computed."""
    records = dose.read(folder)
    if not records:
        raise SystemExit(f"{folder}: nothing has been computed yet; give the command again, with more --minutes.")
    write_csv(folder / "dose.csv", [_row(r) for r in records])
    lines = ["# Dose on synthetic CTs"]
    for modality in ("photon", "proton"):
        there = [r for r in records if r["modality"] == modality]
        if there:
            lines += [f"## {modality.capitalize()}s", _networks(there, patients), _patients(there), _bands(there)]
    lines.append(_correlations(records))
    return replace_text(folder / "dose.md", "\n\n".join(line for line in lines if line) + "\n")


def _row(r: dict) -> dict:
    row = {
        "modality": r["modality"],
        "network": r["title"],
        "patient": r["patient"],
        "volume_ml": round(r["volume_ml"], 1),
    }
    row |= {f"{d}_ct_percent": round(r["ct_percent"][d], 3) for d in DOSES} | {
        f"{d}_difference": round(r["difference"][d], 3) for d in DOSES
    }
    deep = r.get("inside", {}).get("difference", {})
    row |= {f"{d}_difference_deeper_15mm": round(deep[d], 3) for d in deep}
    row |= {f"gamma {k}": round(v, 2) for k, v in r["gamma"].items()}
    for length, band in r["bands"].items():
        row |= {
            f"{d}_{end}_{length}mm": round(v, 3) for d, ends in band.items() for end, v in zip(("lower", "upper"), ends)
        }
    return row | {"plan_cpu_seconds": r["plan_cpu_seconds"], "dose_cpu_seconds": r["dose_cpu_seconds"]}


def _networks(records, patients) -> str:
    """Mean ± sd over patients of each network: synthetic CT − CT in percent of the prescription."""
    body, names = [], list(dict.fromkeys(r["title"] for r in records))
    for title in sorted(names, key=lambda t: (t != SHIPPED, t)):
        mine = [r for r in records if r["title"] == title]
        cells = [tables.cell([r["difference"][d] for r in mine], 2) for d in DOSES]
        deep = tables.cell([r["inside"]["difference"]["d98"] if "inside" in r else math.nan for r in mine], 2)
        size = tables.cell([abs(r["difference"]["davg"]) for r in mine], 2)
        gammas = [tables.cell([r["gamma"][k] for r in mine], 1) for k in mine[0]["gamma"]]
        body.append([title, f"{len(mine)} of {len(patients)}", cells[0], deep, *cells[1:], size, *gammas])
    body.append(
        [
            "*3TN of the paper (brain, 9 patients)*",
            "9",
            PAPER["d98"],
            "–",
            PAPER["davg"],
            PAPER["d2"],
            "0.20 ± 0.15",
            "–",
            "–",
        ]
    )
    return tables.markdown(
        [
            "network",
            "patients",
            "D98",
            "D98 deeper than 15 mm",
            "Davg",
            "D2",
            "size of Davg",
            *(f"gamma {k}" for k in records[0]["gamma"]),
        ],
        body,
    )


def _patients(records) -> str:
    """The shipped model's patients one by one."""
    mine = [r for r in records if r["title"] == SHIPPED]
    body = [
        [
            r["patient"],
            f"{r['volume_ml']:.0f}",
            *(f"{r['ct_percent'][d]:.1f}" for d in DOSES),
            *(f"{r['difference'][d]:+.2f}".replace("-", "−") for d in DOSES),
        ]
        for r in mine
    ]
    head = [
        "patient",
        "target, ml",
        *(f"{t} on CT, %" for t in DOSES.values()),
        *(f"{t} difference" for t in DOSES.values()),
    ]
    return tables.markdown(head, body) if mine else ""


def _bands(records) -> str:
    """Widths of the 5–95 % bands, and in how many patients they hold the CT's dose."""
    mine, body = [r for r in records if r["bands"]], []
    for length in dict.fromkeys(k for r in mine for k in r["bands"]):
        whole = [r["bands"][length] for r in mine if length in r["bands"]]
        deep = [r["inside"]["bands"][length] for r in mine if "inside" in r and length in r["inside"]["bands"]]
        cells = []
        for name, there in (("d98", whole), ("d98", deep), ("davg", whole), ("d2", whole)):
            held = sum(b[name][0] <= 0 <= b[name][1] for b in there)
            cells += [tables.cell([b[name][1] - b[name][0] for b in there], 2), f"{held} of {len(there)}"]
        body.append([{"inf": "one error for all", "measured": "as measured"}.get(length, f"{length} mm"), *cells])
    titles = ("D98", "D98 deeper than 15 mm", "Davg", "D2")
    head = ["errors go together over", *(word for t in titles for word in (f"width of {t}, %", f"holds {t}"))]
    return tables.markdown(head, body) + _calibrated(mine) if body else ""


def _calibrated(records) -> str:
    """What the bands' ends must move out by to hold on validation patients (`dose_calibration`), and whether they do
    for patients left out.
    """
    entry = dose.fit(records)
    if entry is None:
        return ""
    held = dose.held(records, entry["level"])
    body = [
        [
            t,
            f"{entry['margins_percent'][d]:+.2f}".replace("-", "−"),
            f"{sum(held[d])} of {len(held[d])}" if d in held else "–",
        ]
        for d, t in DOSES.items()
    ]
    head = [
        f"calibrated to {entry['level']:.0%} on {entry['patients']} patients",
        "ends move out by, % of the prescription",
        "holds the CT's dose, each patient left out",
    ]
    return "\n\n" + tables.markdown(head, body)


def _correlations(records) -> str:
    """How far the errors of the synthetic CT go together in each patient, beside what samples are drawn with
    (`rtuncertainty.dose.plan.samples.MEASURED`).
    """
    from rtuncertainty.dose.plan import samples

    found = {r["patient"]: r["correlation"] for r in records if "correlation" in r}
    lags = [k for k in next(iter(found.values()), {}) if k.endswith(" mm")]
    found = {name: c for name, c in found.items() if set(lags) <= set(c)}
    if not found:
        return ""
    body = [
        [
            name,
            f"{c['mean']:+.2f}".replace("-", "−"),
            f"{c['sd']:.2f}",
            *(f"{c[k]:.2f}".replace("-", "−") for k in lags),
        ]
        for name, c in found.items()
    ]
    body.append(["*drawn*", "0", "1", *(f"{float(samples.expected(float(k.split()[0]))):.2f}" for k in lags)])
    head = ["patient", "mean", "root mean square", *(f"correlation {k} apart" for k in lags)]
    return "## Errors of the synthetic CT, over their standard deviation\n\n" + tables.markdown(head, body)
