from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from everyflop.spec.exchange import MEASURED, STARTS, ExchangeSpec

BENCH = Path(__file__).resolve().parents[2] / "bench"


BEST = {2: {4: "h4-1k", 8: "h8-lr1-1k", 24: "h24-1k"}, 4: {4: "h4-m4-1k", 8: "h8-m4-1k"}}
"""The runs of each number of islands and mean number of steps in a round, at the learning rate best for them."""


@pytest.mark.parametrize(("islands", "steps"), [(n, steps) for n in MEASURED for steps in MEASURED[n] if steps > 1])
def test_the_penalty_is_that_of_the_runs_on_record(monkeypatch, islands, steps):
    monkeypatch.syspath_prepend(str(BENCH))
    import islands_quality

    each = [one["penalty"] for one in islands_quality.penalties(BEST[islands][steps], islands_quality.curves())]
    spec = ExchangeSpec(steps_between_exchanges=steps, max_islands=2)

    assert spec.extra_tokens(islands) == pytest.approx(fmean(each), abs=0.001)


def test_between_steps_that_were_measured_the_penalty_is_interpolated():
    spec = ExchangeSpec(steps_between_exchanges=16, max_islands=2)

    assert spec.extra_tokens(2) == pytest.approx((MEASURED[2][8] + MEASURED[2][24]) / 2)


@pytest.mark.parametrize(("steps", "known"), [(8, 4), (9, 2), (24, 2), (25, 1)])
def test_more_islands_are_known_for_shorter_rounds(steps, known):
    assert ExchangeSpec(steps_between_exchanges=steps, max_islands=1).known_islands == known


def test_exchanges_rarer_than_any_that_were_measured_need_a_table_of_ones_own():
    steps = max(MEASURED[2]) + 1

    with pytest.raises(ValidationError, match="write your own extra_tokens_share"):
        ExchangeSpec(steps_between_exchanges=steps)
    own = ExchangeSpec(steps_between_exchanges=steps, extra_tokens_share={4: 0.2})
    assert own.extra_tokens(4) == pytest.approx(0.2)
    assert ExchangeSpec(steps_between_exchanges=steps, max_islands=1).known_islands == 1


def test_a_synchronous_start_saves_what_it_did_in_the_runs_on_record(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import islands_quality

    [start] = [share for share in STARTS if share]
    curves = islands_quality.curves()
    after_start, without = (
        {one["seed"]: one["penalty"] for one in islands_quality.penalties(name, curves)}
        for name in ("h8-start-lr1-1k", BEST[2][8])
    )
    paired = fmean(after_start[seed] for seed in without) / fmean(without.values())

    assert islands_quality.ARMS["h8-start-lr1-1k"]["how"]["sync_share"] == start
    assert pytest.approx(paired, abs=0.01) == STARTS[start]
    spec = ExchangeSpec(steps_between_exchanges=8, sync_share=start)
    assert spec.extra_tokens(2) == pytest.approx(MEASURED[2][8] * STARTS[start])


def test_a_longer_start_than_any_that_was_measured_brings_nothing():
    assert ExchangeSpec(sync_share=0.5).extra_tokens(2) == ExchangeSpec(sync_share=max(STARTS)).extra_tokens(2)


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
    stated = ExchangeSpec(steps_between_exchanges=8).assumption

    assert stated.extra_tokens_share == {"1": 0.0, "2": 0.067, "3": pytest.approx(0.1623, abs=1e-4), "4": 0.23}
    assert "bench/islands_quality.py" in stated.source


def test_a_plan_says_whose_a_penalty_is():
    table = {2: 0.01, 4: 0.02}

    assert ExchangeSpec(extra_tokens_share=table).assumption.source == "the fleet file"
    assert ExchangeSpec(extra_tokens_share=table, source="our runs").assumption.source == "our runs"
