"""Set keys of a run file from the command line: "section.key=value"."""

import tomllib
from collections.abc import Iterable
from typing import Any

from everyflop.base.errors import Problem


def apply_overrides(tables: dict[str, Any], overrides: Iterable[str]) -> tuple[set[str], list[Problem]]:
    """Write overrides into tables, in place. Returns the dotted keys that were set, and what could not be read."""
    keys: set[str] = set()
    problems: list[Problem] = []
    for override in overrides:
        dotted, equals, value = override.partition("=")
        *sections, key = dotted.strip().split(".")
        if not equals or not sections or not key:
            problems.append(Problem(override, "is no override", "write section.key=value, such as train.tokens=2M"))
            continue
        holder: Any = tables
        for section in sections:
            holder = holder.setdefault(section, {}) if isinstance(holder, dict) else holder
        if isinstance(holder, dict):
            holder[key] = _value(value.strip())
            keys.add(f"{'.'.join(sections)}.{key}")
        else:
            problems.append(Problem(dotted.strip(), f"cannot be set: {'.'.join(sections)} is no table"))
    return keys, problems


def _value(text: str) -> Any:
    """Read a TOML value; what is none is a text without its quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
