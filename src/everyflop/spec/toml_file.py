"""Read a TOML file that a user wrote, of any kind, with every problem named in one pass.

A wrong type hides the checks that come after it. So what is wrong is taken out (see problems.py), the rest is checked
again until it is valid, and at the end its values are held against each other.
"""

import tomllib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from everyflop.base.errors import InvalidFile, Problem, UsageError
from everyflop.spec.base import KEEP_MISFITS
from everyflop.spec.file_kind import FileKind, S
from everyflop.spec.lines import key_lines, line_of
from everyflop.spec.problems import is_about, problems_of, take_out

Tables = dict[str, Any]


def load_tables(path: Path, kind: FileKind[Any]) -> tuple[Tables, str]:
    """Return a file's tables and text. Raises UsageError if it cannot be read, InvalidFile if it is no TOML."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the {kind.title} {path}: {error}. {kind.remedy}") from None
    try:
        return tomllib.loads(text), text
    except (ValueError, RecursionError) as error:  # of TOML; integers of thousands of digits; tables nested as deep
        raise InvalidFile(path, [Problem("TOML", f"{error}", 'text goes in quotes: name = "tiny"')]) from None


def parse_tables(tables: Tables, kind: FileKind[S], *, stand_ins: Iterable[str] = ()) -> tuple[S, list[Problem]]:
    """Validate tables, which are changed on the way. Returns what they describe, and every problem found.

    With problems, the result has stand-ins for what was wrong and is good for nothing but further checks. stand_ins are
    keys of tables that hold a stand-in already.
    """
    stand_ins = set(stand_ins)
    problems: list[Problem] = []
    schema = tables.pop("schema", kind.schema)
    if schema != kind.schema:
        problems.append(Problem("schema", f"is {schema!r}, and this version reads {kind.schema}", "update everyflop"))
    while True:
        try:
            spec = kind.spec.model_validate(tables, context=KEEP_MISFITS)
            break
        except ValidationError as error:
            problems += problems_of(error, kind, stand_ins)
            take_out(tables, error, kind, stand_ins)
    problems += [Problem(key, what) for key, what in spec.all_misfits() if not is_about(key, what, stand_ins)]
    return spec, problems


def with_lines(problems: Iterable[Problem], text: str, *, overridden: Collection[str] = ()) -> list[Problem]:
    """Return the problems with the lines of the text on which they are; an overridden key is on none."""
    lines = key_lines(text)
    return [Problem(p.key, p.found, p.hint, line_of(p.key, lines, overridden)) for p in problems]


def entries(tables: Tables, name: str) -> Iterator[tuple[int, Tables]]:
    """Yield the tables of an array of tables with their numbers. What is no table is left to validation."""
    array = tables.get(name)
    for number, entry in enumerate(array if isinstance(array, list) else []):
        if isinstance(entry, dict):
            yield number, entry
