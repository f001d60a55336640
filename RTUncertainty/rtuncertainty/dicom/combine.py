"""What several contours in one plane mean together, and which contours lie in one plane.

DICOM does not say it of CLOSED_PLANAR contours. Here: each by itself is filled by even-odd, so that a keyhole has its
hole; contours that cross, or come twice, are one area (their union); one that lies inside another is a hole in it, and
so on inwards. Even-odd over all, the rule of CLOSEDPLANAR_XOR, is the same but for the contours that cross or come
twice, which then leave a hole. Whatever the rule decides is told.
"""

from __future__ import annotations

import numpy as np

# parts of the smaller contour's area: less in common is none, more is all
NONE, ALL = 0.01, 0.99
# two contours one inside the other are the same one drawn again where the ring between them is on average thinner than
# this in mm, and than this part of the root of the area: no wall that is drawn is
WALL_MM, WALL = 0.5, 0.025
# scan lines across a contour
LINES = 128
# two heights are one plane within this in mm, and this part of the usual distance of planes
SAME_MM, SAME = 0.05, 0.05
# of two distances, the larger one is the usual one where it is so many times the other
CLOSE = 5
TELL = {
    "twice": "in {} a contour comes twice, or nearly; it counts once.",
    "overlap": "in {} contours overlap; all that lies inside of one counts.",
    "inside": "in {} a contour lies inside another; it counts as a hole.",
}


def levels(heights) -> tuple[np.ndarray, float]:
    """(the heights of the planes, rising, their usual distance; 0 for a single one) of contours at these heights."""
    ordered = np.sort(np.asarray(heights, float))
    steps = np.diff(ordered)
    groups = np.split(ordered, np.flatnonzero(steps > min(SAME_MM, SAME * _usual(steps))) + 1)
    found = np.array([g.mean() for g in groups])
    return found, _usual(np.diff(found))


