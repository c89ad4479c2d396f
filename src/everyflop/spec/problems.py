"""Turn pydantic's errors into problems that a user can act on, and take what caused them out of the tables.

Taking out lets validation go on with the rest. A required value needs a stand-in; what would be said about stand-ins
is left out, by the names in `stand_ins`.
"""

import copy
import difflib
from typing import Any

from pydantic import BaseModel, ValidationError

from everyflop.base.errors import Problem
from everyflop.spec.run import RunSpec

Location = tuple[int | str, ...]

_STAND_INS = {"train": {}, "family": "qwen3-moe", "path": "x", "name": "x", "sources": [{"path": "x"}]}
_STAND_IN_NUMBER = 64
"""For every other required key: it is valid as a width, a count, and a number of tokens."""


def problems_of(error: ValidationError, stand_ins: set[str]) -> list[Problem]:
    """Return one problem for each error, except for keys that are missing because they were taken out."""
    problems: list[Problem] = []
    for detail in error.errors():
        location = detail["loc"]
        key = "model.init_from" if location == ("init_from",) else _dotted(location)
        if detail["type"] == "extra_forbidden":
            problems.append(Problem(key, "is no known key", _nearest(location)))
        elif detail["type"] != "missing":
            problems.append(Problem(key, f"{detail['msg'].removeprefix('Value error, ')}, found {detail['input']!r}"))
        elif location != ("train",) and not stand_ins.intersection(location):  # what [train] lacks is said next
            table = _dotted(location[:-1])
            problems.append(
                Problem(key, "is missing", f"add {location[-1]} to {f'[{table}]' if table else 'the file'}")
            )
    return problems


def take_out(tables: dict[str, Any], error: ValidationError, stand_ins: set[str]) -> None:
    """Delete what an error is about, or the nearest key around it, and put in what is missing."""
    details = error.errors()
    holders = [_holder(tables, detail["loc"]) for detail in details]
    for detail, (holder, key) in zip(details, holders, strict=True):
        if detail["type"] == "missing" and key not in holder:
            holder[key] = copy.deepcopy(_STAND_INS.get(key, _STAND_IN_NUMBER))
        else:
            holder.pop(key, None)
        if detail["type"] != "extra_forbidden" and (detail["type"], key) != ("missing", "train"):
            stand_ins.add(key)


def _holder(tables: dict[str, Any], location: Location) -> tuple[dict[str, Any], str]:
    """Return the innermost table on the way to a location, and the key in it that leads on."""
    value: Any = tables
    holder, key = tables, str(location[0])
    for part in location:
        if isinstance(value, dict) and isinstance(part, str):
            holder, key, value = value, part, value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            break
    return holder, key


def _dotted(location: Location) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _nearest(location: Location) -> str:
    """Suggest known keys for an unknown one, in the same table first and then in the whole file."""
    known = _known_keys(RunSpec)
    table = _dotted(tuple(part for part in location[:-1] if not isinstance(part, int)))
    here = [key.rsplit(".", 1)[-1] for key in known if key.rpartition(".")[0] == table]
    if near := difflib.get_close_matches(str(location[-1]), here, n=1):
        return f"did you mean {near[0]}?"
    elsewhere = [key for key in known if key.rsplit(".", 1)[-1] == location[-1]]
    return f"it belongs in {elsewhere[0]}" if elsewhere else f"known here: {', '.join(here)}" if here else ""


def _known_keys(spec: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the dotted keys of a run file; entries of arrays have no number."""
    keys = [] if prefix else ["model.preset", "model.init_from"]
    for name, field in spec.model_fields.items():
        if prefix or name != "init_from":
            keys.append(prefix + name)
        for candidate in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                keys += _known_keys(candidate, f"{prefix}{name}.")
    return keys
