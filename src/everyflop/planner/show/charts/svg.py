"""Small pieces of inline SVG.

Colours and line widths are classes of the report's style sheet (html_style.py), so that one picture serves light,
dark and paper. Lengths are in pixels. All text of a picture is escaped here.
"""

import unicodedata
from collections.abc import Iterable
from html import escape
from math import ceil
from typing import Literal

from everyflop.spec.plan import Basis

FONT_PX = 13
WIDTH_PX = 936
"""Of every picture; the page shows it at this size where there is room."""
ROW_PX = 26
"""Of a bar with its label."""

_BOLD = 1.1
"""How much wider bold text is."""

Anchor = Literal["start", "middle", "end"]
Point = tuple[float, float]


def svg(height: float, label: str, parts: Iterable[str]) -> str:
    """Return a picture; the label is what a screen reader says."""
    size = f'viewBox="0 0 {WIDTH_PX} {height:.0f}" width="{WIDTH_PX}" height="{height:.0f}"'
    return "\n".join([f'<svg {size} role="img" aria-label="{escape(label)}">', *parts, "</svg>"])


def text(x: float, y: float, words: str, *, kind: str, anchor: Anchor = "start", title: str = "") -> str:
    """Return text whose baseline starts, ends or is centred at a point; the title shows when pointed at."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(words)}{_hover(title)}</text>'


def upright_text(x: float, y: float, words: str, *, kind: str) -> str:
    """Return text that runs upwards, centred at a point."""
    turned = f'transform="rotate(-90 {x:.1f} {y:.1f})"'
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" class="{kind}" {turned}>{escape(words)}</text>'


def line(start: Point, end: Point, *, kind: str) -> str:
    """Return a straight line."""
    (x1, y1), (x2, y2) = start, end
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def rect(x: float, y: float, width: float, height: float, *, kind: str, title: str = "") -> str:
    """Return a rectangle; the title shows when pointed at."""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} class="{kind}">{_hover(title)}</rect>'


def path(points: Iterable[Point], *, kind: str, closed: bool = False, title: str = "") -> str:
    """Return straight lines through points; the title shows when pointed at."""
    drawn = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path d="M{drawn}{" Z" if closed else ""}" class="{kind}">{_hover(title)}</path>'


def marker(x: float, y: float, basis: Basis, *, kind: str, title: str) -> str:
    """Return the mark of a figure's basis: a disc for measured, a diamond for fitted, a ring for prior."""
    if basis == "fitted":
        return path([(x, y - 7), (x + 7, y), (x, y + 7), (x - 7, y)], kind=f"mark {kind}", closed=True, title=title)
    kind = f"{'ring' if basis == 'prior' else 'mark'} {kind}"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" class="{kind}">{_hover(title)}</circle>'


def _hover(title: str) -> str:
    return f"<title>{escape(title)}</title>" if title else ""


def text_width(words: str, font_px: float = FONT_PX) -> float:
    """Return about how wide a text is in common sans-serif fonts, rather too wide than too narrow."""
    return font_px * sum(_em(character) for character in words)


def _em(character: str) -> float:
    if unicodedata.east_asian_width(character) in "WF":
        return 1.0
    if character in " .,:;|'!()[]/ijlftr-":
        return 0.4
    return 0.9 if character in "mwMW%@" else 0.73 if character.isupper() else 0.64


def fitted(words: str, width: float) -> str:
    """Return a text that fits a width: what is too long loses its middle, as names differ at their ends."""
    if text_width(words) <= width:
        return words
    keep = len(words) - 1
    while keep > 2 and text_width(_without_middle(words, keep)) > width:
        keep -= 1
    return _without_middle(words, keep)


def _without_middle(words: str, keep: int) -> str:
    return f"{words[: ceil(keep / 2)]}…{words[len(words) - keep // 2 :]}"


def label_width(names: Iterable[str], most: float) -> float:
    """Return the room that the labels before a picture's rows take."""
    return min(most, max(text_width(name) for name in names) * _BOLD + 4)


def row_label(name: str, y: float, width: float, *, kind: str = "") -> str:
    """Return the label before a row, which ends at `width`; y is its baseline."""
    return text(width, y, fitted(name, width / _BOLD), kind=f"label {kind}", anchor="end", title=name)
