import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from everyflop.spec.presets import preset_names
from everyflop.spec.read import parse_run
from everyflop.spec.run import RunSpec

RUNS: dict[str, dict[str, Any]] = {
    "preset": {"model": {"preset": "ling-flash-2.0"}, "train": {"tokens": "20T"}},
    "weights alone": {"model": {"init_from": "hf"}, "train": {"tokens": 5000}},
    "preset and weights": {"model": {"preset": "olmoe-1b-7b", "init_from": "hf"}, "train": {"tokens": "1B"}},
    "everything": {
        "run": {"name": "a.b-c", "seed": 2**62, "out_dir": "elsewhere", "threads": 2},
        "model": {"preset": "deepseek-v3", "n_mtp_layers": 1, "mtp_loss_weight": 0.1},
        "data": {
            "sources": ["a.txt", {"path": "b*.jsonl", "weight": 0.25, "licence": "CC0"}],
            "validation": [{"name": "v", "sources": "c.parquet"}],
            "tokenizer": "t.json",
            "prepared_dir": "cache",
        },
        "train": {"tokens": 1e9, "batch_tokens": 8192, "batch_warmup_from": 4096, "batch_warmup_tokens": "1M"},
        "optim": {"lr": 3e-4, "schedule": "ling-v1", "betas": [0.8, 0.9]},
        "router": {"balance_loss": 0.015, "noise_warmup_steps": 10},
        "checkpoint": {"every_steps": 5, "keep": 1},
        "money": {"currency": "CNY", "price_per_device_hour": 4.5, "example": True},
    },
}


def parsed(tables: dict[str, Any]) -> RunSpec:
    run, problems = parse_run(tables)
    assert run is not None, problems
    return run


@pytest.mark.parametrize("tables", RUNS.values(), ids=RUNS)
def test_a_run_written_as_a_file_and_read_again_is_the_same(tables: dict[str, Any]):
    run = parsed(tables)

    text = tomli_w.dumps(run.to_tables())

    assert parsed(tomllib.loads(text)) == run


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_survives_the_round_trip(name: str):
    run = parsed({"model": {"preset": name}, "train": {"tokens": "1T"}})

    assert parsed(run.to_tables()) == run


def test_a_resolved_run_names_no_preset_so_that_a_changed_preset_cannot_change_it():
    model = parsed(RUNS["preset"]).to_tables()["model"]

    assert "preset" not in model
    assert model["hidden"] == 4096


def test_parsing_leaves_the_callers_tables_alone():
    tables = {"model": {"preset": "ling-lite"}, "train": {"tokens": "1M"}}

    parse_run(tables)

    assert tables == {"model": {"preset": "ling-lite"}, "train": {"tokens": "1M"}}


def test_the_run_directory_is_its_name_in_out_dir_and_prepared_data_lies_beside_it():
    run = parsed(RUNS["preset"] | {"run": {"name": "a", "out_dir": "out"}})

    assert run.dir == Path("out/a")
    assert run.prepared_dir == Path("out/prepared")


def test_prepared_data_goes_where_it_is_told():
    assert parsed(RUNS["everything"]).prepared_dir == Path("cache")


@pytest.mark.parametrize(
    ("table", "key", "largest", "refused"),
    [
        ("train", "tokens", 2**63 - 1, 2**63),
        ("checkpoint", "every_steps", 2**63 - 1, 2**63),
        ("run", "threads", 4096, 4097),
        ("data", "tokenizer", "t", ""),
        ("data", "validation", [{"name": "v.1-a_b", "sources": "c"}], [{"name": "..", "sources": "c"}]),
        ("data", "validation", [{"name": "9", "sources": "c"}], [{"name": "-v", "sources": "c"}]),
    ],
)
def test_values_are_taken_up_to_their_limit_and_refused_past_it(table: str, key: str, largest: Any, refused: Any):
    tables = {**RUNS["preset"], "train": {"tokens": "1M", "batch_tokens": 512}}

    parsed({**tables, table: {**tables.get(table, {}), key: largest}})
    _, problems = parse_run({**tables, table: {**tables.get(table, {}), key: refused}})
    assert [problem.key.startswith(f"{table}.{key}") for problem in problems] == [True]


def test_compiled_code_cannot_have_another_devices_numerics():
    tables = {**RUNS["preset"], "island": [{"name": "a"}, {"name": "b", "numerics": "split"}]}

    run, problems = parse_run(tables)

    assert run is None
    assert [problem.key for problem in problems] == ["train.compile"]
    assert parsed({**tables, "train": {"tokens": "20T", "compile": "off"}}).island[1].simulated
