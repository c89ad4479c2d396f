"""Whatever the mistakes, all of them are named, and nothing else is."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everyflop.spec.problems import is_about
from everyflop.spec.read import parse_run

MISTAKES: dict[str, tuple[str, Any]] = {
    "run.nam": ("run", {"nam": "x"}),
    "run.seed": ("run", {"seed": "one"}),
    "model.hidden": ("model", {"hidden": []}),
    "model.n_heads": ("model", {"n_kv_heads": 3}),
    "model.experts_per_token": ("model", {"experts_per_token": 9}),
    "train.batch_tokens": ("train", {"batch_tokens": 1000}),
    "train.batch_warmup_tokens": ("train", {"batch_warmup_from": 512}),
    "optim.betas": ("optim", {"betas": [2, 0]}),
    "optim.lr": ("optim", {"lr": 5}),
    "data.validation": ("data", {"validation": [{"name": "a", "sources": "python-stdlib"}] * 2}),
    "money.price_per_device_hour": ("money", {"price_per_device_hour": -1}),
    "checkpoint": ("checkpoint", 3),
}


@given(st.sets(st.sampled_from(sorted(MISTAKES)), min_size=1))
def test_any_set_of_mistakes_is_reported_completely_and_nothing_else(keys: set[str]):
    tables: dict[str, Any] = {
        "run": {"name": "tiny"},
        "model": {
            "family": "ling-v2",
            "hidden": 64,
            "n_layers": 2,
            "n_heads": 4,
            "n_kv_heads": 2,
            "head_dim": 16,
            "n_experts": 8,
            "experts_per_token": 2,
            "expert_width": 32,
        },
        "train": {"tokens": "1M", "seq_len": 128},
    }
    for key in keys:
        table, change = MISTAKES[key]
        tables[table] = tables.get(table, {}) | change if isinstance(change, dict) else change

    run, problems = parse_run(tables)

    assert run is None
    assert {problem.key for problem in problems} == keys


TABLES = ["run", "model", "data", "train", "optim", "router", "checkpoint", "money", "init_from", "other"]
KEYS = ["name", "tokens", "sources", "validation", "path", "tokenizer", "yarn", "factor", "betas", "dense_layers"]
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "x", "*", "1M", "train", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(TABLES), junk))
def test_no_junk_makes_reading_crash_or_hang(tables: dict[str, Any]):
    run, problems = parse_run(tables)

    assert (run is None) == bool(problems)


def test_reading_a_bad_file_leaves_nothing_behind_for_the_next():
    for _ in range(2):
        _, problems = parse_run({"model": {"preset": "ling-lite"}})

        assert [problem.key for problem in problems] == ["train.tokens"]


def test_a_count_that_cannot_be_read_comes_with_examples():
    _, (problem,) = parse_run({"model": {"preset": "ling-lite"}, "train": {"tokens": "many"}})

    assert problem.found == "'many' is not a count such as 250000, 1_000_000, 1.5M or 9T, found 'many'"


def test_wrong_entries_are_not_taken_for_a_list_without_entries():
    tables = {"model": {"preset": "ling-lite"}, "train": {"tokens": "1M"}, "data": {"sources": [{"path": 5}, "a"]}}

    for sources in (tables["data"]["sources"], tables["data"]["sources"][:1]):
        _, problems = parse_run({**tables, "data": {"sources": sources}})

        assert [problem.key for problem in problems] == ["data.sources[0].path"]


def test_a_list_without_entries_is_one_problem():
    _, problems = parse_run({"model": {"preset": "ling-lite"}, "train": {"tokens": "1M"}, "data": {"sources": []}})

    assert [problem.key for problem in problems] == ["data.sources"]


@pytest.mark.parametrize(
    ("key", "what", "stand_in"),
    [
        ("train.batch_tokens", "is bad", "train.batch_tokens"),  # its own key
        ("train.batch_tokens", "is no multiple of seq_len = 64.", "train.seq_len"),  # one beside it
        ("train.seq_len", "exceeds model.max_positions", "model.max_positions"),  # one elsewhere
        ("data.validation", "has two sets named 'x'", "data.validation[1].name"),  # a part of it
        ("pool[0].name", "is pool[1].name already", "pool[1].name"),
        ("link[0].between", "names 'a', which is no pool.name", "pool[3].name"),  # any pool's
        ("pool[1].currency", "set money.rates.USD", "money.rates"),  # all of a table that it is in
    ],
)
def test_a_misfit_is_about_the_keys_that_it_names(key: str, what: str, stand_in: str):
    assert is_about(key, what, {stand_in, "other.key"})


@pytest.mark.parametrize(
    ("key", "what", "stand_in"),
    [
        ("train.batch_tokens", "is no multiple of seq_len = 64", "model.seq_len"),
        ("pool[0].count", "is bad", "pool[1].count"),
        ("pool[0].name", "is pool[1].name already", "pool[2].name"),
        ("pool[0].spot", "needs failures_per_device_day", "pool[1].failures_per_device_day"),
        ("train.tokens", "is bad", "train.tokens_more"),
    ],
)
def test_a_misfit_is_not_about_keys_of_other_entries_and_tables(key: str, what: str, stand_in: str):
    assert not is_about(key, what, {stand_in})


def test_a_key_that_is_missing_in_an_entry_is_sent_to_its_array():
    tables = {"model": {"preset": "ling-lite"}, "train": {"tokens": "1M"}, "data": {"validation": [{"name": "a"}]}}

    _, (problem,) = parse_run(tables)

    assert (problem.key, problem.hint) == ("data.validation[0].sources", "add sources to [[data.validation]]")


@pytest.mark.parametrize("table", ["run", "model", "data", "train", "optim", "checkpoint", "money"])
def test_a_table_that_is_none_is_one_problem(table: str):
    tables = {"model": {"preset": "ling-lite"}, "train": {"tokens": 1_000_000}, table: 3}

    run, problems = parse_run(tables)

    assert run is None
    assert [problem.key for problem in problems] == [table]
