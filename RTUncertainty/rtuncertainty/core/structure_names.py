"""Which organ a structure is, by its name in whatever spelling: AAPM TG-263 names, plain English, and what clinics
write.
"""

from __future__ import annotations

import re
import unicodedata

# what the name is, without its side, in lower case and without separators
SYNONYMS = {
    "brainstem": ("brainstem", "stem", "truncusencephali", "hirnstamm"),
    "spinal_cord": (
        "spinalcord",
        "cord",
        "spinal",
        "myelon",
        "medulla",
        "medullaspinalis",
        "moelleepiniere",
        "cordspinal",
        "rueckenmark",
    ),
    "parotid": ("parotid", "parotis", "parotidgland", "glndparotid", "glparotis", "glandulaparotis", "parotids"),
    "esophagus": ("esophagus", "oesophagus", "esoph", "oesoph", "oesophage", "speiseroehre"),
    "larynx": ("larynx", "glotticlarynx", "larynxsg", "kehlkopf"),
    "mandible": ("mandible", "mandibula", "bonemandible", "lowerjaw", "unterkiefer"),
    "prostate": ("prostate", "prostata", "prostategland"),
    "rectum": ("rectum", "rektum", "rect"),
    "bladder": ("bladder", "urinarybladder", "blase", "harnblase", "vesica"),
    "femoral_head": ("femoralhead", "femurhead", "headoffemur", "femhead", "femoral", "caputfemoris", "hueftkopf"),
    "bone": ("bone", "bones", "skeleton"),
}
SIDES = {
    "left": ("l", "lt", "left", "li", "links", "sin", "sinistra"),
    "right": ("r", "rt", "right", "re", "rechts", "dex", "dextra"),
}
SIDED = ("parotid", "femoral_head")
# letters that become two; all others lose their accents
FOLDED = {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss", "œ": "oe", "Œ": "Oe"}
# a margin or a part of an organ is another structure
OTHER = re.compile(r"^(p?[cgip]tv|prv|opt|ring|wall|avoid|minus|sub|exp|margin)\d*$")


def words(name: str) -> list[str]:
    """The words of a name, in lower case: "GlndParotid_L" is glnd, parotid, l."""
    for letter, plain in FOLDED.items():
        name = name.replace(letter, plain)
    name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return [w for w in re.split(r"[^a-z0-9]+", spaced.lower()) if w]


def organ(name: str) -> str | None:
    """The organ that a structure is, by its name.

    Sided organs need a side, others must have none. Margins and targets ("PRV", "PTV") are no organs.

    Args:
        name: in whatever spelling.

    Returns:
        The name in our cards, such as "parotid_left"; None where it says none that is known.
    """
    found = words(name)
    if any(OTHER.match(w) for w in found):
        return None
    sides = {side for side, spellings in SIDES.items() for w in found if w in spellings}
    rest = "".join(w for w in found if not any(w in s for s in SIDES.values()))
    known = next(
        (title for title, spellings in SYNONYMS.items() if rest in spellings or rest == title.replace("_", "")), None
    )
    if known is None or (len(sides) != 1 if known in SIDED else sides):
        return None
    return f"{known}_{sides.pop()}" if known in SIDED else known


def match(names, organs) -> dict[str, str]:
    """Which structures are organs of a model.

    Args:
        names: of structures.
        organs: of the model, which may be names of clinics too.

    Returns:
        {name: organ}; of two names for one organ the one that is spelled like it stands, else the first.
    """
    found = {name: name for name in names if name in organs}
    known: dict[str, list[str]] = {}
    for title in organs:
        known.setdefault(organ(title) or title, []).append(title)
    for name in names:
        # two of the organs may be spellings of one: which is meant is not known
        titles = known.get(organ(name) or name, [])
        if name not in found and len(titles) == 1 and titles[0] not in found.values():
            found[name] = titles[0]
    return {name: found[name] for name in names if name in found}
