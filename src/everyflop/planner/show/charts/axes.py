"""Axes: where a value lies in a picture, which values are labelled, and the grid behind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from everyflop.planner.show.charts.svg import line, text, upright_text

BELOW_PX = 46
"""What a horizontal axis takes below a picture."""

_LEAST_LOG_RATIO = 12
"""Values further apart than this crowd at one end of a linear axis."""
_ONE_LABEL = 1e-6
"""Values nearer than this share of their size have the same label."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Where values lie between two ends, and which of them are labelled."""

    at: Callable[[float], float]
    """Value -> pixel."""
    ticks: tuple[float, ...]
    """From one end to the other."""
    note: str = ""
    """What a reader must know of it."""

    def holds(self, value: float) -> bool:
        """Say whether a value lies between the ends."""
        return self.ticks[0] <= value <= self.ticks[-1]

    @property
    def ends(self) -> tuple[float, float]:
        """Pixels of the first and last tick."""
        return self.at(self.ticks[0]), self.at(self.ticks[-1])


def linear_axis(least: float, largest: float, start_px: float, end_px: float) -> Axis:
    """Return a linear axis that holds two values, with round ticks; values that would have one label are one value."""
    span, size = largest - least, max(abs(least), abs(largest))
    step = _round_step((span if span > _ONE_LABEL * size else size) / 5 or 1.0)
    first, last = floor(least / step + 1e-9), ceil(largest / step - 1e-9)
    ticks = tuple(step * n for n in range(first, max(last, first + 1) + 1))
    low, width = ticks[0], ticks[-1] - ticks[0]
    return Axis(lambda value: start_px + (value - low) / width * (end_px - start_px), ticks)


def wide_axis(values: Sequence[float], start_px: float, end_px: float) -> Axis:
    """Return an axis from 0 where values are alike, a logarithmic one where they lie far apart."""
    least, largest = min(values), max(values)
    if least <= 0 or largest / least < _LEAST_LOG_RATIO:
        return linear_axis(0.0, largest, start_px, end_px)
    powers = range(floor(log10(least)) - 1, ceil(log10(largest)) + 2)
    rounds = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    begin = max(tick for tick in rounds if tick <= least / 1.1)
    end = min(tick for tick in rounds if tick >= largest * 1.1)
    span = log10(end / begin)
    ticks = tuple(tick for tick in rounds if begin <= tick <= end)
    return Axis(lambda value: start_px + log10(value / begin) / span * (end_px - start_px), ticks, ", logarithmic")


def _round_step(step: float) -> float:
    """Return the next of 1, 2, 2.5 and 5 times a power of ten."""
    power = 10.0 ** floor(log10(step))
    return next(power * digit for digit in (1, 2, 2.5, 5, 10) if power * digit >= step * (1 - 1e-9))


def draw_below(axis: Axis, top: float, bottom: float, label: str) -> list[str]:
    """Return a horizontal axis below a picture: grid lines, tick labels, and what it shows."""
    parts = []
    for tick in axis.ticks:
        x = axis.at(tick)
        parts += [line((x, top), (x, bottom), kind="grid")]
        parts += [text(x, bottom + 18, f"{tick:,.6g}", kind="tick", anchor="middle")]
    return [*parts, text(sum(axis.ends) / 2, bottom + 38, label + axis.note, kind="axis", anchor="middle")]


def draw_beside(axis: Axis, left: float, right: float, label: str) -> list[str]:
    """Return an upright axis left of a picture: grid lines, tick labels, and what it shows."""
    parts = []
    for tick in axis.ticks:
        y = axis.at(tick)
        parts += [line((left, y), (right, y), kind="grid")]
        parts += [text(left - 8, y + 4, f"{tick:,.6g}", kind="tick", anchor="end")]
    return [*parts, upright_text(14, sum(axis.ends) / 2, label + axis.note, kind="axis")]
