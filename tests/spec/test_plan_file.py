import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.base.errors import InvalidFile, UsageError
from everyflop.spec.plan import Plan
from everyflop.spec.plan_file import read_plan, write_plan

SPREAD = {"p10": 0.9, "p50": 1.0, "p90": 1.1}
ISLAND = {
    "name": "a",
    "pool": "a",
    "device": "h100-sxm",
    "devices": 8,
    "layout": {"ep": 8, "dp": 8, "sharding": "zero3", "micro_batch": 2},
    "micro_batch": 2,
    "batch_seqs": 64,
    "tokens_per_s": SPREAD,
    "goodput_share": 0.97,
    "share": 1.0,
    "price_per_device_hour": 2.5,
    "cost": SPREAD,
    "cost_per_ttoken": SPREAD,
    "mfu": 0.4,
    "mem_gib": {"weights": 20.0},
    "mem_limit_gib": 70.0,
    "step_s": {"matmul": 1.5},
    "basis": "fitted",
}
TOTAL = {
    "tokens_per_s": SPREAD,
    "days": SPREAD,
    "cost": SPREAD,
    "cost_per_ttoken": SPREAD,
    "devices": 8,
    "token_efficiency": 1.0,
}
PLAN = {
    "schema": 1,
    "objective": "cost",
    "currency": "USD",
    "fleet": "fleet.toml",
    "workload": {
        "name": "tiny",
        "model": {
            "family": "ling-v2",
            "vocab_size": 320,
            "hidden": 64,
            "n_layers": 2,
            "n_heads": 4,
            "n_kv_heads": 2,
            "head_dim": 16,
            "n_experts": 8,
            "experts_per_token": 2,
            "expert_width": 32,
        },
        "tokens": 1_000_000,
        "seq_len": 128,
        "batch_tokens": 8192,
    },
    "limits": {},
    "recommended": "a",
    "why": "a is the only pool",
    "islands": [ISLAND],
    "total": TOTAL,
    "alternatives": [{"name": "a", "kind": "single", "islands": [ISLAND], "total": TOTAL, "meets_limits": True}],
    "exchange": {"steps_between": 24, "bytes_per_parameter": 2, "extra_tokens_share": {}, "source": "a law"},
    "launch": "everyflop train run.toml --plan plan.json",
}


@pytest.fixture
def body() -> dict[str, Any]:
    return json.loads(json.dumps(PLAN))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "plan.json"


def problems_in(body: object, file: Path) -> dict[str, str]:
    """Return what is said about each key of a plan file with this content."""
    file.write_text(json.dumps(body))
    with pytest.raises(InvalidFile) as caught:
        read_plan(file)
    return {problem.key: problem.found for problem in caught.value.problems}


def test_what_is_written_is_read_back(body, file):
    plan = Plan.model_validate(body)

    write_plan(file, plan)

    assert read_plan(file) == plan


def test_the_file_says_its_schema_and_has_the_names_that_others_rely_on(body, file):
    write_plan(file, Plan.model_validate(body))

    written = json.loads(file.read_text())
    assert written["schema"] == 1
    assert {"objective", "islands", "total", "alternatives"} <= set(written)
    assert {"pool", "devices", "layout", "micro_batch", "tokens_per_s", "cost"} <= set(written["islands"][0])
    assert set(written["total"]["cost"]) == {"p10", "p50", "p90"}


def test_the_same_plan_is_the_same_bytes(body, tmp_path):
    for name in ("one.json", "two.json"):
        write_plan(tmp_path / name, Plan.model_validate(body))

    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


@given(st.floats(min_value=1e-12, max_value=1e18))
def test_no_digit_of_a_figure_is_lost(tmp_path_factory, cost):
    file = tmp_path_factory.mktemp("plan") / "plan.json"
    body = {**PLAN, "total": {**TOTAL, "cost": {"p10": cost, "p50": cost, "p90": cost}}}

    write_plan(file, Plan.model_validate(body))

    assert read_plan(file).total.cost.p50 == cost


def test_a_missing_plan_says_which_command_writes_one(file):
    with pytest.raises(UsageError, match=r"cannot read the plan .*plan\.json.*everyflop plan"):
        read_plan(file)


def test_a_newer_schema_is_refused_whatever_else_it_holds(file):
    file.write_text(json.dumps({"schema": 2, "shape": "unknown today"}))

    with pytest.raises(UsageError, match="schema 2, and this everyflop reads plans up to schema 1") as caught:
        read_plan(file)
    assert not isinstance(caught.value, InvalidFile)


def test_every_problem_of_a_damaged_plan_is_named_at_once(body, file):
    del body["currency"]
    body["islands"][0]["devices"] = -8
    body["alternatives"][0]["islands"][0]["basis"] = "guessed"
    body["total"]["cost"]["p95"] = 3.0
    body["workload"]["batch_tokens"] = 1000

    found = problems_in(body, file)

    assert set(found) == {
        "currency",
        "islands[0].devices",
        "alternatives[0].islands[0].basis",
        "total.cost.p95",
        "workload",
    }
    assert found["currency"] == "is missing"
    assert found["islands[0].devices"].endswith("found -8")
    assert found["total.cost.p95"] == "is no known key"
    assert "1000 is not a multiple of seq_len = 128" in found["workload"]