def _usual(steps) -> float:
    """The median step, in which longer ones count for more: planes drawn close to others do not change it, nor do gaps,
    which count as twice the median.
    """
    long = np.sort(steps[steps > 1e-4])
    if not long.size:
        return 0.0
    if long.size == 2:  # either a plane is missing, or one was drawn close to another
        return float(long[0] if long[1] < CLOSE * long[0] else long[1])
    weight = np.cumsum(np.minimum(long, 2 * long[(long.size - 1) // 2]))
    return float(long[np.searchsorted(weight, weight[-1] / 2 - 1e-9)])


def crossings(groups, lines: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(line, x, sign) of every place where the lines y = `lines` (rising) enter (−1) or leave (+1) an area, by line
    and x.

    groups: see `grouped`; a polygon's sides count from their lower end on to before their upper one.
    """
    alone = [group[0] for group in groups if len(group) == 1]
    found = [_sides(np.concatenate([_edges(p) for p in alone]), lines)] if alone else []
    for group in groups:
        if len(group) > 1:
            parts = [_sorted(*_sides(_edges(p), lines)) for p in group]
            line, x, sign = (np.concatenate([part[i] for part in parts]) for i in range(3))
            order = np.lexsort((sign, x, line))
            line, x, sign = line[order], x[order], sign[order]
            inside = np.cumsum(-sign)  # of how many polygons; at the end of each line of none
            outer = ((sign < 0) & (inside == 1)) | ((sign > 0) & (inside == 0))
            found.append((line[outer], x[outer]))
    return _sorted(*(np.concatenate([f[i] for f in found]) for i in (0, 1)))


def area(groups, least: int = 4 * LINES, width: float = 0.0) -> float:
    """The area inside of `groups`, by at least so many strips, which are no wider than `width` where that is given."""
    low, high = _extent([p for group in groups for p in group])
    if not high > low:
        return 0.0
    strips = max(least, int(np.ceil((high - low) / width)) if width else 0)
    step = (high - low) / strips
    _, x, sign = crossings(groups, low + (np.arange(strips) + 0.5) * step)
    return float((x * sign).sum() * step)


def grouped(polygons, spacing=(1.0, 1.0), xor: bool = False) -> tuple[list[list[np.ndarray]], set[str]]:
    """(groups, what there was to decide: keys of `TELL`) of the contours [n, 2] of one plane.

    Polygons of one group count as their union, and inside is what lies in an odd number of groups. `spacing`: mm of the
    coordinates' units; xor: the contours are CLOSEDPLANAR_XOR, and overlaps are meant to be holes.
    """
    polygons = [_once(np.asarray(p, float)) for p in polygons]
    if len(polygons) == 1:
        return [polygons], set()
    scaled = [p * spacing for p in polygons]
    low, high = (np.array([f(p, 0) for p in scaled]) for f in (np.min, np.max))
    meet = (np.minimum(high[:, None], high[None]) > np.maximum(low[:, None], low[None])).all(2)
    areas = [area([[p]], LINES) for p in scaled]
    home, told = list(range(len(polygons))), set()
    for i, j in np.argwhere(np.tril(meet, -1)):
        small, large = (i, j) if areas[i] <= areas[j] else (j, i)
        kind = _relation(scaled[small], scaled[large], areas[small], areas[large])
        told |= {kind} if kind and not (xor and kind != "twice") else set()
        if kind == "twice" or (kind == "overlap" and not xor):
            home = [home[i] if h == home[j] else h for h in home]
    return [[p for p, h in zip(polygons, home) if h == number] for number in dict.fromkeys(home)], told


def notes(name: str, told: dict[str, int]) -> list[str]:
    """Lines of text for what was decided in how many planes."""
    return [f"{name}: {TELL[kind].format('one plane' if n == 1 else f'{n} planes')}" for kind, n in told.items()]


def _relation(small, large, small_area: float, large_area: float) -> str:
    """ "" for two contours apart, "twice", "overlap" or "inside"."""
    if small_area <= 0:
        return ""
    low, high = _extent([small])
    lines = low + (np.arange(LINES) + 0.5) * (high - low) / LINES
    lengths = []
    for groups in ([[small]], [[small, large]], [[large]]):
        _, x, sign = crossings(groups, lines)
        lengths.append((x * sign).sum())
    common = (lengths[0] + lengths[2] - lengths[1]) / lengths[0]
    if common < NONE:
        return ""
    if common < ALL:
        return "overlap"
    around = np.linalg.norm(large - np.roll(large, -1, 0), axis=1).sum()
    thick = (large_area - small_area) / around
    return "twice" if thick < min(WALL_MM, WALL * np.sqrt(large_area)) else "inside"


def _once(polygon: np.ndarray) -> np.ndarray:
    """A contour without the second time around, where the points go around twice."""
    half = len(polygon) // 2
    twice = len(polygon) >= 6 and len(polygon) % 2 == 0 and np.allclose(polygon[:half], polygon[half:], atol=1e-3)
    return polygon[:half] if twice else polygon


def _extent(polygons) -> tuple[float, float]:
    return min(float(p[:, 1].min()) for p in polygons), max(float(p[:, 1].max()) for p in polygons)


def _edges(polygon) -> np.ndarray:
    """[n, 2, 2]: start and end of every side of a closed polygon."""
    return np.stack([polygon, np.roll(polygon, -1, 0)], 1)


def _sides(edges, lines) -> tuple[np.ndarray, np.ndarray]:
    """(line, x) of every crossing of the sides with the lines y = `lines`, in no order."""
    (x0, y0), (x1, y1) = edges[:, 0].T, edges[:, 1].T
    # half-open, so that a line through a vertex is crossed once, or not at all at a tip; lines rise
    start, end = (np.searchsorted(lines, np.sort([y0, y1], 0)[i], "left") for i in (0, 1))
    side = np.repeat(np.arange(len(y0)), end - start)
    line = np.arange(len(side)) - np.repeat(np.cumsum(end - start) - (end - start), end - start) + start[side]
    return line, x0[side] + (lines[line] - y0[side]) * (x1[side] - x0[side]) / (y1[side] - y0[side])


def _sorted(line, x) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(line, x, sign) by line and x, signs −1, +1 in turn in each line: even-odd."""
    order = np.lexsort((x, line))
    line, x = line[order], x[order]
    rank = np.arange(len(line)) - np.searchsorted(line, line)
    return line, x, np.where(rank % 2 == 0, -1.0, 1.0)
