from typing import Any

import pytest

from everyflop.spec.overrides import apply_overrides


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("1e-3", 1e-3),
        ("true", True),
        ("2M", "2M"),
        ("plain text", "plain text"),
        ('"5"', "5"),
        ("['a', 'b']", ["a", "b"]),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_a_value_is_toml_or_else_text(text: str, value: Any):
    tables: dict[str, Any] = {}

    keys, problems = apply_overrides(tables, [f"section.key={text}"])

    assert tables == {"section": {"key": value}}
    assert (keys, problems) == ({"section.key"}, [])


def test_tables_in_between_are_made_and_other_keys_stay():
    tables: dict[str, Any] = {"model": {"hidden": 64}}

    apply_overrides(tables, ["model.yarn.factor=2", "run.name=x"])

    assert tables == {"model": {"hidden": 64, "yarn": {"factor": 2}}, "run": {"name": "x"}}


@pytest.mark.parametrize("text", ["tokens=5", "train.tokens", "train.=5", "=5", ""])
def test_what_names_no_key_of_a_section_is_refused_with_an_example(text: str):
    tables: dict[str, Any] = {}

    keys, (problem,) = apply_overrides(tables, [text])

    assert (tables, keys) == ({}, set())
    assert "train.tokens=2M" in problem.hint


@pytest.mark.parametrize("holder", [5, [1]])
def test_a_value_that_is_no_table_cannot_hold_a_key(holder: Any):
    tables = {"data": {"sources": holder}}

    keys, (problem,) = apply_overrides(tables, ["data.sources.path=x"])

    assert tables == {"data": {"sources": holder}}
    assert (keys, problem.key) == (set(), "data.sources.path")
