from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.islands.stretch import LONGEST, stretch
from everyflop.optim.schedules import lr_at
from everyflop.spec.train import OptimSpec, TrainSpec

TRAIN = TrainSpec(tokens=1_000_000, seq_len=10, batch_tokens=1000)
"""1,000 steps."""

SCHEDULES: list[Any] = ["constant", "cosine", "linear", "ling-v1"]

OPTIMS = st.builds(
    OptimSpec,
    schedule=st.sampled_from(SCHEDULES),
    warmup_share=st.floats(0, 0.3),
    final_share=st.floats(0, 1),
)


def stretches(optim: OptimSpec, points: int = 1000) -> list[float]:
    return [stretch((2 * point + 1) * TRAIN.tokens // (2 * points), TRAIN, optim) for point in range(points)]


def test_at_a_constant_learning_rate_all_rounds_are_alike():
    assert set(stretches(OptimSpec(schedule="constant", warmup_share=0.1), 10)) == {1.0}


@given(OPTIMS)
def test_a_run_has_as_many_exchanges_as_with_rounds_that_are_all_alike(optim: OptimSpec):
    exchanges = sum(1 / found for found in stretches(optim))  # of rounds of one step on average

    assert exchanges == pytest.approx(1000, rel=0.01)  # the mean rate is taken over 200 points


@given(OPTIMS)
def test_rounds_never_get_shorter_as_the_learning_rate_falls_and_are_four_times_the_mean_at_most(optim: OptimSpec):
    found = stretches(optim, 50)

    assert all(after >= before for before, after in pairwise(found))
    assert max(found) <= LONGEST * (1 + 1 / LONGEST)


@given(OPTIMS, st.floats(0, 0.9))
def test_after_a_synchronous_start_it_is_the_mean_of_what_is_left(optim: OptimSpec, sync_share: float):
    begins, left = int(sync_share * TRAIN.tokens), int((1 - sync_share) * TRAIN.tokens)
    at = [begins + (2 * point + 1) * left // 2000 for point in range(1000)]
    exchanges = sum(1 / stretch(tokens, TRAIN, optim, sync_share=sync_share) for tokens in at)

    assert exchanges == pytest.approx(1000, rel=0.01)


def test_a_round_is_inverse_to_the_learning_rate():
    linear = OptimSpec(schedule="linear", warmup_share=0.0)

    assert stretch(500_000, TRAIN, linear) / stretch(0, TRAIN, linear) == pytest.approx(2.0)
    assert stretch(0, TRAIN, linear) == pytest.approx(0.5, rel=0.05)  # the mean rate is half the peak


def test_in_the_warm_up_rounds_are_as_short_as_at_its_end():
    optim = OptimSpec(schedule="linear", warmup_share=0.1)

    assert stretch(0, TRAIN, optim) == stretch(100_000, TRAIN, optim) < stretch(110_000, TRAIN, optim)


def measured_cost(optim: OptimSpec, lengths: list[float]) -> float:
    """What rounds of these lengths cost in learning: the sum of (learning rate) ** 1.5 times length."""
    tokens = [(2 * point + 1) * TRAIN.tokens // (2 * len(lengths)) for point in range(len(lengths))]
    how = {"batch_tokens": 0, "optim": optim, "peak_lr": 1.0, "total_tokens": TRAIN.tokens}
    return sum(lr_at(at, **how) ** 1.5 * length for at, length in zip(tokens, lengths, strict=True))


@pytest.mark.parametrize(("schedule", "saved"), [("cosine", 0.23), ("linear", 0.16), ("ling-v1", 0.08)])
def test_stretched_rounds_cost_less_in_learning_than_even_ones(schedule: Any, saved: float):
    optim = OptimSpec(schedule=schedule, warmup_share=0.0)
    stretched, even = measured_cost(optim, stretches(optim)), measured_cost(optim, [1.0] * 1000)

    assert stretched < (1 - saved) * even
