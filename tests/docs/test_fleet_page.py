"""docs/fleets.md lists every key of a fleet file, with its default."""

import re
import tomllib
from pathlib import Path

import pytest

from everyflop.catalog.load import load_catalog
from everyflop.spec.base import Spec
from everyflop.spec.exchange import ExchangeSpec
from everyflop.spec.fleet import Fleet, FleetMoney
from everyflop.spec.fleet_file import parse_fleet
from everyflop.spec.measured import MeasuredSpeed
from everyflop.spec.pool import FAILURES_PER_DEVICE_DAY, Link, Pool

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "fleets.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([^`]*)`")


def rows(table: str) -> dict[str, str]:
    """Return the keys of a table with the cell of their defaults."""
    _, _, after = PAGE.partition(f"| `{table}` |")
    cells = [line.strip("|").split("|") for line in after.partition("\n\n")[0].splitlines()[2:]]
    return {key: default.strip() for keys, default, _ in cells for key in CODE.findall(keys)}


@pytest.mark.parametrize(
    ("table", "spec"),
    [
        ("[[pool]]", Pool),
        ("[[link]]", Link),
        ("[money]", FleetMoney),
        ("[islands]", ExchangeSpec),
        ("[[measured]]", MeasuredSpeed),
    ],
)
def test_every_key_is_listed_with_its_default(table: str, spec: type[Spec]):
    listed = rows(table)

    assert set(listed) == set(spec.model_fields)
    for key, cell in listed.items():
        if shown := CODE.fullmatch(cell):
            assert tomllib.loads(f"x = {shown[1]}")["x"] == in_toml(spec, key)
        else:
            assert not (cell and spec.model_fields[key].is_required())


def in_toml(spec: type[Spec], key: str) -> object:
    default = spec.model_fields[key].default
    if key == "failures_per_device_day":
        return FAILURES_PER_DEVICE_DAY
    return {str(number): share for number, share in default.items()} if isinstance(default, dict) else default


def test_every_table_is_on_the_page():
    tables = {field.alias or name for name, field in Fleet.model_fields.items()} - {"name"}

    assert {name for name in tables if f"[{name}]" not in PAGE} == set()


def test_the_page_begins_with_a_fleet_that_works():
    text = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]

    _, problems = parse_fleet(tomllib.loads(text), catalog=load_catalog())

    assert problems == []
