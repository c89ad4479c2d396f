"""Pieces of HTML: escaped text, cells, tables. Whatever goes into the report passes through here or svg.py."""

from collections.abc import Iterable
from html import escape

Cell = tuple[str, str]
"""A cell's class and its HTML."""


def words(main: str, below: str = "") -> Cell:
    """Return a cell of words, with softer words below."""
    return "name", escape(main) + _small(below)


def figure(main: str, below: str = "") -> Cell:
    """Return a right-aligned cell, with softer words below."""
    return "n", escape(main) + _small(below)


def tag(basis: str) -> Cell:
    """Return a cell with the mark of a basis."""
    return "", f'<span class="tag {escape(basis)}">{escape(basis)}</span>'


def code(command: str) -> Cell:
    """Return a cell with a command."""
    return "name", f"<code>{escape(command)}</code>"


def table(headings: Iterable[Cell], rows: Iterable[str]) -> str:
    """Return a table that scrolls where the window is narrow."""
    head = "".join(f'<th class="{kind}">{content}</th>' for kind, content in headings)
    body = "\n".join(rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def row(*cells: Cell, best: bool = False) -> str:
    """Return a line of a table; the recommended one stands out."""
    inner = "".join(f'<td class="{kind}">{content}</td>' for kind, content in cells)
    return f'<tr class="best">{inner}</tr>' if best else f"<tr>{inner}</tr>"


def section(title: str, *parts: str) -> str:
    """Return a heading and what stands below it."""
    return "\n".join([f"<section><h2>{escape(title)}</h2>", *parts, "</section>"])


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def block(command: str) -> str:
    """Return a command on a line of its own."""
    return f"<pre>{escape(command)}</pre>"


def tile(label: str, value: str, unit: str, below: str) -> str:
    """Return one large figure with what it is and between what it lies."""
    large = f"<b>{escape(value)} <small>{escape(unit)}</small></b>"
    return f'<div class="tile"><span>{escape(label)}</span>{large}<span>{escape(below)}</span></div>'


def bullets(lines: Iterable[str]) -> str:
    """Return a list."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>"


def picture(svg: str, caption: str) -> str:
    """Return a picture with what it shows and where its figures come from."""
    return f'<figure><div class="wide">{svg}</div><figcaption>{escape(caption)}</figcaption></figure>'


def _small(text: str) -> str:
    return f"<small>{escape(text)}</small>" if text else ""
