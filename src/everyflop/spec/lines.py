"""Find the lines of a TOML file on which its keys stand; tomllib does not tell.

Keys are dotted, with the numbers of entries in arrays: "data.validation[1].name".
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping

_PART = r"""(?:"[^"]*"|'[^']*'|[\w-]+)"""
_KEY = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER_LINE = re.compile(rf"\s*(?P<brackets>\[\[?)\s*(?P<key>{_KEY})\s*\]\]?\s*(#|$)")
_KEY_LINE = re.compile(rf"\s*(?P<key>{_KEY})\s*=")


def key_lines(text: str) -> dict[str, int]:
    """Return the line of each table and key. An array of tables is on the line of its first entry as well."""
    lines: dict[str, int] = {}
    entries: Counter[str] = Counter()
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER_LINE.match(line):
            table = _table_of(_parts(header["key"]), entries, is_entry=header["brackets"] == "[[")
            lines.setdefault(re.sub(r"\[\d+\]$", "", table), number)
            lines.setdefault(table, number)
        elif key := _KEY_LINE.match(line):
            lines.setdefault(".".join(filter(None, [table, *_parts(key["key"])])), number)
    return lines


def line_of(key: str, lines: Mapping[str, int], overridden: Collection[str]) -> int | None:
    """Return the line of a key, or of the nearest table around it; None where an override is what set it."""
    while key:
        if key in overridden:
            return None
        if key in lines:
            return lines[key]
        key = re.sub(r"(^|\.)[^.\[]*$|\[\d+\]$", "", key)
    return None


def _parts(key: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(_PART, key)]


def _table_of(parts: list[str], entries: Counter[str], *, is_entry: bool) -> str:
    """Return a header's table with the numbers of the entries it lies in; an entry's header starts the next one."""
    table = ""
    for depth, part in enumerate(parts, 1):
        table = f"{table}.{part}" if table else part
        if is_entry and depth == len(parts):
            entries[table] += 1
        if entries[table]:
            table = f"{table}[{entries[table] - 1}]"
    return table
