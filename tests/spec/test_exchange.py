import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from everyflop.spec.exchange import ExchangeSpec
from everyflop.spec.frontier import FRONTIER, MOST_STEPS, measured_extra_tokens


def test_the_penalty_is_what_was_measured_with_that_way_of_exchanging():
    spec = ExchangeSpec(steps_between_exchanges=6, sync_share=0.1)

    assert {n: spec.extra_tokens(n) for n in (2, 4)} == pytest.approx(measured_extra_tokens(6, 0.1))


@pytest.mark.parametrize(
    ("steps", "start", "known"), [(8, 0.2, 4), (9, 0.2, 2), (100, 0.2, 2), (8, 0.0, 4), (24, 0.0, 2), (25, 0.0, 1)]
)
def test_more_islands_are_known_for_shorter_rounds(steps: int, start: float, known: int):
    spec = ExchangeSpec(steps_between_exchanges=steps, sync_share=start, max_islands=1)

    assert spec.known_islands == known


def test_exchanges_rarer_than_any_that_were_measured_need_a_table_of_ones_own():
    steps = MOST_STEPS + 1

    with pytest.raises(ValidationError, match="write your own extra_tokens_share"):
        ExchangeSpec(steps_between_exchanges=steps)
    own = ExchangeSpec(steps_between_exchanges=steps, extra_tokens_share={4: 0.2})
    assert own.extra_tokens(4) == pytest.approx(0.2)
    assert ExchangeSpec(steps_between_exchanges=steps, max_islands=1).known_islands == 1


def ways(**said: object) -> set[tuple[int, float]]:
    return {(way.steps_between_exchanges, way.sync_share) for way in ExchangeSpec(**said).ways}


def test_a_plan_chooses_among_what_was_measured_as_far_as_the_file_leaves_it_open():
    usual = ExchangeSpec()
    every = {steps for by_islands in FRONTIER.values() for steps in by_islands[2]} - {1}

    assert usual.ways[0] == usual
    assert ways() == {(steps, start) for start in FRONTIER for steps in FRONTIER[start][2] if steps > 1}
    assert ways(sync_share=0.1) == {(steps, 0.1) for steps in every}
    assert ways(steps_between_exchanges=8) == {(8, start) for start in FRONTIER}
    assert ways(steps_between_exchanges=6, sync_share=0.1) == {(6, 0.1)}
    assert ways(steps_between_exchanges=1) == {(1, usual.sync_share)}


def test_a_table_of_ones_own_is_of_one_way_to_exchange():
    assert ways(extra_tokens_share={4: 0.1}) == {(8, ExchangeSpec().sync_share)}


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
    with pytest.raises(ValueError, match="no penalty is known for 5 islands"):
        ExchangeSpec().extra_tokens(5)


def test_more_islands_than_the_table_knows_cannot_be_asked_for():
    with pytest.raises(ValidationError, match=r"5 exceeds 4, the most .* every 8 steps: set max_islands = 4"):
        ExchangeSpec(max_islands=5)
    with pytest.raises(ValidationError, match=r"4 exceeds 2, the most .* every 24 steps: set max_islands = 2"):
        ExchangeSpec(steps_between_exchanges=24)
    with pytest.raises(ValidationError, match="9 exceeds 8, the largest number in extra_tokens_share"):
        ExchangeSpec(max_islands=9, extra_tokens_share={8: 0.1})


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
    stated = ExchangeSpec(steps_between_exchanges=8, sync_share=0.2).assumption

    assert stated.extra_tokens_share == {"1": 0.0, "2": 0.018, "3": pytest.approx(0.0338, abs=1e-4), "4": 0.045}
    assert "bench/islands_quality.py" in stated.source


def test_a_plan_says_whose_a_penalty_is():
    table = {2: 0.01, 4: 0.02}

    assert ExchangeSpec(extra_tokens_share=table).assumption.source == "the fleet file"
    assert ExchangeSpec(extra_tokens_share=table, source="our runs").assumption.source == "our runs"
