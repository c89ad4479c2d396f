from math import exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from everyflop.spec.exchange import EXTRA_TOKENS_SHARE, ExchangeSpec


def test_the_default_penalty_is_that_of_the_largest_published_model():
    loss_4_replicas, loss_data_parallel = 2.096, 2.090  # 10B, arXiv 2503.09799
    tokens_exponent = 0.0985 / 2

    extra = exp(log(loss_4_replicas / loss_data_parallel) / tokens_exponent) - 1

    assert EXTRA_TOKENS_SHARE[4] == pytest.approx(extra, abs=0.005)
    assert ((1 + extra) ** 0.5 - 1, (1 + extra) ** 1.5 - 1) == pytest.approx((0.03, 0.09), abs=0.005)


def test_one_island_needs_no_extra_tokens():
    assert ExchangeSpec().extra_tokens(1) == 0


def test_islands_that_exchange_gradients_each_step_need_no_extra_tokens():
    assert ExchangeSpec(steps_between_exchanges=1).extra_tokens(8) == 0


def test_numbers_between_two_entries_are_interpolated_over_doublings():
    spec = ExchangeSpec(extra_tokens_share={2: 0.1, 8: 0.3})

    assert spec.extra_tokens(2) == pytest.approx(0.1)
    assert spec.extra_tokens(4) == pytest.approx(0.2)  # half way: one of two doublings
    assert spec.extra_tokens(8) == pytest.approx(0.3)


def test_a_table_may_start_above_two_islands():
    assert ExchangeSpec(extra_tokens_share={4: 0.2}).extra_tokens(2) == pytest.approx(0.1)


def test_nothing_is_said_about_more_islands_than_the_table_knows():
    with pytest.raises(ValueError, match="no penalty is known for 9 islands"):
        ExchangeSpec().extra_tokens(9)


def test_more_islands_than_the_table_knows_cannot_be_asked_for():
    with pytest.raises(ValidationError, match="max_islands 9 exceeds 8"):
        ExchangeSpec(max_islands=9)


@pytest.mark.parametrize("table", [{}, {1: 0.0}, {2: -0.1}, {2: 10}, {"two": 0.1}, {4: 0.01, 2: 0.03}])
def test_a_table_that_makes_no_sense_is_refused(table: dict):
    with pytest.raises(ValidationError, match="extra_tokens_share"):
        ExchangeSpec(extra_tokens_share=table, max_islands=1)


@given(st.dictionaries(st.integers(2, 64), st.floats(0, 5), min_size=1), st.integers(1, 64))
def test_every_penalty_lies_between_those_of_its_neighbours_in_the_table(table: dict[int, float], islands: int):
    table = dict(zip(sorted(table), sorted(table.values()), strict=True))
    islands = min(islands, max(table))
    known = {1: 0.0, **table}
    below, above = (max(n for n in known if n <= islands), min(n for n in known if n >= islands))

    extra = ExchangeSpec(extra_tokens_share=table, max_islands=1).extra_tokens(islands)

    assert min(known[below], known[above]) - 1e-9 <= extra <= max(known[below], known[above]) + 1e-9


def test_islands_exchange_as_often_as_somebody_has_tried():
    with pytest.raises(ValidationError, match="less than or equal to 2000"):
        ExchangeSpec(steps_between_exchanges=10**9)


def test_a_plan_states_the_assumption_for_every_number_of_islands():
    stated = ExchangeSpec().assumption

    assert stated.extra_tokens_share == {"1": 0.0, "2": 0.03, "3": pytest.approx(0.0475, abs=1e-4), "4": 0.06}
    assert "arXiv 2503.09799" in stated.source


def test_a_plan_says_whose_a_penalty_is():
    table = {2: 0.01, 4: 0.02}

    assert ExchangeSpec(extra_tokens_share=table).assumption.source == "the fleet file"
    assert ExchangeSpec(extra_tokens_share=table, source="our runs").assumption.source == "our runs"
