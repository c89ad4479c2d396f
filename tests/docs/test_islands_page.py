"""docs/islands.md lists every key of islands, with its default."""

import re
import tomllib
from itertools import zip_longest
from pathlib import Path

import pytest

from everyflop.spec.base import Spec
from everyflop.spec.exchange import ExchangeSpec
from everyflop.spec.islands import IslandSpec, IslandsSpec

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "islands.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([^`]*)`")


@pytest.mark.parametrize(("table", "spec"), [("[[island]]", IslandSpec), ("[islands]", IslandsSpec)])
def test_every_key_is_listed_with_its_default(table: str, spec: type[Spec]):
    lines = PAGE.partition(f"| `{table}` |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [line.strip("|").split("|") for line in lines]
    pairs = [zip_longest(CODE.findall(keys), CODE.findall(default)) for keys, default, _ in cells]
    shown = {key: value for pair in pairs for key, value in pair}

    assert set(shown) == set(spec.model_fields)
    for key, field in spec.model_fields.items():
        if not (field.is_required() or field.default in (None, "")):
            assert tomllib.loads(f"x = {shown[key]}")["x"] == field.default


def test_it_says_what_plans_assume():
    how = ExchangeSpec()

    assert how.bytes_per_parameter == 0.5
    assert len(how.ways) > 1
    assert "Plans exchange int4 unless their [fleet file](fleets.md) says otherwise, and choose the start" in PAGE
