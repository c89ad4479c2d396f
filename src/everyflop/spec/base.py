"""What all specs share: frozen, no unknown keys, counts as people write them, all misfits at once."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from everyflop.base.units import parse_count


class Spec(BaseModel):
    """A frozen description that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


AnySpec = TypeVar("AnySpec", bound=Spec)


def refuse_misfits(spec: AnySpec, misfits: Sequence[tuple[str, str]]) -> AnySpec:
    """Return the spec, or raise one validation error that carries every (key, what is wrong) pair in its context."""
    if misfits:
        text = "; ".join(f"{key} {found}" for key, found in misfits)
        raise PydanticCustomError("misfit", "{text}", {"text": text, "misfits": list(misfits)})
    return spec


def _count(value: Any) -> Any:
    return parse_count(value) if isinstance(value, str) else value


Count = Annotated[int, BeforeValidator(_count), Field(gt=0)]
"""A positive whole number, also written as "1_000_000", "1.5M" or "9T"."""

CountOrZero = Annotated[int, BeforeValidator(_count), Field(ge=0)]
