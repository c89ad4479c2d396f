"""What reading needs to know about one kind of TOML file that users write: a run file, a fleet file."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from everyflop.spec.base import Spec

S = TypeVar("S", bound=Spec)


def _no_hint(key: str, value: Any) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class FileKind(Generic[S]):
    """One kind of file. Keys are dotted; those of entries in arrays have no number here: pool.count."""

    title: str
    """Such as "run file"."""
    remedy: str
    """What to do without such a file."""
    spec: type[S]
    schema: int
    """The version that this everyflop reads and writes."""
    stand_ins: Mapping[str, Any]
    """Last part of a required key -> a valid value, for checking the rest of a file where it is missing or wrong.
    A missing table whose stand-in is empty is not reported: what it lacks is."""
    written_as: Mapping[str, str] = field(default_factory=dict)
    """Keys of the spec that a file has elsewhere."""
    also_known: tuple[str, ...] = ()
    """Keys that a file may have and the spec has not."""
    hint: Callable[[str, Any], str] = _no_hint
    """From a key and a wrong value (None where it is missing): what to do about it, or nothing."""

    def known_keys(self) -> list[str]:
        """Return all keys of such a file."""
        own = [key for key in _keys_of(self.spec, "") if key not in self.written_as]
        return [*self.also_known, *self.written_as.values(), *own]


def _keys_of(spec: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, info in spec.model_fields.items():
        key = prefix + (info.alias or name)
        yield key
        for candidate in (info.annotation, *getattr(info.annotation, "__args__", ())):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                yield from _keys_of(candidate, f"{key}.")
