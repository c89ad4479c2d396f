"""Read and write the tables of `everyflop predict --rows`: one training configuration in each line."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from everyflop.base.errors import InvalidFile, Problem, UsageError
from everyflop.base.files import write_atomic
from everyflop.planner.rows.cells import Row

NEEDED = ("accelerator",)
"""Without it nothing can be said; every other column may be missing."""


def read_rows(path: Path) -> list[Row]:
    """Return the lines of a CSV file as dictionaries. Unknown columns are kept and ignored.

    Raises UsageError if it cannot be read, InvalidFile if it is another table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read the table {path}: {error}. It is a CSV file with a header line.") from None
    missing = [column for column in NEEDED if column not in columns]
    if missing:
        raise InvalidFile(path, [Problem(c, "is no column of the table", "see docs/predict.md") for c in missing])
    return rows


def write_rows(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
    """Write a table, whole or not at all."""
    lines = [",".join(columns)]
    lines += [",".join(_quoted(row[column]) for column in columns) for row in rows]
    write_atomic(path, ("\n".join(lines) + "\n").encode())


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n') else text
