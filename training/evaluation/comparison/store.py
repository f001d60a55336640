"""rows.json: all that was measured of one network on some patients, from which networks are compared without images."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from ...core.files import replace_text

FORMAT = 1
FILE = "rows.json"


@dataclass
class Network:
    """A network's (or baseline's) rows and curves, one a patient, sorted by the patients' names.

    Attributes:
        name: of the network.
        rows: `score.run_case` of each patient.
        curves: `score.curves` of each patient.
        baseline: whether it is one.
    """

    name: str
    rows: list[dict]
    curves: list[dict]
    baseline: bool = False

    @property
    def cases(self) -> list[str]:
        """The patients' names."""
        return [row["case"] for row in self.rows]

    def column(self, name: str) -> list[float]:
        """One metric over the patients; NaN where it is absent."""
        return [row[name] for row in self.rows]


def write(
    folder: Path,
    card: dict,
    samples: int,
    training: list[str],
    records: dict[str, dict],
    baselines: dict[str, dict[str, dict]],
) -> Path:
    """Writes rows.json.

    Args:
        folder: where to.
        card: the bundle's.
        samples: T.
        training: the patients it was trained on.
        records: `score.record` by patient.
        baselines: the same by the baseline's name.

    Returns:
        The file.
    """
    found = {
        "format": FORMAT,
        "network": card["name"],
        "version": card["version"],
        "weights_sha256": card["weights"]["sha256"],
        "samples": samples,
        "training": sorted(training),
        "cases": records,
        "baselines": baselines,
    }
    return replace_text(folder / FILE, json.dumps(_plain(found), indent=0, ensure_ascii=False, allow_nan=False) + "\n")


def read(folder: Path) -> dict:
    """What `write` wrote, NaN where there was no number.

    Args:
        folder: with rows.json.

    Returns:
        Its content.

    Raises:
        SystemExit: a file that is missing or not ours.
    """
    path = Path(folder) / FILE
    if not path.exists():
        raise SystemExit(f"{path} is missing: run 'python -m training evaluate' on that network first.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] == FORMAT and found["cases"]:
            for records in (found["cases"], *found["baselines"].values()):
                for name, record in records.items():
                    if record["row"]["case"] != name:
                        raise ValueError(f"the row of {name} is that of {record['row']['case']}")
                    record.update(row=_numbers(record["row"]), curves=_numbers(record["curves"]))
            return found
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SystemExit(
            f"{path} is damaged ({type(error).__name__}: {error}); run 'python -m training evaluate' again."
        ) from None
    raise SystemExit(f"{path} is of another format or holds no patient; run 'python -m training evaluate' again.")


def gather(folders: dict[str, Path | list[Path]]) -> list[Network]:
    """The networks by name, then the baselines, all over the same patients.

    Args:
        folders: name → folder, or several, one for each fold of a cross-validation; a patient may be in one of them
            only.

    Returns:
        With their rows and curves.

    Raises:
        SystemExit: networks differ in patients, in what these were compared with, in the patients they were trained on
            (then the baselines differ too), or in their columns; or a patient was trained on.
    """
    if not folders:
        raise SystemExit("no network to compare; give at least one folder with rows.json.")
    merged = {
        name: _merged(name, [where] if isinstance(where, (str, Path)) else list(where))
        for name, where in folders.items()
    }
    first, reference = next(iter(merged.items()))
    for name, other in merged.items():
        _require_same(first, reference, name, other)
    networks = [_network(name, found["cases"]) for name, found in merged.items()]
    for name, records in reference["baselines"].items():
        if name in merged:
            raise SystemExit(f"a network is named '{name}' as a baseline is; give it another name.")
        networks.append(_network(name, records, baseline=True))
    columns = set(networks[0].rows[0])
    for network in networks:
        for row in network.rows:
            if set(row) != columns:
                raise SystemExit(
                    f"{network.name}, {row['case']}: columns differ from those of {first} "
                    f"({', '.join(sorted(set(row) ^ columns)[:4])}); evaluate all networks with one version."
                )
    return networks


def _network(name, records, baseline=False):
    ordered = [records[case] for case in sorted(records)]
    return Network(name, [r["row"] for r in ordered], [r["curves"] for r in ordered], baseline)


def _merged(name, folders):
    """The folds of one network as one: patients, what each fold was trained on, baselines."""
    out = {"cases": {}, "training": {}, "baselines": {}}
    for folder in folders:
        found = read(folder)
        twice, seen = (
            sorted(set(found["cases"]) & set(out["cases"])),
            sorted(set(found["cases"]) & set(found["training"])),
        )
        if twice:
            raise SystemExit(f"{name}: {twice[0]} is in {folder} and in a folder before it; each patient counts once.")
        if seen:
            raise SystemExit(f"{name}: {folder} scores {seen[0]}, on which the network was trained.")
        out["cases"].update(found["cases"])
        out["training"].update(dict.fromkeys(found["cases"], found["training"]))
        for baseline, records in found["baselines"].items():
            if set(records) != set(found["cases"]):
                raise SystemExit(
                    f"{Path(folder) / FILE}: the baseline '{baseline}' has other patients; evaluate again."
                )
            out["baselines"].setdefault(baseline, {}).update(records)
    for baseline, records in out["baselines"].items():
        if set(records) != set(out["cases"]):
            raise SystemExit(
                f"{name}: the baseline '{baseline}' is not in every fold; evaluate all folds with one version."
            )
    return out


def _require_same(first, reference, name, other):
    for a, b, x, y in ((first, name, reference, other), (name, first, other, reference)):
        missing = sorted(set(x["cases"]) - set(y["cases"]))
        if missing:
            raise SystemExit(
                f"{b} has no row of {', '.join(missing)}, which {a} has; evaluate both on the same patients."
            )
    for case, record in reference["cases"].items():
        if record["reference"] != other["cases"][case]["reference"]:
            raise SystemExit(
                f"{case}: {first} and {name} were scored against different CTs or labels (the patient was "
                "prepared again in between); evaluate both again."
            )
        if reference["training"][case] != other["training"][case]:
            raise SystemExit(
                f"{case}: {first} and {name} were trained on different patients, so neither they nor their "
                "baselines can be compared; use one split."
            )
    if set(reference["baselines"]) != set(other["baselines"]):
        raise SystemExit(f"{first} and {name} have different baselines; evaluate both with one version.")


def _plain(value):
    """Nested values as JSON allows them: six digits, None for NaN, "inf" for infinity (the PSNR of equal images)."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return None if math.isnan(value) else str(value) if math.isinf(value) else float(f"{value:.6g}")
    return value


def _numbers(value):
    """The inverse of `_plain`."""
    if isinstance(value, dict):
        return {k: v if k == "case" else _numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    return math.nan if value is None else float(value) if value in ("inf", "-inf") else value
