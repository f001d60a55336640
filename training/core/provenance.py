"""Who was trained on: patients are known by the content of their images, never by their names.

A patient's identity are the SHA-256 of the input images of all his prepared cases, as they lie in their files
(`identities`); two days of one patient share it. They are computed once and kept in `hashes.json` beside prepare.csv. A
card says in `training.patients` whom each of its checkpoints has seen, with all weights that it began with, as salted
hashes: {checkpoints: [{seen: [{salt, hashes}], unknown: [bundle, …]}], validation: {salt, hashes}}. `unknown` are
bundles that it began with and that do not say. Cards of earlier versions have names (`case_names`) alone: a name that
was seen is seen, any other is unknown.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

HASHES, FOLDS = "hashes.json", "folds.json"
OUT_OF_FOLD = "out of fold"
# the input image in a case's file: of slices, of organs in CT, of pairs (planning first), of scans for few labels
IMAGES = ("images", "mr", "hu", "image")


def write_json(path: Path, found) -> Path:
    """Replaces a JSON file at once; several processes may do so.

    Args:
        path: of the file.
        found: what JSON can hold.

    Returns:
        The path.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(part, "w", encoding="utf-8") as f:
            json.dump(found, f, indent=1, ensure_ascii=False)
            f.flush()
            os.fsync(f.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def read_json(path: Path) -> dict:
    """What `write_json` wrote; {} where there is none, or none that is whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def content(file: Path) -> str:
    """SHA-256 of the input image of a prepared case.

    Args:
        file: of the case.

    Returns:
        Hexadecimal digits.

    Raises:
        SystemExit: a file that cannot be read.
    """
    try:
        with np.load(file, allow_pickle=False) as f:
            name = next(n for n in IMAGES if n in f)
            # of a pair the planning scan
            array = np.ascontiguousarray(f[name][0] if "displacement" in f else f[name])
    except (OSError, ValueError, EOFError, StopIteration, zipfile.BadZipFile, zlib.error) as error:
        raise SystemExit(f"{file} is missing or damaged ({type(error).__name__}); prepare it again.") from None
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()


def _case_file(prepared: Path, case: str) -> Path:
    """The file of a prepared case, wherever its kind has it."""
    scans = prepared / "scans" / f"{case}.npz"
    return scans if scans.exists() else prepared / "cases" / f"{case}.npz"


def case_hashes(prepared: Path, cases) -> dict[str, str]:
    """The `content` of cases; of those whose file is as it was from `hashes.json`.

    Args:
        prepared: the prepared folder.
        cases: their names.

    Returns:
        {case: SHA-256}.

    Raises:
        SystemExit: a file is missing.
    """
    known, found = read_json(prepared / HASHES), {}
    for case in cases:
        file = _case_file(prepared, case)
        try:
            stat = file.stat()
        except OSError:
            raise SystemExit(f"{file} is missing; prepare it again.") from None
        mark = [stat.st_size, stat.st_mtime_ns]
        entry = known.get(case)
        found[case] = entry if entry and entry["file"] == mark else {"sha256": content(file), "file": mark}
    if any(known.get(c) != entry for c, entry in found.items()):
        try:
            write_json(prepared / HASHES, read_json(prepared / HASHES) | found)
        except OSError:
            pass  # a folder that nobody may write to: they are computed again next time
    return {case: entry["sha256"] for case, entry in found.items()}


def patients(prepared: Path) -> dict[str, str]:
    """Whose the cases of prepare.csv are, of what was kept.

    Args:
        prepared: the prepared folder.

    Returns:
        {case: patient}; empty without that table.
    """
    try:
        with open(prepared / "prepare.csv", newline="", encoding="utf-8") as f:
            return {
                r["case"]: r.get("patient") or r["case"] for r in csv.DictReader(f) if r.get("kept", "yes") == "yes"
            }
    except OSError:
        return {}


def of_scan(array: np.ndarray) -> str:
    """SHA-256 of the voxels of a scan as it came, whatever grid it is brought to; for the column `source_sha256` of
    prepare.csv.

    Args:
        array: HU [z, y, x].

    Returns:
        Hexadecimal digits.
    """
    voxels = np.ascontiguousarray(np.rint(array).astype(np.int32))
    return hashlib.sha256(f"{voxels.shape}".encode() + voxels.tobytes()).hexdigest()


def _sources(prepared: Path) -> dict[str, str]:
    """{case: source_sha256} of prepare.csv, where it says it."""
    try:
        with open(prepared / "prepare.csv", newline="", encoding="utf-8") as f:
            return {r["case"]: r["source_sha256"] for r in csv.DictReader(f) if r.get("source_sha256")}
    except OSError:
        return {}


def _contents(prepared: Path) -> dict[str, str]:
    """{patient: the least of the hashes of his scans} of prepare.csv, where it says them."""
    patient, found = patients(prepared), {}
    for case, sha256 in _sources(prepared).items():
        name = patient.get(case, case)
        found[name] = min(sha256, found.get(name, sha256))
    return found


def identities(prepared: Path, cases) -> dict[str, list[str]]:
    """The hashes of all prepared cases of a case's patient, and of the scans that they were made of where prepare.csv
    says them.

    Args:
        prepared: the prepared folder.
        cases: their names.

    Returns:
        {case: hashes}.

    Raises:
        SystemExit: a file is missing.
    """
    of, sources = patients(prepared), _sources(prepared)
    same: dict[str, list[str]] = {}
    for case, patient in of.items():
        same.setdefault(patient, []).append(case)
    groups = {case: sorted({case, *same.get(of.get(case), [])}) for case in cases}
    hashes = case_hashes(prepared, sorted({c for group in groups.values() for c in group}))
    return {
        case: sorted({hashes[c] for c in group} | {sources[c] for c in group if c in sources})
        for case, group in groups.items()
    }


def deal(prepared: Path, names, folds: int) -> dict[str, int]:
    """Who is in which fold, frozen in `folds.json` of the prepared folder at its first use.

    The first time the patients are dealt to the folds in turn (see `split`): in order of the SHA-256 of their scans as
    they came, where prepare.csv says it, which nobody chose; of others in that of their names. Who is known keeps his
    fold ever after; who is new goes to the smallest, so that no one else moves.

    Args:
        prepared: the prepared folder.
        names: of the patients.
        folds: how many.

    Returns:
        {patient: fold}.
    """
    contents = _contents(prepared)
    names = sorted(set(names), key=lambda n: contents.get(n) or hashlib.sha256(n.encode()).hexdigest())
    stored = read_json(prepared / FOLDS)
    known = stored.get(str(folds), {})
    found = {n: known[n] for n in names if n in known}
    for name in names:
        if name not in found:
            sizes = [sum(f == k for f in found.values()) for k in range(folds)]
            found[name] = sizes.index(min(sizes))
    if any(n not in known for n in names):
        try:
            write_json(prepared / FOLDS, read_json(prepared / FOLDS) | {str(folds): known | found})
        except OSError:
            pass  # the run keeps its own split
    return found


def dealt(prepared: Path, names, folds: int, fold: int) -> tuple[list[str], list[str]]:
    """The patients on either side; those of one fold validate.

    Args:
        prepared: the prepared folder.
        names: of the patients.
        folds: how many.
        fold: which validates, from 0.

    Returns:
        (training, validation).

    Raises:
        SystemExit: a fold that there is not.
    """
    if not 0 <= fold < folds:
        raise SystemExit(f"fold {fold} is not one of 0 to {folds - 1}: the config has {folds} folds.")
    found = deal(prepared, names, folds)
    return sorted(n for n, f in found.items() if f != fold), sorted(n for n, f in found.items() if f == fold)


def salted(salt: str, sha256: str) -> str:
    """SHA-256 of a hash with a salt."""
    return hashlib.sha256((salt + sha256).encode()).hexdigest()


def group(salt: str, hashes) -> dict:
    """What a card says of patients: their hashes with a salt, which say nothing to those who do not have the images.

    Args:
        salt: random text.
        hashes: of the patients' images.

    Returns:
        {salt, hashes}.
    """
    return {"salt": salt, "hashes": sorted({salted(salt, h) for h in hashes})}


def holds(entry: dict, hashes) -> bool:
    """Whether a patient is in a group.

    Args:
        entry: of `group`.
        hashes: one, or all of the patient.

    Returns:
        True or False.
    """
    hashes = [hashes] if isinstance(hashes, str) else hashes
    mine = {salted(entry["salt"], h) for h in hashes}
    return bool(mine & set(entry["hashes"]))


def upstream(card: dict) -> dict:
    """What weights that begin with a bundle have seen before.

    Args:
        card: of the bundle.

    Returns:
        {seen: [group], unknown: [name]}.
    """
    entries = _checkpoints(card)
    if not entries:
        return {"seen": [], "unknown": [f"{card['name']} {card.get('version', '')}".strip()]}
    seen: list[dict] = []
    for entry in entries:
        seen += [g for g in entry["seen"] if g not in seen]
    return {"seen": seen, "unknown": sorted({u for e in entries for u in e.get("unknown", [])})}


def for_card(splits: list[dict], salt: str) -> dict | None:
    """What a card says of patients (`training.patients`).

    Args:
        splits: the split.json of each checkpoint's run.
        salt: random text.

    Returns:
        None where a run was begun before hashes were kept.
    """
    if any("hashes" not in s for s in splits):
        return None
    checkpoints = []
    for s in splits:
        before = s.get("before") or {"seen": [], "unknown": []}
        own = group(salt, [h for n in s["training"] for h in s["hashes"][n]])
        checkpoints.append({"seen": [own, *before["seen"]], "unknown": before["unknown"]})
    return {
        "checkpoints": checkpoints,
        "validation": group(salt, [h for s in splits for n in s["validation"] for h in s["hashes"][n]]),
    }


def _checkpoints(card: dict) -> list[dict]:
    training_entry = card.get("training", {}).get("patients")
    return training_entry.get("checkpoints", []) if isinstance(training_entry, dict) else []


def unseen_checkpoints(card: dict, hashes) -> list[int]:
    """The checkpoints of a bundle that are known not to have seen a patient.

    With those alone a bundle of K folds may be scored on him (`out of fold`).

    Args:
        card: of the bundle.
        hashes: one, or all of the patient (`identities`).

    Returns:
        Numbers from 0; none for a card that does not say.
    """
    return [
        k
        for k, entry in enumerate(_checkpoints(card))
        if not entry.get("unknown") and not any(holds(g, hashes) for g in entry["seen"])
    ]


def seen_checkpoints(card: dict, hashes) -> list[int]:
    """The checkpoints of a bundle that are known to have seen a patient.

    Args:
        card: of the bundle.
        hashes: one, or all of the patient.

    Returns:
        Numbers from 0.
    """
    return [k for k, entry in enumerate(_checkpoints(card)) if any(holds(g, hashes) for g in entry["seen"])]


def joined(card: dict) -> bool:
    """Whether a bundle holds the checkpoints of several folds, of which each patient is scored by those that have not
    seen him.
    """
    return isinstance(card.get("training", {}).get("fold"), list)


def _out_of_fold(card: dict, prepared: Path, cases) -> dict:
    """The same as `require_unseen` of a bundle of folds, with the checkpoints that may score each case."""
    hashes = identities(prepared, cases)
    which = {c: unseen_checkpoints(card, hashes[c]) for c in cases}
    seen = [c for c in cases if not which[c]]
    if seen:
        raise SystemExit(
            f"{card['name']}: all of its checkpoints were trained on {', '.join(seen)}, or began with weights that may "
            "have seen them; evaluate it with the runs that it is of."
        )
    return {
        "scored": hashes,
        "unseen": OUT_OF_FOLD,
        "folds": len(_checkpoints(card)),
        "checkpoints": which,
    }


def may_score(networks: list, scored: dict, case: str) -> list:
    """Those of a bundle's networks that may score a case (`require_unseen`): of folds those that have not seen it."""
    return [networks[k] for k in scored["checkpoints"][case]] if "checkpoints" in scored else networks


def fold_of(scored: dict, case: str) -> dict:
    """{"fold": the checkpoint that scored a case}; nothing where there are no folds, or several scored it."""
    which = scored.get("checkpoints", {}).get(case, [])
    return {"fold": which[0]} if len(which) == 1 else {}


def validated(card: dict, hashes) -> bool:
    """Whether a patient is one of those on whom the bundle's run validated.

    Args:
        card: of the bundle.
        hashes: one, or all of the patient.

    Returns:
        True or False.
    """
    return holds(card["training"]["patients"]["validation"], hashes)


def why_unknown(card: dict) -> str | None:
    """Why a card cannot say whom its weights have not seen.

    Args:
        card: of the bundle.

    Returns:
        A text; None where it can.
    """
    entries = _checkpoints(card)
    if not entries:
        return "its card does not say, by their images, whom it was trained on"
    began = sorted({u for e in entries for u in e.get("unknown", [])})
    return f"it began with {', '.join(began)}, whose card does not say whom that was trained on" if began else None


def unseen_cases(card: dict, prepared: Path) -> list[str]:
    """The cases of prepare.csv whom no checkpoint of a bundle has seen, as far as its card knows.

    Args:
        card: of the bundle.
        prepared: the prepared folder.

    Returns:
        Names of cases; patients whom the card knows by name (another of their days, say) are left out.
    """
    of = patients(prepared)
    named = {n.rsplit("_day", 1)[0] for n in card.get("training", {}).get("case_names", [])}
    hashes = identities(prepared, of)
    return sorted(c for c, p in of.items() if p not in named and not seen_checkpoints(card, hashes[c]))


def require_unseen(card: dict, prepared: Path, cases, stated: bool = False) -> dict:
    """Raises where a case was seen by the checkpoints that are to score it.

    Args:
        card: of the bundle.
        prepared: the prepared folder.
        cases: their names.
        stated: the evaluator states that none was seen, for a card that cannot say.

    Returns:
        {scored: {case: hashes}, unseen: "by content" or "as stated"}; of a bundle of folds (`joined`) the "checkpoints"
        besides that have not seen each.

    Raises:
        SystemExit: a case was seen, whatever is stated; or the card cannot say and nothing is stated.
    """
    if joined(card):
        return _out_of_fold(card, prepared, cases)
    hashes, names = identities(prepared, cases), set(card.get("training", {}).get("case_names", []))
    seen = [c for c in cases if seen_checkpoints(card, hashes[c]) or c in names]
    if seen:
        raise SystemExit(
            f"{card['name']} was trained on {', '.join(seen)}: a score on them says nothing; evaluate the bundle with "
            "the run that it is of."
        )
    unknown = why_unknown(card)
    if unknown and not stated:
        raise SystemExit(
            f"{card['name']}: {unknown}; export its run again, or say --unseen if you know that it was trained on none "
            f"of {', '.join(cases)}."
        )
    if unknown:
        print(f"{card['name']}: {unknown}; that it has not seen these {len(cases)} is taken from --unseen.", flush=True)
    return {"scored": hashes, "unseen": "as stated" if unknown else "by content"}


def training_entry(found: dict) -> dict:
    """What a rows.json or evaluation.json says of who was scored, to be passed on."""
    return {k: found[k] for k in ("scored", "unseen", "folds", "checkpoints") if k in found}


def none_trained_on(found: dict) -> str:
    """The words of a card for what was scored.

    Args:
        found: of `require_unseen`.

    Returns:
        A part of a sentence.
    """
    if found.get("unseen") == OUT_OF_FOLD:
        count = len({tuple(h) for h in found["scored"].values()})
        return f"out-of-fold, {count} patients, {found['folds']} folds: each by the checkpoint that has not seen him"
    return "none of them trained on" + (" as its evaluator states" if found.get("unseen") == "as stated" else "")


def described(count: int, who: str, found: dict) -> str:
    """The card's `accuracy.cases`: "10 validation patients …, none of them trained on"; out-of-fold patients are all of
    them.
    """
    if found.get("unseen") == OUT_OF_FOLD:
        return f"{none_trained_on(found)}; {who.removeprefix('validation ')}"
    return f"{count} {who}, {none_trained_on(found)}"


def require_scored_unseen(file: Path, found: dict, card: dict) -> None:
    """Raises when what was scored before may not go into a card.

    Args:
        file: an evaluation.json, for messages.
        found: what it holds.
        card: of the weights that it is to go into.

    Raises:
        SystemExit: a patient was seen, or the file does not say who was scored though the card says who was trained on.
    """
    if not _checkpoints(card):
        return
    if "scored" not in found:
        raise SystemExit(f"{file} does not say whom it scored; run 'python -m training evaluate' again.")
    if joined(card) != (found.get("unseen") == OUT_OF_FOLD):
        raise SystemExit(f"{file} is not of these folds; run 'python -m training evaluate' again.")
    by = found.get("checkpoints", {})
    seen = [
        c
        for c, hashes in found["scored"].items()
        if set(seen_checkpoints(card, hashes)) & set(by.get(c, range(len(_checkpoints(card)))))
    ]
    if seen:
        raise SystemExit(f"{file}: {', '.join(seen)} was trained on; its figures do not go into a card.")
