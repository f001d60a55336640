"""Which pictures a report shows: slices of the whole, and three planes through the place where a structure is least
certain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .data import ReportData
from .figures import CONTOURS, Figure, Line, Scale, View, colored, contour_lines, draw, nested_lines, number, round_up
from .structures import Part, Structure, around

CT_WINDOW, SOFT_TISSUE = (-250.0, 500.0), (-160.0, 240.0)
ENTROPY_FROM = 0.1  # nats; below it a voxel is as good as certain
JACOBIAN_FROM = 0.1  # a tenth of the volume
MARGIN_MM = 22.0
EDGES_MM = (80.0, 150.0)  # of a place's picture: less shows a structure without its neighbourhood, more makes it small
NAMES = {
    "entropy": "Entropy of the structures",
    "segmented_entropy": "Entropy of the segmentation",
    "predictive_sd": "Predictive SD",
    "displacement_sd": "SD of the displacement",
    "jacobian": "Jacobian (1: no change of volume)",
}


@dataclass(frozen=True)
class Panel:
    """One picture of a row.

    Attributes:
        key: of the image.
        title: above it.
        scale: its colours.
        lines: the contours on it, keys of `CONTOURS`.
        threshold: it lies over the anatomy, where it is that far from `middle`; None: it stands alone.
        middle: see `threshold`.
        masked: black outside of the body.
    """

    key: str
    title: str
    scale: Scale
    lines: tuple[str, ...] = ()
    threshold: float | None = None
    middle: float = 0.0
    masked: bool = False


def anatomy(data: ReportData) -> tuple[str, Scale]:
    """The image on which contours are judged.

    Args:
        data: the result.

    Returns:
        (its key, its window); ("", a scale) when there is none.
    """
    if "synct" in data.images:
        return "synct", Scale("grey", *CT_WINDOW, "HU")
    if data.job == "propagate":
        return ("input" if "input" in data.images else "warped_planning"), Scale("grey", *SOFT_TISSUE, "HU")
    return ("input", _input_scale(data)) if "input" in data.images else ("", Scale("grey", 0.0, 1.0))


def _modality(data: ReportData) -> str:
    """CT, MR or "" of the input, by the model's card; where that says nothing, an image with air at −1000 counts as
    CT."""
    known = (data.card.get("input") or {}).get("modality") or ("CT" if data.job == "propagate" else "")
    return known or ("CT" if "input" in data.images and float(data.images["input"].min()) < -200 else "")


def _input_scale(data: ReportData) -> Scale:
    """The window of the input: soft tissue of a CT, of another image up to its brightest half percent."""
    if _modality(data) == "CT":
        return Scale("grey", *SOFT_TISSUE, "HU")
    values = data.in_body("input")
    return Scale("grey", min(0.0, float(values.min())), max(float(np.percentile(values, 99.5)), 1e-6))


def _limit(data: ReportData, key: str, percentile: float = 99.5) -> float:
    """The round number up to which a map is coloured: the same in every picture."""
    values = np.abs(data.in_body(key))
    return round_up(float(np.percentile(values, percentile))) if values.size else 1.0


def map_panel(data: ReportData, key: str, lines: tuple[str, ...] = ()) -> Panel:
    """An uncertainty map or the Jacobian over the anatomy, with its range, threshold and unit.

    Args:
        data: the result.
        key: of the map.
        lines: the contours on it.

    Returns:
        The panel.
    """
    if key == "jacobian":
        reach = min(max(round_up(float(np.percentile(np.abs(data.in_body(key) - 1), 99))), 0.2), 1.0)
        return Panel(key, NAMES[key], Scale("signed", 1 - reach, 1 + reach), lines, JACOBIAN_FROM, 1.0)
    if key in ("entropy", "segmented_entropy"):
        known = sum(key == "entropy" or "segmented" in s.contours for s in data.structures)
        return Panel(key, NAMES[key], Scale("entropy", 0.0, math.log(max(known + 1, 2)), "nats"), lines, ENTROPY_FROM)
    scale = Scale("predictive", 0.0, _limit(data, key), "mm" if key == "displacement_sd" else "HU")
    threshold = min(round_up(float(np.percentile(data.in_body(key), 75))), 0.8 * scale.high)
    return Panel(key, NAMES[key], scale, lines, threshold)


def panels(data: ReportData) -> tuple[list[Panel], list[Panel]]:
    """What is shown of slices, in reading order.

    Args:
        data: the result.

    Returns:
        (of every slice, of one slice more).
    """
    has, ct = data.images.__contains__, Scale("grey", *CT_WINDOW, "HU")
    if data.job == "propagate":
        soft, paths = Scale("grey", *SOFT_TISSUE, "HU"), {p for s in data.structures for p in s.contours}
        first = [Panel("input", "Daily CT", soft, ("planning", "propagated", "accepted"))] if has("input") else []
        # without a Jacobian the model deforms nothing
        moved = "deformed" if has("jacobian") else "aligned rigidly"
        warped = Panel("warped_planning", f"Planning CT, {moved}", soft, ("propagated",))
        both = (
            [Panel(anatomy(data)[0], "Propagated and segmented", soft, ("propagated", "segmented"))]
            if "segmented" in paths
            else []
        )
        first += [*(both or [warped]), *(map_panel(data, k, ("propagated",)) for k in ("displacement_sd",) if has(k))]
        more = [warped] * bool(both) + ([map_panel(data, "jacobian", ("propagated",))] if has("jacobian") else [])
        return first, more + [map_panel(data, "segmented_entropy", ("segmented",))] * (
            has("segmented_entropy") and bool(both)
        )
    first = [Panel("input", f"Input {_modality(data) or 'image'}", _input_scale(data))] if has("input") else []
    more = []
    if not has("synct"):
        first += [Panel("input", "With structures", _input_scale(data), ("structure",))] if first else []
        return first + [map_panel(data, "entropy", ("structure",))] * has("entropy"), []
    first.append(Panel("synct", "Synthetic CT with structures" if data.shown() else "Synthetic CT", ct, ("structure",)))
    uncertain = "predictive_sd" if has("predictive_sd") else "entropy"
    if has(uncertain):
        first.append(map_panel(data, uncertain, ("structure",)))
    if has("intrinsic_sd"):
        top = _limit(data, "predictive_sd" if has("predictive_sd") else "intrinsic_sd")
        more.append(Panel("intrinsic_sd", "Intrinsic SD (the data)", Scale("intrinsic", 0.0, top, "HU"), masked=True))
    if has("parameter_sd"):
        more.append(
            Panel(
                "parameter_sd",
                "Parameter SD (the model)",
                Scale("parameter", 0.0, _limit(data, "parameter_sd"), "HU"),
                masked=True,
            )
        )
    if has("entropy") and uncertain != "entropy":
        more.append(Panel("entropy", NAMES["entropy"], map_panel(data, "entropy").scale, ("structure",), masked=True))
    if has("reference"):
        more.append(Panel("reference", "Reference CT", ct))
        if has("error"):
            reach = _limit(data, "error", 98)
            more.append(Panel("error", "Error: synCT − CT", Scale("signed", -reach, reach, "HU"), masked=True))
        if has("zscore"):
            more.append(Panel("zscore", "z-score: error / predictive SD", Scale("signed", -4.0, 4.0), masked=True))
    return first, more


def row(data: ReportData, view: View, wanted: list[Panel]) -> list[Figure]:
    """The panels of a slice, side by side.

    Args:
        data: the result.
        view: the slice.
        wanted: the panels.

    Returns:
        A picture for each.
    """
    inside, shown, found, out = view.cut(data.body) > 0.5, data.shown(), {}, []
    strip = any(p.scale.table != "grey" for p in wanted)
    for position, panel in enumerate(wanted):
        rgb = _pixels(data, view, panel, inside)
        if panel.lines not in found:
            found[panel.lines] = contour_lines(view, shown, panel.lines)
        legend = None if panel.scale.table == "grey" else panel.scale
        out.append(
            draw(view, rgb, found[panel.lines], panel.title, panel.key, scale=legend, strip=strip, bar=position == 0)
        )
    return out


def _pixels(data: ReportData, view: View, panel: Panel, inside: np.ndarray) -> np.ndarray:
    """A panel without its contours, RGB."""
    values = view.cut(data.images[panel.key])
    rgb = colored(values, panel.scale)
    if panel.threshold is not None:
        rgb = np.where(
            (inside & (np.abs(values - panel.middle) >= panel.threshold))[..., None], rgb, _grey(data, view, inside)
        )
    return np.where(inside[..., None], rgb, 0).astype(np.uint8) if panel.masked else rgb


def _grey(data: ReportData, view: View, inside: np.ndarray) -> np.ndarray:
    """The anatomy, RGB; where there is none, the body in one grey."""
    key, scale = anatomy(data)
    return (
        colored(view.cut(data.images[key]), scale)
        if key
        else np.where(inside, 60, 0)[..., None].repeat(3, 2).astype(np.uint8)
    )


def overview(data: ReportData) -> tuple[list[dict], list[Figure], list[Panel]]:
    """Up to three axial slices, a coronal and a sagittal cut.

    Args:
        data: the result.

    Returns:
        (rows of {"title", "figures"}, further pictures of the first slice, all panels that are shown).
    """
    first, more = panels(data)
    rows, further, box = [], [], box_of(data.body, data.spacing)
    if not first:
        return [], [], []
    for index, reason in chosen_slices(data):
        view = View("axial", index, _zoomed(data, index, box), data.spacing)
        rows.append(
            {"title": f"Axial slice {index + 1} of {len(data.body)}: {reason}", "figures": row(data, view, first)}
        )
        if more and (not further or reason.startswith("highest")):
            further = row(data, view, more)
    for plane, index in zip(("coronal", "sagittal"), cut_position(data)):
        if box[View.AXES[plane][0]].start <= index < box[View.AXES[plane][0]].stop:
            rows.append(
                {
                    "title": f"{plane.capitalize()} cut",
                    "figures": row(data, View(plane, index, box, data.spacing), first),
                }
            )
    return rows, further, first + more


def explanation(data: ReportData, wanted: list[Panel]) -> list[str]:
    """What lines and colours of the pictures mean.

    Args:
        data: the result.
        wanted: the panels that are shown.

    Returns:
        Sentences.
    """
    paths = {p for panel in wanted for p in panel.lines if any(p in s.contours for s in data.shown())}
    out = ["; ".join(CONTOURS[p] for p in CONTOURS if p in paths)] if paths - {"structure"} else []
    scale = anatomy(data)[1]
    if scale.unit == "HU":
        out.append(f"CT window {number(scale.low)} to {number(scale.high)} HU")
    for panel in dict.fromkeys(p for p in wanted if p.threshold is not None):
        unit = f" {panel.scale.unit}" if panel.scale.unit else ""
        beyond = f"differs from {number(panel.middle)} by" if panel.middle else "exceeds"
        out.append(f"{panel.title} is coloured where it {beyond} {number(panel.threshold)}{unit}")
    if any("entropy" in p.key for p in wanted):
        out.append("entropy is 0 where the structure is certain and 0.69 where two are equally likely")
    out.append("the patient's right is at the left")
    if "input" not in data.images:
        out.append("the input image was not given to the report, so it is not shown")
    if data.oblique_degrees > 2:
        out.append(
            f"the image planes are tilted by {data.oblique_degrees:.0f}° against the patient's axes and are shown "
            "as they are"
        )
    return [f"{o[:1].upper()}{o[1:]}." for o in out]


def at_place(data: ReportData, structure: Structure, place) -> list[Figure]:
    """Three planes through a voxel of a structure: anatomy with contours and, where it is known, the uncertainty.

    Args:
        data: the result.
        structure: whose place it is.
        place: voxel (z, y, x).

    Returns:
        Pictures.
    """
    box, key = field_of(structure, place, data.body.shape, data.spacing), data.uncertainty()
    panel, others = map_panel(data, key) if key else None, [s for s in data.shown() if s.name != structure.name]
    above, below = [], []
    for plane in View.AXES:
        view = View(plane, place[View.AXES[plane][0]], box, data.spacing)
        inside = view.cut(data.body) > 0.5
        own = contour_lines(view, [structure])
        neighbours = [Line(view.outline(s.mask, thin=True), tuple(int(0.6 * c + 44) for c in s.color)) for s in others]
        title = (
            f"{plane.capitalize()}, slice {view.index + 1} of {data.body.shape[0]}"
            if plane == "axial"
            else plane.capitalize()
        )
        lines = [*neighbours, *nested_lines(view, structure), *own]
        above.append(
            draw(
                view,
                _grey(data, view, inside),
                lines,
                title,
                f"place-{anatomy(data)[0]}",
                bar=plane == "axial",
                cross=place,
                square=True,
            )
        )
        if panel is not None:
            below.append(
                draw(
                    view,
                    _pixels(data, view, panel, inside),
                    own,
                    panel.title,
                    f"place-{key}",
                    scale=panel.scale,
                    cross=place,
                    square=True,
                )
            )
    return above + below


def field_of(structure: Structure, place, shape, spacing) -> tuple[slice, ...]:
    """The box to show of a place: a cube about it, as large as the structure with `MARGIN_MM` around it, but no smaller
    than the first and no larger than the second of `EDGES_MM`; the part of it that lies inside the volume.

    Args:
        structure: whose place it is.
        place: voxel (z, y, x).
        shape: of the volume, (z, y, x).
        spacing: (x, y, z), mm.

    Returns:
        Slices (z, y, x).
    """
    steps = [float(s) for s in reversed(spacing)]
    whole = around(structure, spacing, MARGIN_MM)
    edge = float(np.clip(max((b.stop - b.start) * step for b, step in zip(whole, steps)), *EDGES_MM))
    out = []
    for at, count, step, b in zip(place, shape, steps, whole):
        wide = min(count, int(np.ceil(edge / step)))
        # the structure's middle where the whole of it is seen, else the place
        middle = (b.start + b.stop) / 2 if (b.stop - b.start) <= wide else at + 0.5
        low = int(np.clip(round(middle - wide / 2), at + 1 - wide, at))
        low = min(max(0, low), count - wide)
        out.append(slice(low, low + wide))
    return tuple(out)


def box_of(body: np.ndarray, spacing, margin_mm: float = 8.0) -> tuple[slice, ...]:
    """The body with a margin in the plane.

    Args:
        body: bool [z, y, x].
        spacing: (x, y, z), mm.
        margin_mm: in the plane.

    Returns:
        Slices (z, y, x); all of them when there is no body.
    """
    found = ndimage.find_objects(body.astype(np.uint8))
    if not found:
        return tuple(slice(0, n) for n in body.shape)
    margins = [0, *(int(round(margin_mm / float(s))) for s in (spacing[1], spacing[0]))]
    return tuple(slice(max(0, b.start - m), min(n, b.stop + m)) for b, m, n in zip(found[0], margins, body.shape))


def _zoomed(data: ReportData, index: int, box) -> tuple[slice, ...]:
    """The box of an axial slice: that of all slices, or of the body in this one where it fills little of it (a neck
    below the
    level of the head, above the shoulders)."""
    own = box_of(data.body[index : index + 1], data.spacing)[1:]
    small = all(o.stop - o.start < 0.8 * (b.stop - b.start) for o, b in zip(own, box[1:]))
    return (box[0], *own) if small and data.body[index].any() else box


def chosen_slices(data: ReportData) -> list[tuple[int, str]]:
    """Up to three axial slices to show, from the head downwards.

    The slice with the highest mean uncertainty in the body, the one in which the structures are largest (each relative
    to its own largest cross-section), and the middle of the body; one that falls within 3 % of the stack of another
    moves on to the next best, or to a third of the stack.

    Args:
        data: the result.

    Returns:
        (index from the lowest, why) each.
    """
    body, key = data.body, "predictive_sd" if "predictive_sd" in data.images else data.uncertainty()
    area = body.sum((1, 2)).astype(float)
    if not area.any():
        area[:] = 1
    count = len(area)
    apart = max(1, round(0.03 * count))
    wanted = []
    if key:
        mean = (data.images[key] * body).sum((1, 2)) / np.maximum(area, 1)
        # slices that show little of the body say little about it
        wanted.append((np.where(area >= 0.25 * area.max(), mean, -np.inf), "highest mean uncertainty"))
    areas = [s.mask.area() for s in data.shown()]
    if areas:
        wanted.append((sum(a / a.max() for a in areas), "largest cross-section of the structures"))
    z = np.flatnonzero(area)
    wanted.append((-np.abs(np.arange(count) - (z[0] + z[-1]) / 2), "middle of the body"))
    chosen: list[tuple[int, str]] = []
    for score, reason in wanted:
        score = np.array(score, float)
        for index, _ in chosen:
            score[max(0, index - apart) : index + apart + 1] = -np.inf
        if np.isfinite(score).any():
            chosen.append((int(score.argmax()), reason))
    return sorted(chosen, reverse=True)


def cut_position(data: ReportData) -> tuple[int, int]:
    """Where the coronal and sagittal cut run: through the middle of the last structure that is present (the card lists
    the target last), else of the body.

    Args:
        data: the result.

    Returns:
        (row y, column x).
    """
    shown = data.shown()
    part = shown[-1].mask if shown else Part.of(data.body)
    where = np.nonzero(part.voxels)
    if not len(where[0]):
        return part.shape[1] // 2, part.shape[2] // 2
    return int(np.median(where[1])) + part.box[1].start, int(np.median(where[2])) + part.box[2].start
