"""Whatever the mistakes in a fleet file: all of them are named, and nothing else is."""

import copy
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from everyflop.catalog.load import load_catalog
from everyflop.spec.fleet_file import parse_fleet

CATALOG = load_catalog()

Change = Callable[[dict[str, Any]], Any]


def put(table: str, number: int, **fields: Any) -> Change:
    return lambda tables: tables[table][number].update(fields)


def leave_out(table: str, number: int, key: str) -> Change:
    return lambda tables: tables[table][number].pop(key)


MISTAKES: dict[str, Change] = {
    "pool[0].device": put("pool", 0, device="h1000"),
    "pool[0].count": put("pool", 0, count=[64, 8]),
    "pool[0].price_per_device_hour": leave_out("pool", 0, "price_per_device_hour"),
    "pool[0].max_share": put("pool", 0, max_share=40),
    "pool[1].count": put("pool", 1, count=0),
    "pool[1].price_per_device_hour": put("pool", 1, price_per_device_hour=-1),
    "pool[1].currency": put("pool", 1, currency="JPY"),
    "pool[1].scale_out_gbit_per_s": put("pool", 1, scale_out_gbit_per_s=4e11),
    "pool[1].failures_per_device_day": put("pool", 1, spot=True),
    "pool[2].devices_per_node": put("pool", 2, devices_per_node="eight"),
    "pool[2].pric": put("pool", 2, pric=1),
    "pool[2].restart_minutes": put("pool", 2, restart_minutes=0),
    "pool[3].name": lambda tables: tables["pool"].append({**TABLES["pool"][0], "name": "a"}),
    "link[0].gbit_per_s": put("link", 0, gbit_per_s=0),
    "link[1].between": put("link", 1, between=["c", "d"]),
    "link[2].price_per_gb": put("link", 2, price_per_gb=90),
    "device[0].mem_gb": put("device", 0, mem_gb=48_000),
    "device[0].bf16_tflops": put("device", 0, bf16_tflops="many"),
    "measured[0].device": put("measured", 0, device="h1000"),
    "measured[0].model": put("measured", 0, model="ling-lit"),
    "measured[0].batch_tokens": put("measured", 0, batch_tokens=5000),
    "measured[0].date": put("measured", 0, date="today"),
    "islands.steps_between_exchanges": lambda tables: tables["islands"].update(steps_between_exchanges=0),
    "islands.extra_tokens_share": lambda tables: tables["islands"].update(extra_tokens_share={"2": -1.0}),
    "money.rates.CNY": lambda tables: tables["money"].update(rates={"CNY": 0, "USD": 1.0}),
    "fleet": lambda tables: tables.update(fleet="x"),
}

TABLES: dict[str, Any] = {
    "pool": [
        {"name": "a", "device": "h100-sxm", "count": 8, "price_per_device_hour": 2.0},
        {"name": "b", "device": "mi300x", "count": [8, 64], "price_per_device_hour": 2.0},
        {"name": "c", "device": "own", "count": "1K", "price_per_device_hour": 14.0, "currency": "CNY"},
    ],
    "link": [
        {"between": ["a", "b"], "gbit_per_s": 100},
        {"between": ["a", "c"], "gbit_per_s": 10},
        {"between": ["b", "b"], "gbit_per_s": 400},
    ],
    "device": [{"name": "own", "vendor": "us", "bf16_tflops": 100, "mem_gb": 48}],
    "measured": [
        {
            **{"device": "own", "date": "2026-09", "source": "log", "model": "ling-lite", "seq_len": 4096},
            **{"batch_tokens": 32768, "tokens_per_s_per_device": 1000, "layout": {"dp": 4}},
        }
    ],
    "islands": {"max_islands": 2},
    "money": {"currency": "USD", "rates": {"CNY": 0.14}},
}


def test_the_tables_that_mistakes_are_planted_in_are_good():
    assert parse_fleet(TABLES, catalog=CATALOG)[1] == []


@given(st.sets(st.sampled_from(sorted(MISTAKES)), min_size=1))
def test_any_set_of_mistakes_is_reported_completely_and_nothing_else(keys: set[str]):
    tables = copy.deepcopy(TABLES)
    for key in sorted(keys):
        MISTAKES[key](tables)

    fleet, problems = parse_fleet(tables, catalog=CATALOG)

    assert fleet is None
    assert sorted(problem.key for problem in problems) == sorted(keys)


NAMES = ["pool", "link", "device", "measured", "money", "islands", "schema", "other", "name"]
KEYS = [
    *("name", "device", "count", "price_per_device_hour", "currency", "between", "gbit_per_s", "rates", "model"),
    *("preset", "layout", "extra_tokens_share", "max_islands", "date", "spot", "mem_gb", "aliases", "like", "2"),
]
junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "x", "USD", "1M", "ling-lite", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=15,
)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(NAMES), junk))
def test_no_junk_makes_reading_crash_or_hang(tables: dict[str, Any]):
    fleet, problems = parse_fleet(tables, catalog=CATALOG)

    assert (fleet is None) == bool(problems)


def test_reading_leaves_the_callers_tables_alone():
    tables = copy.deepcopy(TABLES)
    MISTAKES["pool[0].count"](tables)
    before = copy.deepcopy(tables)

    parse_fleet(tables, catalog=CATALOG)

    assert tables == before
