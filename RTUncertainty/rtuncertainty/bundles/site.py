"""A site's calibration: `site.json`, which `commission` writes. With it the intervals and limits of a model are those
of the site, not those of its card. It belongs to one version of one model, and holds nothing of a patient.
"""

from __future__ import annotations

import json
from pathlib import Path

from ..core.errors import InputError

FORMAT = 1
KIND = "rtuncertainty site calibration"
REQUIRED = ("site", "person", "created", "patients", "model", "calibration")
# entries of a card's calibration that a site may bring
ENTRIES = ("synct", "volumes", "quality", "flags", "lights")


def read(path) -> dict:
    """A site file, checked.

    Args:
        path: of the file.

    Returns:
        What it says.

    Raises:
        InputError: it is missing, damaged, of another format, or no site file.
    """
    path = Path(path)
    wanted = "give the site.json that 'rtuncertainty commission' wrote"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; {wanted}.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a site calibration; {wanted}.") from error
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise InputError(f"{path}: is no site calibration; {wanted}.")
    if found.get("format") != FORMAT:
        raise InputError(
            f"{path}: has format {found.get('format')!r}, this version reads format {FORMAT}; update RTUncertainty."
        )
    missing = [k for k in REQUIRED if k not in found]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; {wanted}.")
    unknown = [k for k in found["calibration"] if k not in ENTRIES]
    if unknown:
        raise InputError(f"{path}: {', '.join(unknown)} is no entry of a site calibration; {wanted}.")
    return found


def applied(card: dict, site) -> dict:
    """A card with a site's intervals and limits in place of its own.

    What the site could not calibrate stays as the card has it, and `card["site"]["kept"]` names it.

    Args:
        card: of the model.
        site: path of a site file, what `read` gave, or None.

    Returns:
        The card; of no site as it was.

    Raises:
        InputError: as of `read`, and for a site that was commissioned with another model, version or weights.
    """
    if site is None:
        return card
    name = "the site calibration" if isinstance(site, dict) else str(site)
    found = site if isinstance(site, dict) else read(site)
    own, theirs = identity(card), found["model"]
    different = [key for key in own if own[key] != theirs.get(key)]
    if different:
        words = {"name": "model", "version": "version", "weights_sha256": "weights"}
        raise InputError(
            f"{name}: was made for {theirs.get('name')} {theirs.get('version')}, not for {own['name']} "
            f"{own['version']} (other {' and '.join(words[k] for k in different)}); commission this model first, or "
            "leave the site out."
        )
    entries = {k: v for k, v in found["calibration"].items() if v is not None}
    kept = [k for k, v in card["calibration"].items() if v and k not in entries]
    who = {k: found[k] for k in ("site", "person", "created", "patients")}
    return card | {"calibration": card["calibration"] | entries, "site": who | {"kept": kept, "of": sorted(entries)}}


def identity(card: dict) -> dict:
    """What a site calibration is bound to: name, version and weights of a model."""
    return {
        "name": card["name"],
        "version": card["version"],
        "weights_sha256": (card.get("weights") or {}).get("sha256"),
    }


def sentence(card: dict) -> str:
    """Whose intervals and limits a result has, as a text; empty where they are the card's own."""
    site = card.get("site")
    if not site:
        return ""
    names = {
        "synct": "error bars in HU",
        "volumes": "intervals of volumes",
        "quality": "expected Dice",
        "flags": "limits of flags",
        "lights": "limits of the agreement",
    }
    whose = [names[k] for k in ENTRIES if k in site.get("of", ())]
    kept = [names.get(k, k) for k in site.get("kept", ())]
    if not whose:
        return f"The site {site['site']} calibrated nothing for this model: all is as on the model's card."
    words = ", ".join(whose)
    return (
        f"{words[:1].upper()}{words[1:]} are those of the site {site['site']} ({site['patients']} patients, "
        f"{str(site['created'])[:10]}, {site['person']}), not of the model's card."
        + (f" As on the card: {', '.join(kept)}." if kept else "")
    )
