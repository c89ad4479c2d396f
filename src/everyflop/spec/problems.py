"""Turn pydantic's errors into problems that a user can act on, and take what caused them out of the tables.

Taking out lets validation go on with the rest. A required value needs a stand-in; what would be said about stand-ins
is left out, by their keys in `stand_ins`.
"""

import copy
import difflib
import re
from collections.abc import Collection
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from everyflop.base.errors import Problem
from everyflop.spec.file_kind import FileKind

Location = tuple[int | str, ...]

_STAND_IN_NUMBER = 64
"""For every required key without a stand-in of its own: valid as a width, a count, a price, a number of tokens."""


def problems_of(error: ValidationError, kind: FileKind[Any], stand_ins: Collection[str]) -> list[Problem]:
    """Return one problem for each error, except for keys that are missing because they were taken out."""
    problems: list[Problem] = []
    for detail in details_of(error):
        location = detail["loc"]
        key = kind.written_as.get(_dotted(location), _dotted(location))
        if detail["type"] == "extra_forbidden":
            problems.append(Problem(key, "is no known key", _nearest(location, kind)))
        elif detail["type"] != "missing":
            problems.append(_brackets(detail, key) or _wrong_value(detail, key, kind))
        elif not _says_more_itself(location[-1], kind) and not _stands_in(key, stand_ins):
            hints = [_where_to_add(location), kind.hint(without_numbers(key), None)]
            problems.append(Problem(key, "is missing", "; ".join(filter(None, hints))))
    return problems


def _wrong_value(detail: ErrorDetails, key: str, kind: FileKind[Any]) -> Problem:
    found = f"{detail['msg'].removeprefix('Value error, ')}, found {detail['input']!r}"
    return Problem(key, found, kind.hint(without_numbers(key), detail["input"]))


def _brackets(detail: ErrorDetails, key: str) -> Problem | None:
    """Return what is wrong with a header that has one bracket too few or too many."""
    given = detail["input"]
    if detail["type"] == "tuple_type" and isinstance(given, dict):
        return Problem(key, "there may be several of these tables", f"write [[{key}]], with two brackets")
    if detail["type"] == "model_type" and isinstance(given, list) and all(isinstance(one, dict) for one in given):
        return Problem(key, "there is one of these tables", f"write [{key}], with one bracket")
    return None


def take_out(tables: dict[str, Any], error: ValidationError, kind: FileKind[Any], stand_ins: set[str]) -> None:
    """Delete what an error is about, or the nearest key around it, and put in what is missing."""
    details = details_of(error)
    holders = [_holder(tables, detail["loc"]) for detail in details]
    for detail, (holder, location) in zip(details, holders, strict=True):
        key = str(location[-1])
        missing = detail["type"] == "missing" and key not in holder
        if missing:
            holder[key] = copy.deepcopy(kind.stand_ins.get(key, _STAND_IN_NUMBER))
        else:
            holder.pop(key, None)
        if detail["type"] != "extra_forbidden" and not (missing and _says_more_itself(key, kind)):
            stand_ins.add(_dotted(location))


def details_of(error: ValidationError) -> list[ErrorDetails]:
    """Return pydantic's errors without those that say that an array is too short, for it counts valid entries only."""
    details = error.errors()
    entries_with_errors = {detail["loc"][:length] for detail in details for length in range(len(detail["loc"]))}
    return [d for d in details if d["type"] != "too_short" or d["loc"] not in entries_with_errors]


def is_about(key: str, what: str, stand_ins: Collection[str]) -> bool:
    """Whether a misfit speaks of a value that stands in for a wrong one: such a misfit is no news.

    It speaks of its own key, of keys beside that one by their names, and of keys elsewhere by their dotted names, where
    `pool.name` means the name of any pool.
    """
    words = re.findall(r"\w+(?:\[\d+\])?(?:\.\w+(?:\[\d+\])?)*", what)
    table = key.rpartition(".")[0]
    elsewhere = {word for word in words if "." in word}
    spoken_of = {key, *elsewhere, *(f"{table}.{word}" if table else word for word in words)}
    return any(_overlap(stand_in, spoken) for stand_in in stand_ins for spoken in spoken_of) or any(
        _overlap(without_numbers(stand_in), spoken) for stand_in in stand_ins for spoken in elsewhere
    )


def without_numbers(key: str) -> str:
    """Return a key without the numbers of entries: pool[1].count -> pool.count."""
    return re.sub(r"\[\d+\]", "", key)


def _lies_in(key: str, outer: str) -> bool:
    return key == outer or key.startswith((f"{outer}.", f"{outer}["))


def _overlap(key: str, other: str) -> bool:
    return _lies_in(key, other) or _lies_in(other, key)


def _stands_in(key: str, stand_ins: Collection[str]) -> bool:
    return any(_lies_in(key, stand_in) for stand_in in stand_ins)


def _says_more_itself(key: int | str, kind: FileKind[Any]) -> bool:
    """Whether this is a table of which the next round says what it lacks."""
    return kind.stand_ins.get(str(key)) == {}


def _where_to_add(location: Location) -> str:
    table = _dotted(location[:-1])
    if not table:
        return f"add {location[-1]} to the file"
    return f"add {location[-1]} to {f'[[{without_numbers(table)}]]' if table.endswith(']') else f'[{table}]'}"


def _holder(tables: dict[str, Any], location: Location) -> tuple[dict[str, Any], Location]:
    """Return the innermost table on the way to a location, and the part of the way that ends with a key in it."""
    value: Any = tables
    holder, way = tables, location[:1]
    for length, part in enumerate(location, 1):
        if isinstance(value, dict) and isinstance(part, str):
            holder, way, value = value, location[:length], value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            break
    return holder, way


def _dotted(location: Location) -> str:
    text = ""
    for part in location:
        if part != "[key]":  # pydantic's word for the key of a dict
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _nearest(location: Location, kind: FileKind[Any]) -> str:
    """Suggest known keys for an unknown one, in the same table first and then in the whole file."""
    known = kind.known_keys()
    table = _dotted(tuple(part for part in location[:-1] if not isinstance(part, int)))
    here = [key.rsplit(".", 1)[-1] for key in known if key.rpartition(".")[0] == table]
    if near := difflib.get_close_matches(str(location[-1]), here, n=1):
        return f"did you mean {near[0]}?"
    elsewhere = [key for key in known if key.rsplit(".", 1)[-1] == location[-1]]
    return f"it belongs in {elsewhere[0]}" if elsewhere else f"known here: {', '.join(here)}" if here else ""
