"""Bars that show what wholes consist of: a step's time, a device's memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from everyflop.planner.show.charts.axes import BELOW_PX, Axis, draw_below, linear_axis
from everyflop.planner.show.charts.svg import (
    ROW_PX,
    WIDTH_PX,
    label_width,
    line,
    rect,
    row_label,
    svg,
    text,
    text_width,
)

MOST_COLOURS = 9
"""Told apart with every colour vision; what is smaller is drawn together."""
OTHER = "smaller parts"

_BAR_PX = ROW_PX - 8
_FIGURES_PX = 130
_SMALL_FONT_PX = 11


@dataclass(frozen=True, slots=True)
class Whole:
    """One bar."""

    name: str
    parts: Mapping[str, float]
    figure: str
    """What is written behind the bar."""
    limit: float | None = None
    """Drawn as a mark across the bar."""

    @property
    def total(self) -> float:
        """Sum of the parts."""
        return sum(self.parts.values())


def parts_chart(wholes: Sequence[Whole], label: str, *, as_shares: bool) -> str:
    """Draw each whole as a bar of its parts: as shares of 100 %, or in their own unit beside a limit."""
    coloured = _largest_parts(wholes)
    key, top = _key([*coloured, *([OTHER] if _has_more(wholes, coloured) else [])])
    label_px = label_width((whole.name for whole in wholes), 240)
    largest = 100.0 if as_shares else max(max(whole.total, whole.limit or 0.0) for whole in wholes)
    axis = linear_axis(0.0, largest, label_px + 14, WIDTH_PX - _FIGURES_PX)
    bottom = top + ROW_PX * len(wholes)
    parts = [*key, *draw_below(axis, top, bottom, label)]
    for row, whole in enumerate(wholes):
        y = top + ROW_PX * row + 4
        size = 100.0 / (whole.total or 1.0) if as_shares else 1.0
        parts += [row_label(whole.name, y + 13, label_px), *_bar(whole, coloured, axis, y, size)]
    return svg(bottom + BELOW_PX, label, parts)


def _bar(whole: Whole, coloured: list[str], axis: Axis, y: float, size: float) -> list[str]:
    shown = {part: whole.parts.get(part, 0.0) for part in coloured}
    shown[OTHER] = whole.total - sum(shown.values())
    parts, done = [], 0.0
    for number, (part, value) in enumerate(shown.items()):
        x, width = axis.at(done * size), axis.at((done + value) * size) - axis.at(done * size)
        done += value
        if width > 0.05:
            share = f"{value / whole.total:.0%}"
            parts.append(rect(x, y, width, _BAR_PX, kind=f"c{number}", title=f"{part}: {share}"))
            if width > text_width(share, _SMALL_FONT_PX) + 6:
                parts.append(text(x + width / 2, y + 13, share, kind=f"inside o{number}", anchor="middle"))
    if whole.limit is not None:
        x = axis.at(whole.limit)
        parts.append(line((x, y - 2), (x, y + _BAR_PX + 2), kind="mark-limit"))
    return [*parts, text(WIDTH_PX, y + 13, whole.figure, kind="figure", anchor="end")]


def _largest_parts(wholes: Sequence[Whole]) -> list[str]:
    """Return the parts that get a colour, by their shares of all bars, largest first."""
    shares: dict[str, float] = {}
    for whole in wholes:
        for part, value in whole.parts.items():
            shares[part] = shares.get(part, 0.0) + value / (whole.total or 1.0)
    names = [part for part, share in sorted(shares.items(), key=lambda item: -item[1]) if share > 0]
    return names[:MOST_COLOURS]


def _has_more(wholes: Sequence[Whole], coloured: list[str]) -> bool:
    return any(value > 0 and part not in coloured for whole in wholes for part, value in whole.parts.items())


def _key(names: Sequence[str]) -> tuple[list[str], float]:
    """Return a key to the colours, in as many lines as it takes, and where the bars can begin."""
    parts, x, y = [], 0.0, 4.0
    for number, name in enumerate(names):
        width = 20 + text_width(name)
        if x and x + width > WIDTH_PX:
            x, y = 0.0, y + 22
        parts += [rect(x, y, 14, 14, kind=f"c{number}"), text(x + 20, y + 12, name, kind="label")]
        x += width + 16
    return parts, y + 28
