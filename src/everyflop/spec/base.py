"""What all specs share: frozen, no unknown keys, counts as people write them, all misfits at once."""

from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from everyflop.base.units import parse_count

Misfit = tuple[str, str]
"""A key, and what is wrong with its value beside the values of other keys."""

KEEP_MISFITS = "keep misfits"
"""Validation context that lets a spec with misfits exist, for whoever wants to list them all (see read.py)."""


class Spec(BaseModel):
    """A frozen description that refuses unknown keys, and values that do not fit each other."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def misfits(self) -> list[Misfit]:
        """Return what does not fit together; every value is valid in itself."""
        return []

    def all_misfits(self) -> list[Misfit]:
        """Return the misfits of every spec inside this one, with their dotted keys, and then its own."""
        found: list[Misfit] = []
        for name, field in type(self).model_fields.items():
            value, key = getattr(self, name), field.alias or name
            entries = enumerate(value) if isinstance(value, tuple) else ()
            inside = [(key, value), *((f"{key}[{number}]", entry) for number, entry in entries)]
            found += [
                (f"{place}.{inner}", what)
                for place, spec in inside
                if isinstance(spec, Spec)
                for inner, what in spec.all_misfits()
            ]
        return found + self.misfits()

    @model_validator(mode="after")
    def _refuse_misfits(self, info: ValidationInfo) -> Self:
        if info.context != KEEP_MISFITS and (found := self.misfits()):
            raise PydanticCustomError("misfit", "{text}", {"text": "; ".join(f"{key} {what}" for key, what in found)})
        return self

    @field_validator("*", mode="before")
    @classmethod
    def _only_numbers_are_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic reads true as 1 and "2.5" as 2.5 where a number is wanted, and the checks of units would miss them.
        wanted = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and wanted is not bool:
            raise PydanticCustomError("no_flag", "Input should not be true or false")
        if isinstance(value, str) and wanted in (float, float | None):
            raise PydanticCustomError("no_text", "Input should be a number, without quotes")
        return value


def _count(value: Any) -> Any:
    return parse_count(value) if isinstance(value, str) else value


Count = Annotated[int, BeforeValidator(_count), Field(gt=0, le=2**63 - 1)]
"""A positive whole number of at most 64 bits with its sign, also written as "1_000_000", "1.5M" or "9T"."""

CountOrZero = Annotated[int, BeforeValidator(_count), Field(ge=0, le=2**63 - 1)]
"""The same, and 0."""
