"""Sizes of a model that a line does not give."""

import pytest

from everyflop.planner.rows.cells import NUMBERS
from everyflop.planner.rows.sizes import filled_sizes

LLAMA_70B = {"layers": 80.0, "hidden": 8192.0, "heads": 64.0, "kv_heads": 8.0, "vocab": 128_256.0, "ffn": 28_672.0}


def filled(*, moe: bool = False, **cells: float | None):
    return filled_sizes({**dict.fromkeys(NUMBERS), **cells}, moe=moe)


def test_known_sizes_are_kept_without_a_word():
    cells, notes = filled(**LLAMA_70B)

    assert {name: cells[name] for name in LLAMA_70B} == LLAMA_70B
    assert notes == []


@pytest.mark.parametrize(("blank", "usual"), [("heads", 64), ("kv_heads", 64), ("vocab", 100_000), ("ffn", 4 * 8192)])
def test_a_blank_size_of_a_dense_model_is_the_usual_one_and_noted(blank, usual):
    cells, notes = filled(**{**LLAMA_70B, blank: None})

    assert cells[blank] == usual
    assert notes == [f"{blank} unknown, {usual:g} assumed"]


def test_the_width_of_experts_follows_from_the_parameters_that_a_token_does_not_meet():
    # DeepSeek-V2: 160 experts of 1,536 in 59 of its 60 layers
    cells, _ = filled(
        total_params_b=236.0, active_params_b=21.0, layers=60.0, hidden=5120.0, experts=160.0, topk=6.0, ffn=12_288.0
    )

    assert cells["expert_ffn"] == pytest.approx(1536, rel=0.02)


def test_without_parameters_experts_are_as_wide_as_the_feed_forward_column_says():
    cells, notes = filled(**LLAMA_70B, experts=8.0, topk=2.0)

    assert cells["expert_ffn"] == 28_672
    assert notes == ["expert_ffn unknown, 28672 assumed"]


@pytest.mark.parametrize(("experts", "chosen"), [(64.0, 8), (4.0, 4)])
def test_eight_experts_are_chosen_where_that_is_blank_and_there_are_as_many(experts, chosen):
    cells, _ = filled(**LLAMA_70B, experts=experts, expert_ffn=1024.0)

    assert cells["topk"] == chosen


@pytest.mark.parametrize("billions", [0.5, 8.0, 70.0, 400.0])
def test_a_model_of_which_only_parameters_are_known_has_about_as_many(billions):
    cells, notes = filled(total_params_b=billions)
    hidden, layers = cells["hidden"], cells["layers"]

    assert 12 * layers * hidden**2 == pytest.approx(billions * 1e9, rel=0.2)
    assert 50 <= hidden / layers <= 200
    assert notes[0] == "layers and widths unknown, usual proportions assumed"


def test_parameters_that_a_token_does_not_meet_are_experts():
    cells, _ = filled(total_params_b=290.0, active_params_b=28.8)
    experts = cells["layers"] * (cells["experts"] - cells["topk"]) * 3 * cells["hidden"] * cells["expert_ffn"]

    assert experts == pytest.approx((290 - 28.8) * 1e9, rel=0.01)


def test_a_model_of_which_nothing_is_known_has_ten_billion_parameters_and_says_so():
    assert filled()[1][0].endswith("assumed, 10 B parameters")


@pytest.mark.parametrize("sizes", [{}, {"layers": 94.0, "hidden": 4096.0}])
def test_a_line_that_says_moe_gets_experts_that_hold_what_a_token_does_not_meet(sizes):
    cells, notes = filled(moe=True, total_params_b=235.0, active_params_b=22.0, **sizes)
    idle = cells["experts"] - cells["topk"]

    assert 3 * cells["layers"] * cells["hidden"] * cells["expert_ffn"] * idle == pytest.approx(213e9, rel=0.05)
    assert notes


def test_of_an_moe_model_a_token_meets_a_tenth_where_only_the_total_is_known():
    cells, notes = filled(moe=True, total_params_b=235.0)

    assert cells["active_params_b"] == 23.5
    assert cells["experts"] > cells["topk"]
    assert "active_params_b unknown, 23.5 assumed" in notes
