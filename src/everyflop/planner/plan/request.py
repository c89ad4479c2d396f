"""What is asked of the planner, checked in one place: `everyflop plan` and `ef.plan` take the same values.

Counts and money may be written as people write them: "1T", "5M".
"""

from collections.abc import Callable
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails

from everyflop.base.errors import InvalidFile, Problem
from everyflop.base.units import parse_amount
from everyflop.spec.base import Count, Spec
from everyflop.spec.fleet import Fleet
from everyflop.spec.plan import Limits, Objective
from everyflop.spec.pool import Currency
from everyflop.spec.workload import Precision


def _path_or_fleet(value: Any) -> Any:
    if not isinstance(value, str | PathLike | Fleet):
        raise ValueError(f"{value!r} is neither the path of a fleet file nor a Fleet")
    return value


def _name(value: Any) -> Any:
    return fspath(value) if isinstance(value, PathLike) else value


def _amount(value: Any) -> Any:
    return parse_amount(value) if isinstance(value, str) else value


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str | PathLike) else value


Name = Annotated[str, BeforeValidator(_name), Field(min_length=1)]
Money = Annotated[float, BeforeValidator(_amount), Field(gt=0)]


class Request(Spec):
    """One question. What is None was not said: the run file, the fleet file or a law says it."""

    fleet: Annotated[Path | Fleet, BeforeValidator(_path_or_fleet)]
    model: Name | None = None
    tokens: Count | None = None
    seq_len: Count | None = None
    batch_tokens: Count | None = None
    precision: Precision = "bf16"
    objective: Objective = "cost"
    budget: Money | None = None
    currency: Currency | None = None
    deadline_days: float | None = Field(default=None, gt=0)
    max_supplier_share: float | None = Field(default=None, gt=0, le=1)
    max_devices: Count | None = None
    max_islands: Count | None = None
    measured: Annotated[tuple[Path, ...], BeforeValidator(_one_or_more)] = ()
    plan_file: Name = "plan.json"

    def limits(self, fleet: Fleet) -> Limits:
        """Return the limits that are asked, with the fleet's own of islands where none is."""
        return Limits(
            budget=self.budget,
            deadline_days=self.deadline_days,
            max_supplier_share=self.max_supplier_share,
            max_devices=self.max_devices,
            max_islands=self.max_islands or fleet.islands.max_islands,
        )


_HINTS = {
    "fleet": "recipes/fleets/ has files to start from",
    "model": "a published model's name, or the path of a run file",
    "tokens": "tokens of the whole run, such as 1T for 1e12",
    "seq_len": "tokens of one sequence, such as 4096",
    "batch_tokens": "tokens of one step on all devices, such as 16M",
    "budget": "for the whole run, such as 5M",
    "currency": "three capital letters, such as USD or CNY",
    "deadline_days": "days that the run may take, such as 60",
    "max_supplier_share": "of the tokens, such as 0.5 for one half",
    "max_devices": "in the whole plan, such as 512",
    "max_islands": "in the whole plan; 1 mixes nothing",
    "measured": "files that `everyflop measure` wrote",
}


def request_of(*, spelled: Callable[[str], str] = str, **given: Any) -> Request:
    """Return the question. Raises InvalidFile with every problem; spelled is how the asker writes a name."""
    try:
        return Request.model_validate(given)
    except ValidationError as error:
        raise InvalidFile("what is asked", [_problem(detail, spelled) for detail in error.errors()]) from None


def _problem(detail: ErrorDetails, spelled: Callable[[str], str]) -> Problem:
    name = str(detail["loc"][0])
    ours = detail["type"] == "value_error"  # such a message quotes the value itself
    said = detail["msg"].removeprefix("Value error, ") if ours else f"{detail['msg']}, found {detail['input']!r}"
    return Problem(spelled(name), said, _HINTS.get(name, ""))