def test_what_a_hand_changed_is_named_at_once_whatever_it_is(body, file):
    island, total = body["islands"][0], body["total"]
    del body["schema"]
    body |= {"recommended": "zzz", "currency": ""}
    island |= {"micro_batch": 4, "step_s": {"matmul": -1.0}}
    total["tokens_per_s"] = {"p10": 3.0, "p50": 2.0, "p90": 1.0}
    total["days"] = {"p10": 0.0, "p50": 0.0, "p90": 1.0}
    total["cost"] = {"p10": -1.0, "p50": 0.0, "p90": 1.0}

    found = problems_in(body, file)

    assert found["schema"] == "is missing"
    assert found["recommended"] == "'zzz' is no name in alternatives: a"
    assert found["islands[0].micro_batch"] == "is not layout.micro_batch = 2, found 4"
    assert found["total.tokens_per_s.p50"] == "is less than p10 = 3, found 2.0"
    assert {"currency", "islands[0].step_s.matmul", "total.days", "total.cost.p10"} <= set(found)
    assert "islands" not in found  # they are wrong, and there


def test_a_layout_needs_no_more_devices_than_its_island_has(body, file):
    body["islands"][0]["layout"]["tp"] = 2

    found = problems_in(body, file)

    assert list(found) == ["islands[0].layout"]
    assert "needs 16 devices, and the island has 8" in found["islands[0].layout"]


def test_the_ends_of_an_interval_lie_around_its_middle(body, file):
    body["total"]["cost"] = {"p10": 1.0, "p50": 2.0, "p90": 1.5}

    assert problems_in(body, file) == {"total.cost.p90": "is less than p50 = 2, found 1.5"}


def test_a_layout_may_leave_devices_idle(body, file):
    body["islands"][0]["devices"] = 9
    write_plan(file, Plan.model_validate(body))

    assert read_plan(file).islands[0].layout.devices == 8


@pytest.mark.parametrize("place", ["islands", "alternatives"])
def test_a_plan_without_islands_or_alternatives_is_none(body, file, place):
    body[place] = []

    assert {"islands": "islands", "alternatives": "recommended"}[place] in problems_in(body, file)


def test_a_torn_plan_is_refused_with_the_line_where_it_ends(body, file):
    write_plan(file, Plan.model_validate(body))
    text = file.read_text()
    file.write_text(text[: len(text) // 2])

    with pytest.raises(InvalidFile) as caught:
        read_plan(file)
    (problem,) = caught.value.problems
    assert (problem.key, problem.line) == ("JSON", text[: len(text) // 2].count("\n") + 1)


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe{}", b"[1, 2]", b'"plan"', b"", b"schema = 1", b"[" * 100_000, b'{"schema": ' + b"9" * 5000 + b"}"],
)
def test_what_is_no_plan_at_all_is_refused_without_a_traceback(content, file):
    file.write_bytes(content)

    with pytest.raises(InvalidFile, match="everyflop plan"):
        read_plan(file)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "true", '"cheap"', "null", "[]"])
def test_a_figure_that_is_no_number_is_refused(body, file, value):
    file.write_text(json.dumps(body).replace('"mfu": 0.4', f'"mfu": {value}'))

    with pytest.raises(InvalidFile, match=re.escape("islands[0].mfu")):
        read_plan(file)


def test_a_long_value_is_quoted_in_short(body, file):
    body["total"] = ["x" * 500]

    assert len(problems_in(body, file)["total"]) < 200


def test_one_island_trains_the_workloads_tokens_also_where_they_are_no_whole_batches(body):
    plan = Plan.model_validate(body)
    alone = plan.total.model_copy(update={"token_efficiency": 1.0})

    assert plan.model_copy(update={"total": alone}).trained_tokens == plan.workload.tokens


@pytest.mark.parametrize(("extra", "batches"), [(0.1, 110), (0.101, 111), (1 / 3, 134)])
def test_tokens_that_several_islands_need_more_are_whole_batches(body, extra, batches):
    plan = Plan.model_validate(body)
    workload = plan.workload.model_copy(update={"batch_tokens": 1000, "tokens": 100_000})
    total = plan.total.model_copy(update={"token_efficiency": 1 / (1 + extra)})

    assert plan.model_copy(update={"workload": workload, "total": total}).trained_tokens == batches * 1000


@pytest.mark.parametrize(
    ("sent", "compress"),
    [(8, "fp32"), (4, "fp32"), (3, "bf16"), (2, "bf16"), (1, "int8"), (0.5, "int4"), (0.1, "int4")],
)
def test_updates_travel_as_the_widest_type_that_sends_no_more_than_assumed(body, sent, compress):
    plan = Plan.model_validate(body)
    exchange = plan.exchange.model_copy(update={"bytes_per_parameter": sent})

    assert plan.model_copy(update={"exchange": exchange}).compress == compress
