"""What a table's cells say. One that cannot be understood counts as blank, and is named."""

import re
from collections.abc import Iterator, Mapping

from everyflop.base.errors import Problem

Row = dict[str, str]

NUMBERS = (
    *("total_params_b", "active_params_b", "layers", "hidden", "ffn", "heads", "kv_heads", "experts", "topk"),
    *("expert_ffn", "shared_experts", "vocab", "seq_len", "global_batch_seqs", "micro_batch", "n_devices"),
    *("tp", "pp", "vpp", "cp", "ep", "etp", "dp"),
)
AT_LEAST_ONE = ("n_devices", "layers", "hidden", "seq_len")
COUNTS_B = ("total_params_b", "active_params_b")
"""In billions; all others are whole numbers, where 0 says that there is none."""
MOST = 1e9
"""No column of NUMBERS reaches this; a larger number is a slip, such as parameters that are not in billions."""

SHARDINGS = {
    "zero3": r"fsdp|hsdp|zero(stage)?3",
    "zero2": r"zero(stage)?2",
    "zero1": r"zero(stage)?1|distributedoptimizer",
    "none": r"zero(stage)?0|ddp|^(none|no)$",
}
RECOMPUTES = {"selective": r"selective", "full": r"full", "none": r"^(none|no|off|false|disabled)$"}
PRECISIONS = {"fp8": r"fp8|float8", "bf16": r"bf16|bfloat16", "fp16": r"fp16|float16"}
"""How each meaning is written; the first that is found counts. Hyphens, underscores, spaces and case do not."""
WORDS = {"sharding": SHARDINGS, "recompute": RECOMPUTES, "dtype": PRECISIONS}

_BLANK = re.compile(r"(?:unknown|n/?a|none given|not (?:given|stated|published)|nan|null|[-–—?.~/]*)", re.IGNORECASE)


def number_of(row: Mapping[str, str], column: str) -> float | None:
    """Return what a cell of NUMBERS holds, None for one that is blank or cannot be right."""
    text = row.get(column, "")
    value = _number(text)
    return None if value is None or _why_wrong(column, value) else value


def numbers_of(row: Mapping[str, str]) -> dict[str, float | None]:
    """Return the cells of NUMBERS."""
    return {column: number_of(row, column) for column in NUMBERS}


def word_of(row: Mapping[str, str], column: str) -> str | None:
    """Return what a cell of WORDS means, None for one that is blank or unknown."""
    text = re.sub(r"[-_ ]+", "", row.get(column, "").lower())
    return next((meaning for meaning, pattern in WORDS[column].items() if re.search(pattern, text)), None)


def problems_of(row: Mapping[str, str], line: int | None = None) -> Iterator[Problem]:
    """Yield the cells that are not blank and cannot be understood."""
    for column in NUMBERS:
        text = row.get(column, "")
        if _is_blank(text):
            continue
        value = _number(text)
        if why := "is no number" if value is None else _why_wrong(column, value):
            yield Problem(column, f"'{text}' {why}", "leave unknown cells blank", line)
    for column, known in WORDS.items():
        if not _is_blank(row.get(column, "")) and word_of(row, column) is None:
            hint = f"known: {', '.join(known)}"
            yield Problem(column, f"'{row[column]}' is unknown", hint, line)


def _is_blank(text: str) -> bool:
    return bool(_BLANK.fullmatch(text.strip()))


def _number(text: str) -> float | None:
    try:
        value = float(re.sub(r"(?<=\d)[_ ](?=\d)|(?<=\d),(?=\d{3}(?!\d))", "", text))
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else None


def _why_wrong(column: str, value: float) -> str:
    if value < 0:
        return "is negative"
    if value > MOST:
        return f"is above {MOST:.0e}"
    if column not in COUNTS_B and value >= 1 and value != int(value):
        return "is no whole number"
    too_small = (value < 1 and column in AT_LEAST_ONE) or (0 < value < 1 and column not in COUNTS_B)
    return "is below 1" if too_small else ""
