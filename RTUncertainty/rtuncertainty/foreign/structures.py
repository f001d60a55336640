"""Structures of another tool's members: the contour that is shown, and where several members or probabilities say it,
how sure that is.

One class after the other is looked at over all members, so that memory holds a few images whatever the number of
structures. A mask counts as a probability of 0 or 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from ..core import geometry, structure_set
from ..core.errors import InputError
from ..core.structure_set import Structure
from ..results import tables
from ..uncertainty import flags, volume_assessment, volume_calibration, volumes
from ..uncertainty.quality import binary_entropy
from ..uncertainty.volume_distribution import VolumeDistribution
from .boxed import Boxed
from .probabilities import Probabilities
from .segmentation import Segmentation

LEVEL = 0.9
# a mean probability below this lies in no contour; a box is drawn around the rest, and a voxel more for its surface
LEAST, MARGIN = 1e-3, 2
# of the structures in their segmentation and in their probabilities, taken together (Dice): below it, axes are swapped
ALIKE = 0.5
# a structure that is nowhere likelier than this was not found
LIKELY = 0.05


@dataclass
class Member:
    """What one member says: a segmentation, probabilities, or both."""

    file: str
    drawn: Segmentation | None = None
    probabilities: Probabilities | None = None
    last: tuple = ("", None)  # name and voxels of the mask that was asked for last

    @property
    def names(self) -> list[str]:
        """Its structures, in the order of its classes."""
        return list(self.probabilities.names.values if self.probabilities else self.drawn.masks if self.drawn else [])

    @property
    def exclusive(self) -> bool:
        """Whether its probabilities exclude each other."""
        return self.probabilities is not None and not self.probabilities.names.regions

    def values(self, names: list[str]) -> Iterator[np.ndarray]:
        """float32 [z, y, x] of each structure in turn, behind the background where they are exclusive."""
        if self.probabilities is not None:
            yield from self.probabilities
        else:
            yield from (self.mask(name).astype(np.float32) for name in names)

    def mask(self, name: str) -> np.ndarray:
        """A structure of its segmentation, bool [z, y, x]."""
        if self.last[0] != name:
            assert self.drawn is not None
            self.last = (name, self.drawn.masks[name]())
        return self.last[1]

    def contours(self) -> Iterator[tuple[str, np.ndarray]]:
        """(name, bool [z, y, x]) of the structures as it draws them: its own segmentation, else what is likeliest."""
        if self.drawn is not None:
            yield from ((name, self.mask(name)) for name in self.names)
        elif not self.exclusive:
            yield from ((name, value > 0.5) for name, value in zip(self.names, self.values(self.names), strict=True))
        else:
            best, likeliest = np.zeros((), np.uint16), np.zeros(())
            for number, value in enumerate(self.values(self.names)):
                if number == 0:
                    best, likeliest = np.zeros(value.shape, np.uint16), value
                    continue
                best[value > likeliest] = number
                likeliest = np.maximum(likeliest, value)
            yield from ((name, best == k) for k, name in enumerate(self.names, 1))


@dataclass
class _Found:
    """A structure in a box: the mean over the members, P(inside) (None where nothing says it), its own contour."""

    name: str
    box: tuple[slice, ...]
    mean: np.ndarray
    inside: np.ndarray | None
    own: np.ndarray | None
    shown: np.ndarray = field(default_factory=lambda: np.zeros(()))


def content(members: list[Member], grid: sitk.Image, styles: dict[str, dict], card: dict, progress):
    """Images and tables of a result.

    Args:
        members: one or more, of the same structures.
        grid: the input image.
        styles: {name: color, code}, of source.json; the files' own come after.
        card: of the model; `outputs.structures` is filled in.
        progress: takes stages and notes.

    Returns:
        ({key of a result: content}, structures as in a card).

    Raises:
        InputError: members that do not fit together, or no structure with a voxel.
    """
    names = _same_names(members)
    unknown = next((n for n in styles if n not in names), None)
    if unknown is not None:
        raise InputError(
            f"{members[0].file}: holds no structure '{unknown}', which source.json names; it holds "
            f"{', '.join(names[:5])}{', …' * (len(names) > 5)}."
        )
    found, maps, exclusive = _over_members(members, names, grid, progress)
    absent = [n for n in names if n not in {f.name for f in found}]
    if not found:
        raise InputError(f"{members[0].file}: holds no structure with a voxel; there is nothing to show.")
    if absent:
        progress.note(f"Not found by any member, and left out: {', '.join(absent)}.")
    if len(found) > structure_set.MOST:
        raise InputError(
            f"{members[0].file}: holds {len(found)} structures, more than the {structure_set.MOST} of a result."
        )
    own = {n: s for m in reversed(members) if m.drawn is not None for n, s in m.drawn.styles.items()}
    structures = [_entry(f.name, k, own.get(f.name, {}) | styles.get(f.name, {})) for k, f in enumerate(found, 1)]
    card["outputs"]["structures"] = structures
    out: dict = {key: geometry.like(array, grid) for key, array in maps.items()}
    out["structures"] = _segmentation(found, structures, grid, exclusive)
    out |= _tables(found, maps.get("entropy"), grid, card, progress)
    if all(m.probabilities is not None for m in members):
        mean = Boxed(grid, np.float32)
        for f in found:
            mean.put(f.name, f.box, f.mean)
        out["probabilities"] = mean
    return out, structures


def sample(member: Member, structures: list[dict], grid: sitk.Image) -> sitk.Image:
    """One member's structures as a segmentation.

    Args:
        member: whose.
        structures: of the result.
        grid: the input image.

    Returns:
        With the header of a `.seg.nrrd`.
    """
    labels, overlap, of = np.zeros(grid.GetSize()[::-1], np.uint8), False, {s["name"]: s for s in structures}
    for name, mask in member.contours():
        if name in of:
            overlap |= bool(labels[mask].any())
            labels[mask] = of[name]["label"]
    if not overlap:
        return structure_set.of_labels(geometry.like(labels, grid, np.uint8), structures)
    masks = {name: geometry.like(mask, grid, np.uint8) for name, mask in member.contours() if name in of}
    return structure_set.as_segmentation([Structure(n, masks[n], tuple(s["color"]), s["code"]) for n, s in of.items()])


def _same_names(members: list[Member]) -> list[str]:
    names = members[0].names
    odd = next((n for n in names if not n.strip() or not n.isprintable()), None)
    if odd is not None:
        raise InputError(f"{members[0].file}: has a structure called {odd!r}, which cannot be printed; rename it.")
    for member in members[1:]:
        missing, more = ([n for n in a if n not in b] for a, b in ((names, member.names), (member.names, names)))
        for lacking, other, absent in ((member, members[0], missing), (members[0], member, more)):
            if absent:
                raise InputError(
                    f"{lacking.file}: lacks '{absent[0]}', which {other.file} has; give members of one model, each "
                    "with all structures (empty ones too)."
                )
        if member.probabilities is not None and member.names != names:
            raise InputError(
                f"{member.file}: has its classes in another order than {members[0].file}; give folds of one model."
            )
    without = [m for m in members if m.probabilities is None]
    if 0 < len(without) < len(members):
        raise InputError(
            f"{without[0].file}: has no probabilities, while other members have; save them for each, or give none."
        )
    return names


def _over_members(members: list[Member], names: list[str], grid: sitk.Image, progress):
    """(structures with a voxel, maps of all of them together, whether they exclude each other)."""
    soft, count = members[0].probabilities is not None, len(members)
    seen = _Seen(members, grid.GetSize()[::-1], soft)
    streams = [m.values(names) for m in members]
    for number, name in enumerate([*[None] * members[0].exclusive, *names]):
        progress.stage("assemble", 0.8 * number / len(names), f"Structure {number} of {len(names)}")
        mean, variance = seen.next(name, streams)
        if name is None:
            continue
        own = members[0].mask(name) if count == 1 and members[0].drawn is not None else None
        some = mean > LEAST if own is None else (mean > LEAST) | own
        if not (mean > LIKELY / count).any() and (own is None or not own.any()):
            continue
        box = geometry.bounding_box(some, MARGIN)
        # one probability: the contour of q holds what is more likely than 1 − q
        inside = mean[box].copy() if count == 1 and soft else None
        if count > 1:
            inside = volumes.probability_of_being_inside(mean[box], variance[box]).astype(np.float32)
        seen.found.append(_Found(name, box, mean[box].copy(), inside, None if own is None else own[box]))
    for stream in streams:  # what a softmax adds up to is known at its end
        next(stream, None)
    seen.require_alike()
    return seen.end(names)


class _Seen:
    """What is known after each class: the likeliest one so far, entropies, and whether both files of a member say the
    same."""

    def __init__(self, members: list[Member], shape, soft: bool):
        self.members, self.soft = members, soft
        self.found: list[_Found] = []
        self.entropy, self.own_entropy, self.total, self.likeliest = (np.zeros(shape, np.float32) for _ in range(4))
        self.best, self.number = np.zeros(shape, np.uint16), 0
        self.alike = [np.zeros(2) for _ in members]

    def next(self, name: str | None, streams) -> tuple[np.ndarray, np.ndarray]:
        """Mean and unbiased variance (Welford 1962) over the members of the next class; None: the background."""
        mean = square = np.zeros(())
        for k, (member, stream) in enumerate(zip(self.members, streams), 1):
            value = next(stream)
            if self.soft:
                self._compare(k - 1, member, name, value)
            if k == 1:
                mean, square = value.copy(), np.zeros(value.shape, np.float32)
                continue
            delta = value - mean
            mean += delta / k
            square += delta * (value - mean)
        if name is None:
            self.entropy -= _plogp(mean)
            self.likeliest = mean.copy()
        else:
            self.number += 1
            # masks are 0 but for a box, in which alone there is something to do
            at = (slice(None),) * 3 if self.soft else geometry.bounding_box(mean > 0) if mean.any() else (slice(0),) * 3
            part, likeliest = mean[at], self.likeliest[at]
            self.entropy[at] -= _plogp(part)
            self.total[at] += part
            self.best[at][part > likeliest] = self.number
            np.maximum(likeliest, part, out=likeliest)
        return mean, square / max(1, len(self.members) - 1)

    def _compare(self, k: int, member: Member, name: str | None, value: np.ndarray) -> None:
        self.own_entropy -= _plogp(value) / len(self.members)
        if name is not None and member.drawn is not None:
            drawn, likely = member.mask(name), value > 0.5
            self.alike[k] += 2 * np.count_nonzero(drawn & likely), np.count_nonzero(drawn) + np.count_nonzero(likely)

    def require_alike(self) -> None:
        """Raises where the probabilities of a member are not those of its segmentation."""
        for member, (common, size) in zip(self.members, self.alike):
            if member.probabilities is not None and common < ALIKE * size:
                raise InputError(
                    f"{member.probabilities.file}: its probabilities are not those of {member.file} (Dice "
                    f"{common / size:.2f}); it is another patient's or model's, or its axes are not [class, z, y, x]."
                )

    def end(self, names: list[str]):
        """As of `_over_members`."""
        exclusive = self.members[0].exclusive or (not self.soft and bool(self.total.max() <= 1 + 1e-4))
        if exclusive and not self.soft:  # no channel for the background: it is what is left
            background = (1 - self.total).clip(0)
            self.best[background >= self.likeliest] = 0
            self.entropy -= _plogp(background)
        for f in self.found:
            at = self.best[f.box] == names.index(f.name) + 1
            f.shown = f.own if f.own is not None else at if exclusive else f.mean > 0.5
        maps = {}
        if self.soft or len(self.members) > 1:
            if not exclusive:  # structures that overlap have no common entropy: the largest of their own
                self.entropy = np.zeros_like(self.total)
                for f in self.found:
                    own = binary_entropy(f.mean).astype(np.float32)
                    self.entropy[f.box] = np.maximum(self.entropy[f.box], own * (f.mean > 0))
            maps["entropy"] = self.entropy.clip(0)
        if self.soft and len(self.members) > 1 and exclusive:
            maps["mutual_information"] = (self.entropy - self.own_entropy).clip(0)
        kept = [f for f in self.found if f.shown.any() or (f.inside is not None and (f.inside > LIKELY).any())]
        return kept, maps, exclusive


def _plogp(p: np.ndarray) -> np.ndarray:
    return p * np.log(np.maximum(p, 1e-12))


def _entry(name: str, label: int, style: dict) -> dict:
    color = style.get("color") or structure_set.COLORS[(label - 1) % len(structure_set.COLORS)]
    return {"name": name, "label": label, "color": [round(c) for c in color], "code": style.get("code")}


def _segmentation(found: list[_Found], structures: list[dict], grid: sitk.Image, exclusive: bool) -> sitk.Image:
    if exclusive:
        labels = np.zeros(grid.GetSize()[::-1], np.uint8)
        for f, s in zip(found, structures):
            labels[f.box][f.shown] = s["label"]
        return structure_set.of_labels(geometry.like(labels, grid, np.uint8), structures)
    shown = Boxed(grid, np.uint8)
    for f in found:
        shown.put(f.name, f.box, f.shown)
    return structure_set.as_segmentation(
        [Structure(s["name"], shown[s["name"]], tuple(s["color"]), s["code"]) for s in structures]
    )


def _tables(found: list[_Found], entropy, grid: sitk.Image, card: dict, progress) -> dict:
    """Volumes, with intervals where the card has some (of a site), distributions where there are samples, flags."""
    ml, rows, raised = float(np.prod(grid.GetSpacing())) / 1000, [], []
    inside, assessed = Boxed(grid, np.uint8), []
    everywhere = np.ones(grid.GetSize()[::-1], bool)
    for number, f in enumerate(found):
        progress.stage("assemble", 0.8 + 0.2 * number / len(found), f"Volume of {f.name}")
        one, largest = None, 0.0
        if f.inside is None:
            # all that is known is one volume; a site may know how far such volumes are off
            alone = VolumeDistribution(f.name, (50.0,), (np.count_nonzero(f.shown) * ml,))
            interval = volume_calibration.of_card(card).interval(alone, LEVEL)
            row = volumes.Volume(f.name, alone.volume_ml, *interval.shown, LEVEL, interval.calibrated)
        else:
            part = sitk.Image([s.stop - s.start for s in f.box[::-1]], sitk.sitkUInt8)
            part.SetSpacing(grid.GetSpacing())
            own = None if entropy is None else entropy[f.box]
            one = volume_assessment.assess(f.name, f.inside, f.mean, f.shown, own, part, card)
            row, largest = volume_assessment.volume(one, card, LEVEL), one.distribution.interval(LEVEL)[1]
            inside.put(f.name, f.box, sitk.GetArrayFromImage(one.inside))
            assessed.append(one)
        rows.append(row)
        whole = np.zeros(everywhere.shape, bool)
        whole[f.box] = f.shown
        raised += flags.of_structure(row, whole, everywhere, one.quality if one else None, card, largest)
    out: dict = {"volumes": tables.of_volumes(rows), "flags": tables.of_flags(raised)}
    if assessed:
        out |= tables.of_assessed(assessed, card) | {"inside": inside}
    return out
