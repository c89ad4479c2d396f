import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.islands.rounds import (
    FOUR_OVER_TWO,
    Round,
    best_steps,
    is_synchronous,
    lost_s,
    penalty_of_rounds,
    plan_round,
    total_samples,
)
from everyflop.optim.batch import batch_tokens_at
from everyflop.spec.islands import IslandsSpec
from everyflop.spec.train import OptimSpec, TrainSpec

TRAIN = TrainSpec(tokens=10_000, seq_len=10, batch_tokens=100)
"""100 steps of 10 sequences."""

EVEN = OptimSpec(schedule="constant")
"""Rounds are not stretched."""

SPEEDS = {"a": 30.0, "b": 20.0}
"""Together 50 tokens/s: 2 s for a step."""


def planned(
    *, tokens_done: int = 5000, samples_left: int = 500, train: TrainSpec = TRAIN, last: Any = None, **how: Any
) -> Round:
    islands = IslandsSpec(**how)
    return plan_round(SPEEDS, train, EVEN, islands, tokens_done=tokens_done, samples_left=samples_left, last=last)


def test_gradients_are_exchanged_at_every_step_at_first():
    plan = planned(tokens_done=1490, sync_share=0.15)

    assert (plan.exchange, plan.steps, plan.seconds) == ("gradients", 1, None)


def test_weights_are_exchanged_after_the_synchronous_share_of_the_run():
    assert planned(tokens_done=1500, sync_share=0.15).exchange == "weights"


@pytest.mark.parametrize("sync_share", [0.0, 1.0])
def test_with_one_step_to_a_round_gradients_are_exchanged_for_the_whole_run(sync_share: float):
    assert is_synchronous(9_990, TRAIN, IslandsSpec(steps=1, sync_share=sync_share))


def test_without_a_synchronous_share_weights_are_exchanged_from_the_first_round():
    assert not is_synchronous(0, TRAIN, IslandsSpec(sync_share=0.0))


@pytest.mark.parametrize(("tokens_done", "steps"), [(0, 4), (4900, 8), (7400, 16), (9000, 10)])
def test_rounds_are_longer_where_the_learning_rate_is_low(tokens_done: int, steps: int):
    how, linear = IslandsSpec(steps=8, sync_share=0.0), OptimSpec(schedule="linear", warmup_share=0.0)
    left = (TRAIN.tokens - tokens_done) // TRAIN.seq_len
    plan = plan_round(SPEEDS, TRAIN, linear, how, tokens_done=tokens_done, samples_left=left)

    assert plan.steps == steps  # 8 on average; the last round has what is left


def test_rounds_of_so_many_seconds_are_alike_whatever_the_learning_rate():
    how, linear = IslandsSpec(round_s=20.0, sync_share=0.0), OptimSpec(schedule="linear")
    lengths = [
        plan_round(SPEEDS, TRAIN, linear, how, tokens_done=done, samples_left=500).steps for done in (2000, 5000, 8000)
    ]

    assert lengths == [10, 10, 10]


def commit(**lost_s: float) -> dict[str, Any]:
    """A commit after a round of 1 s of training; `joined` had no exchange before it."""
    times = {name: {"train_s": 1.0, "round_s": 1.0 + (name == "joined") * lost} for name, lost in lost_s.items()}
    return {"members": {name: {"lost_s": lost, "steps": 1, **times[name]} for name, lost in lost_s.items()}}


@pytest.mark.parametrize("exchange_s", [0.01, 0.1, 1.0, 30.0])
def test_steps_by_themselves_are_those_that_lose_least_to_exchange_and_to_learning_apart(exchange_s: float):
    def lost(steps: int) -> float:
        return exchange_s / (steps * 2.0) + penalty_of_rounds(2, 0.0) * steps / 100  # of 100 steps of 2 s

    steps = planned(steps="auto", sync_share=0.0, last=commit(a=exchange_s, b=exchange_s)).steps

    assert lost(steps) == pytest.approx(min(lost(n) for n in range(2, 100)), rel=0.1)


def test_an_exchange_of_a_steps_time_is_worth_as_much_as_it_saves():
    assert best_steps(1.0, 1.0, 10_000, 7.4) == 37  # one in 37 is 2.7 %, and so is 7.4 x 37 / 10,000


def test_learning_apart_costs_more_with_every_doubling_of_islands_and_without_a_start():
    alone, two, four, eight = (penalty_of_rounds(islands, 0.2) for islands in (1, 2, 4, 8))

    assert alone == two < penalty_of_rounds(2, 0.0)
    assert four / two == pytest.approx(FOUR_OVER_TWO)
    assert eight / four == pytest.approx(FOUR_OVER_TWO)


def test_an_exchange_takes_what_it_took_the_island_that_did_nothing_else():
    assert lost_s(commit(leads_and_validated=60.0, other=0.2)) == 0.2
    assert lost_s(commit(joined=0.05, other=0.2)) == 0.2
    assert lost_s(None) == 0.0


def test_steps_by_themselves_are_stretched_where_the_learning_rate_is_low():
    linear, how = OptimSpec(schedule="linear", warmup_share=0.0), IslandsSpec(steps="auto")
    early, late = (
        plan_round(SPEEDS, TRAIN, linear, how, tokens_done=done, samples_left=10_000, last=commit(a=0.1)).steps
        for done in (0, 9000)
    )

    assert late == pytest.approx(8 * early, rel=0.25)  # half the mean, and four times of it


