from typing import Any

import pytest

from everyflop.islands.admission import agreed, differences

RUN: dict[str, Any] = {
    "seed": 1,
    "model": {"hidden": 32, "dense_layers": [0], "rope": {"base": 10_000.0}},
    "train": {"seq_len": 32, "precision": "fp32", "micro_batch": 4, "compile": "off", "recompute": "none"},
}


def test_the_same_facts_differ_in_nothing():
    assert differences(RUN, RUN) == []


def test_every_difference_is_told_with_both_values_in_the_order_of_names():
    joiner = {**RUN, "seed": 2, "model": {**RUN["model"], "hidden": 64}}

    assert differences(joiner, RUN) == ["model.hidden: 64 there, 32 in the run", "seed: 2 there, 1 in the run"]


def test_differences_are_found_in_tables_of_tables_and_in_lists():
    joiner = {**RUN, "model": {"hidden": 32, "dense_layers": [0, 1], "rope": {"base": 500_000.0}}}

    assert differences(joiner, RUN) == [
        "model.dense_layers: [0, 1] there, [0] in the run",
        "model.rope.base: 500000.0 there, 10000.0 in the run",
    ]


def test_what_only_one_side_has_is_a_difference():
    assert differences({**RUN, "digest": "ab"}, RUN) == ["digest: ab there, None in the run"]
    assert differences(RUN, {**RUN, "digest": "ab"}) == ["digest: None there, ab in the run"]


def test_islands_agree_on_how_they_merge_and_not_on_how_long_they_wait():
    run = {**RUN, "islands": {"outer_lr": 1.0, "heartbeat_s": 5.0}}

    assert differences({**run, "islands": {"outer_lr": 0.5, "heartbeat_s": 9.0}}, run) == [
        "islands.outer_lr: 0.5 there, 1.0 in the run"
    ]


@pytest.mark.parametrize(
    ("key", "value"), [("precision", "bf16"), ("micro_batch", 1), ("compile", "on"), ("recompute", "layer")]
)
def test_islands_may_differ_in_how_their_devices_compute(key: str, value: Any):
    assert differences({**RUN, "train": {**RUN["train"], key: value}}, RUN) == []


def test_what_the_coordinator_asks_comes_before_what_the_first_island_is():
    asked = {"seed": 5, "train": {"seq_len": 64}}

    assert differences(RUN, agreed(RUN, asked)) == [
        "seed: 1 there, 5 in the run",
        "train.seq_len: 32 there, 64 in the run",
    ]
    assert agreed(RUN, {}) == RUN
