"""Pieces of a report's HTML: escaped text, tables, pictures, and the looks. Nothing comes from elsewhere."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
*{box-sizing:border-box}
body{margin:0 auto;padding:2rem 1.25rem 4rem;max-width:72rem;background:#fff;color:#1b1f24;
font:16px/1.5 system-ui,-apple-system,"Segoe UI","Noto Sans","DejaVu Sans",sans-serif}
h1{font-size:1.75rem;line-height:1.25;margin:0 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.5rem 0 .6rem;padding-top:.9rem;border-top:1px solid #dfe3e8}
p,li{margin:.5rem 0;max-width:52rem;overflow-wrap:anywhere}
.soft,figcaption{color:#5a6370;font-size:.875rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.75rem;margin:1.25rem 0}
.tile{background:#f5f6f8;border-radius:.5rem;padding:.8rem 1rem}
.tile b{display:block;font-size:1.35rem;line-height:1.4;font-variant-numeric:tabular-nums}
.tile span{display:block;color:#5a6370;font-size:.8125rem}
.wide{overflow-x:auto;margin:.75rem 0}
figure{margin:1rem 0 0}
figure img{display:block;width:100%;min-width:40rem}
figcaption{max-width:56rem;margin-top:.35rem}
table{border-collapse:collapse;font-size:.875rem;line-height:1.4}
th{text-align:left;font-weight:600;color:#5a6370;vertical-align:bottom;border-bottom:1px solid #1b1f24}
td{vertical-align:top;border-bottom:1px solid #dfe3e8}
th,td{padding:.4rem 1.1rem .4rem 0;font-variant-numeric:tabular-nums}
.n{text-align:right;white-space:nowrap}
tr:last-child td{border-bottom:none}
pre{background:#f5f6f8;border-radius:.5rem;padding:.8rem 1rem;white-space:pre-wrap;overflow-wrap:anywhere;
font:.8125rem/1.5 ui-monospace,Consolas,"DejaVu Sans Mono",monospace}
@media print{body{padding:0;max-width:none;font-size:10pt}figure,.tiles,tr{break-inside:avoid}h2{break-after:avoid}}
"""


def document(title: str, parts: Iterable[str]) -> str:
    """Return a whole page."""
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """Return a heading and what stands below it."""
    return "\n".join([f"<section><h2>{escape(title)}</h2>", *(part for part in parts if part), "</section>"])


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph; of no text, nothing."""
    opening = f'<p class="{kind}">' if kind else "<p>"
    return f"{opening}{escape(text)}</p>" if text else ""


def tiles(entries: Iterable[tuple[str, str, str]]) -> str:
    """Return large figures, each with what it is above and more about it below."""
    inner = "".join(
        f'<div class="tile"><span>{escape(label)}</span><b>{escape(value)}</b><span>{escape(below)}</span></div>'
        for label, value, below in entries
    )
    return f'<div class="tiles">{inner}</div>'


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, words: Sequence[int] = (0,)) -> str:
    """Return a table that scrolls where the window is narrow; columns that are not words are right-aligned."""
    kinds = ["" if column in words else ' class="n"' for column in range(len(headings))]
    head = "".join(f"<th{kind}>{escape(text)}</th>" for kind, text in zip(kinds, headings, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{escape(text)}</td>" for kind, text in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def picture(png: bytes, what: str, caption: str) -> str:
    """Return a picture within the page, with what it shows."""
    image = f'<img alt="{escape(what)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    return f'<figure><div class="wide">{image}</div><figcaption>{escape(caption)}</figcaption></figure>'