def test_a_batch_is_shared_out_by_speed():
    assert planned().shares == {"a": 6, "b": 4}


def test_an_island_of_few_sequences_takes_short_steps():
    assert [planned().reach(sequences) for sequences in (5, 1)] == pytest.approx([1.0, math.sqrt(0.2)])  # of 10


def test_an_island_that_joins_late_reaches_no_farther_than_the_schedule():
    assert planned().reach(100) == 1.0


def test_a_round_by_the_clock_lasts_as_long_as_its_steps_take_at_the_measured_speeds():
    plan = planned(steps=8)

    assert (plan.steps, plan.seconds) == (8, pytest.approx(16.0))


def test_a_round_of_so_many_seconds_has_the_steps_that_fit():
    plan = planned(round_s=9.0)

    assert (plan.steps, plan.seconds) == (4, pytest.approx(8.0))  # 4.5 steps, ties to even


def test_a_round_shorter_than_a_step_has_one_step_and_rings_when_it_said():
    plan = planned(round_s=0.5)

    assert (plan.steps, plan.seconds) == (1, 0.5)


def test_a_round_by_steps_has_no_bell():
    plan = planned(steps=8, rounds="steps")

    assert (plan.steps, plan.seconds) == (8, None)


@pytest.mark.parametrize(("samples_left", "steps"), [(500, 24), (240, 24), (70, 7), (14, 1), (3, 1)])
def test_the_last_round_is_as_short_as_what_is_left(samples_left: int, steps: int):
    assert planned(steps=24, rounds="steps", samples_left=samples_left).steps == steps


def test_the_last_round_rings_as_early_as_its_few_steps_allow():
    assert planned(steps=24, samples_left=30).seconds == pytest.approx(6.0)


def test_the_last_batch_is_as_small_as_what_is_left():
    plan = planned(samples_left=3)

    assert plan.sequences == sum(plan.shares.values()) == 3


def test_the_batch_is_that_of_the_warm_up():
    train = TrainSpec(tokens=10_000, seq_len=10, batch_tokens=100, batch_warmup_from=20, batch_warmup_tokens=1600)

    assert planned(tokens_done=800, train=train).sequences == 6  # halfway from 2 to 10


def test_a_round_by_steps_has_no_length_whatever_the_clock_would_have():
    plan = planned(steps=8, rounds="steps", round_s=1.0)

    assert (plan.steps, plan.seconds) == (8, None)


def test_a_round_by_steps_takes_exactly_its_samples():
    assert planned(steps=8, rounds="steps").holdings(500)["a"] == 48


def test_a_round_by_the_clock_takes_a_reserve_for_who_is_faster_than_thought():
    # 1.3 * 8 * 6 = 62.4, and a step more
    assert planned(steps=8).holdings(500)["a"] == 63 + 6


def test_without_samples_for_everybodys_reserve_all_there_are_go_out_by_shares():
    plan = planned(steps=8)  # shares 6 and 4, with reserves 69 and 46

    assert plan.holdings(115) == {"a": 69, "b": 46}
    assert plan.holdings(100) == {"a": 60, "b": 40}


@st.composite
def train_specs(draw: st.DrawFn) -> TrainSpec:
    """Return runs with and without a warm-up of the batch, which may be longer than the run."""
    seq_len, micro_batch = draw(st.integers(1, 7)), draw(st.sampled_from([None, 1, 3]))
    unit = seq_len * (micro_batch or 1)
    batch = draw(st.integers(1, 12))
    warm_up: dict[str, Any] = {}
    if draw(st.booleans()):
        warm_up = {"batch_warmup_from": draw(st.integers(1, batch)) * unit}
        warm_up["batch_warmup_tokens"] = draw(st.integers(1, 3000))
    tokens = draw(st.integers(batch * unit, 3000 + batch * unit))
    return TrainSpec(tokens=tokens, seq_len=seq_len, micro_batch=micro_batch, batch_tokens=batch * unit, **warm_up)


@given(train_specs())
def test_islands_use_as_many_samples_as_one_process_alone(train: TrainSpec):
    done = 0
    while done + batch_tokens_at(done, train) <= train.tokens:
        done += batch_tokens_at(done, train)

    assert total_samples(train) == done // train.seq_len


def test_a_run_of_trillions_of_tokens_is_counted_at_once():
    train = TrainSpec(tokens=20 * 10**12, seq_len=4096, batch_tokens=4096 * 4096)

    assert total_samples(train) == 20 * 10**12 // 4096**2 * 4096


@given(train=train_specs(), steps=st.integers(1, 9), rounds=st.sampled_from(["clock", "steps"]))
def test_rounds_that_use_what_they_plan_end_with_the_last_sample(train: TrainSpec, steps: int, rounds: Any):
    how = IslandsSpec(steps=steps, rounds=rounds)
    total = total_samples(train)
    used = n_rounds = 0
    while used < total:
        plan = plan_round(SPEEDS, train, EVEN, how, tokens_done=used * train.seq_len, samples_left=total - used)
        assert sum(plan.shares.values()) == plan.sequences
        used += min(plan.steps * plan.sequences, total - used)
        n_rounds += 1

    first = batch_tokens_at(0, train) // train.seq_len
    assert n_rounds <= math.ceil(total / first) + 1
