"""What may be asked of the planner, from Python as on the command line."""

import math
from pathlib import Path
from typing import Any

import pytest

import everyflop as ef
from everyflop.base.errors import InvalidFile, UsageError
from everyflop.planner.plan.request import request_of

from ..fleets import H100, fleet


def problems(**given: Any) -> list[str]:
    """Return the problems of a request as text."""
    with pytest.raises(InvalidFile) as error:
        request_of(**{"fleet": "fleet.toml", "model": "ling-lite", **given})
    return [str(problem) for problem in error.value.problems]


def test_counts_and_money_are_read_as_people_write_them():
    asked = request_of(fleet="fleet.toml", tokens="1T", batch_tokens="16M", budget="5M", measured="me.toml")

    assert (asked.tokens, asked.batch_tokens, asked.budget) == (10**12, 16_000_000, 5e6)
    assert asked.measured == (Path("me.toml"),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fleet", {}),
        ("model", ""),
        ("model", 3),
        *(("tokens", value) for value in (0, -5, math.nan, 1.5, "many", "1e30", 10**30, True)),
        *(("batch_tokens", value) for value in (0, -4096)),
        *(("seq_len", value) for value in (0, -4096)),
        ("precision", "fp32"),
        ("objective", "front"),
        *(("budget", value) for value in (0, -1, math.inf, "much")),
        ("currency", "cny"),
        *(("deadline_days", value) for value in (0, math.nan)),
        *(("max_supplier_share", value) for value in (0, 50)),
        ("max_devices", 0),
        ("max_islands", 0),
        ("measured", 3),
    ],
)
def test_what_no_plan_can_keep_is_refused_by_name(name: str, value: Any):
    (problem,) = problems(**{name: value})

    assert problem.startswith(f"{name}: ")


def test_every_problem_is_told_at_once_with_what_to_write():
    told = problems(tokens=0, currency="cny", deadline_days=0)

    assert [problem.split(":")[0] for problem in told] == ["tokens", "currency", "deadline_days"]
    assert "such as 1T" in told[0]
    assert "three capital letters" in told[1]
    assert "greater than 0" in told[2]


def test_names_are_spelled_as_the_asker_writes_them():
    with pytest.raises(InvalidFile, match="--max-islands: "):
        request_of(fleet="fleet.toml", max_islands=0, spelled=lambda name: f"--{name.replace('_', '-')}")


def test_python_asks_through_the_same_check():
    with pytest.raises(UsageError, match="2 problems"):
        ef.plan(fleet(H100), model="ling-lite", tokens=-5, max_islands=0)


def test_python_must_name_a_model():
    with pytest.raises(UsageError, match="model: is missing"):
        ef.plan(fleet(H100), model=None, tokens="1T")  # pyright: ignore[reportArgumentType]
