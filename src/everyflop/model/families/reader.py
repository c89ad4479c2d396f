"""Read a config.json key by key and list everything wrong with it at once.

Every key must be asked for by somebody: what nobody asked for is a key that we do not implement, and a model loaded in
spite of it would be silently wrong.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from everyflop.base.errors import Problem


class Absent(Enum):
    """Why there is no value."""

    MISSING = "the key is not there"
    REFUSED = "the value is of no use, and the problem is noted"


MISSING, REFUSED = Absent.MISSING, Absent.REFUSED

LARGEST_INT = 10**9
"""Above any size in a config.json."""

_KINDS = {int: "a whole number of sensible size", float: "a finite number", bool: "true or false"}


class ConfigReader:
    """The keys of one table of config.json: which of them somebody asked for, and the problems found."""

    def __init__(self, config: Mapping[str, Any], *, prefix: str = "", has_mtp: bool = False):
        self.config, self.prefix, self.has_mtp = config, prefix, has_mtp
        """has_mtp: the tensor files hold the layer after the last main one."""
        self.problems: list[Problem] = []
        self._asked: set[str] = set()

    def problem(self, key: str, found: str, hint: str = "") -> Absent:
        """Note what is wrong with a key; returns REFUSED."""
        self.problems.append(Problem(self.prefix + key, found, hint))
        return REFUSED

    def raw(self, *names: str) -> Any:
        """Return the value under any of these names, which must agree, or MISSING."""
        self._asked.update(names)
        given = [name for name in names if name in self.config]
        if any(self.config[name] != self.config[given[0]] for name in given[1:]):
            values = ", ".join(f"{name} = {self.config[name]!r}" for name in given)
            return self.problem(given[0], f"goes by two names that disagree: {values}", "keep one")
        return self.config[given[0]] if given else MISSING

    def typed(self, value: Any, kind: type, key: str) -> Any:
        """Return the value if it is of the kind (int, float, bool), else REFUSED."""
        if kind is float and type(value) in (int, float) and abs(value) < float("inf"):
            return float(value)
        if value is REFUSED or (type(value) is kind and (kind is bool or abs(value) <= LARGEST_INT)):
            return value
        return self.problem(key, f"is {_short(value)}, and {_KINDS[kind]} is needed")

    def expect(self, key: str, accepted: Iterable[Any], hint: str = "") -> None:
        """Note a problem unless the key is absent or has one of the accepted values."""
        value, accepted = self.raw(key), list(accepted)
        if value is not MISSING and not any(value == one and _like(value, one) for one in accepted):
            wanted = " or ".join(map(_json_word, accepted))
            self.problem(key, f"is {_short(value)}, which everyflop does not implement; it must be {wanted}", hint)

    def refuse_the_rest(self, harmless: Iterable[str] = ()) -> None:
        """Note every key that nobody asked for, unless it is harmless, private (leading underscore) or null."""
        for key, value in self.config.items():
            if key not in self._asked and key not in harmless and not key.startswith("_") and value is not None:
                self.problem(key, f"is no key that everyflop knows here (its value is {_short(value)})")


def _like(value: Any, other: Any) -> bool:
    """Whether two equal values are of the same kind: in Python, True == 1."""
    return (type(value) is bool) == (type(other) is bool)


def _json_word(value: Any) -> str:
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), repr(value))


def _short(value: Any) -> str:
    text = _json_word(value)
    return text if len(text) <= 60 else text[:57] + "..."
