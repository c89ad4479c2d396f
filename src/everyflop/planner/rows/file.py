"""Read and write the tables of `everyflop predict --rows`: one training configuration in each line."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from everyflop.base.errors import InvalidFile, Problem, UsageError
from everyflop.base.files import write_atomic

Row = dict[str, str]

NEEDED = ("accelerator",)
"""Without it nothing can be said; every other blank is filled and noted."""

NUMBERS = (
    *("total_params_b", "active_params_b", "layers", "hidden", "ffn", "heads", "kv_heads", "experts", "topk"),
    *("expert_ffn", "shared_experts", "vocab", "seq_len", "global_batch_seqs", "micro_batch", "n_devices"),
    *("tp", "pp", "vpp", "cp", "ep", "etp", "dp"),
)

AT_LEAST_ONE = ("n_devices", "layers", "hidden", "seq_len")
COUNTS_B = ("total_params_b", "active_params_b")
"""In billions; all others are whole numbers, where 0 says that there is none."""

SHARDINGS = {"": None, "unknown": None, "none": "none", "zero0": "none", "ddp": "none"} | {
    name: name for name in ("zero1", "zero2", "zero3")
}
SHARDINGS |= {"fsdp": "zero3", "fsdp2": "zero3", "hsdp": "zero3"}
RECOMPUTES = {"": None, "unknown": None, "none": "none", "selective": "selective", "full": "full"}
PRECISIONS = ("", "bf16", "fp16", "fp8", "mxfp8")


def read_rows(path: Path) -> list[Row]:
    """Return the lines of a CSV file as dictionaries. Unknown columns are kept and ignored.

    Raises UsageError if it cannot be read, InvalidFile with every cell that cannot be understood.
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
    problems = [problem for line, row in enumerate(rows, 2) for problem in problems_of(row, line)]
    if problems:
        raise InvalidFile(path, problems)
    return rows


def problems_of(row: Mapping[str, str], line: int) -> Iterable[Problem]:
    """Yield what is wrong with one line."""
    for column in NUMBERS:
        text = row.get(column, "")
        value = _number(text)
        if text and (value is None or value < 0):
            yield Problem(column, f"'{text}' is no positive number", "leave unknown cells blank", line)
        elif value is not None and value < 1 and (column in AT_LEAST_ONE or (value and column not in COUNTS_B)):
            yield Problem(column, f"{text} is below 1", "leave unknown cells blank", line)
    if not row.get("accelerator"):
        yield Problem("accelerator", "is blank", "`everyflop catalog list` shows the names", line)
    for column, known in (("sharding", SHARDINGS), ("recompute", RECOMPUTES), ("dtype", PRECISIONS)):
        if row.get(column, "").lower() not in known:
            shown = ", ".join(word for word in known if word)
            yield Problem(column, f"'{row[column]}' is unknown", f"known: {shown}", line)


def numbers_of(row: Mapping[str, str]) -> dict[str, float | None]:
    """Return the numeric cells, None for a blank."""
    return {column: _number(row.get(column, "")) for column in NUMBERS}


def write_rows(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
    """Write a table, whole or not at all."""
    lines = [",".join(columns)]
    lines += [",".join(_quoted(row[column]) for column in columns) for row in rows]
    write_atomic(path, ("\n".join(lines) + "\n").encode())


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n') else text


def _number(text: str) -> float | None:
    try:
        value = float(text.replace("_", ""))
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else None
