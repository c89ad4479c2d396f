"""Labels beside points, each where it hides nothing."""

from collections.abc import Sequence
from itertools import pairwise

from everyflop.planner.show.charts.svg import FONT_PX, Anchor, Point, text, text_width

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""

_BESIDE: tuple[tuple[float, float, Anchor], ...] = (
    (11, 4, "start"),
    (-11, 4, "end"),
    (0, -11, "middle"),
    (0, 20, "middle"),
    (9, -8, "start"),
    (-9, 17, "end"),
    (9, 17, "start"),
    (-9, -8, "end"),
)
"""Where a label can stand, best first: its distance from the point, and which end of it is there."""


def point_labels(names: Sequence[str], points: Sequence[Point], lines: Sequence[Point], inside: Box) -> list[str]:
    """Return labels of points that hide no point, no part of the lines and no other label.

    The lines go through their points, level or upright. A label without room is left out.
    """
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in points] + _boxes_of(lines)
    parts = []
    for name, point in zip(names, points, strict=True):
        for dx, dy, anchor in _BESIDE:
            x, y = point[0] + dx, point[1] + dy
            box = _box_of(name, x, y, anchor)
            if _within(box, inside) and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                parts.append(text(x, y, name, kind="label", anchor=anchor))
                break
    return parts


def _box_of(name: str, x: float, y: float, anchor: Anchor) -> Box:
    width = text_width(name)
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return left, y - FONT_PX + 2, left + width, y + 3


def _boxes_of(lines: Sequence[Point]) -> list[Box]:
    corners = pairwise(lines)
    return [(min(x1, x2) - 1, min(y1, y2) - 1, max(x1, x2) + 1, max(y1, y2) + 1) for (x1, y1), (x2, y2) in corners]


def _within(box: Box, outer: Box) -> bool:
    return outer[0] <= box[0] and outer[1] <= box[1] and box[2] <= outer[2] and box[3] <= outer[3]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
