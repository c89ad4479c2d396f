import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.islands.pace import StepTime, next_sequences


def known(*steps: tuple[int, float]) -> StepTime:
    step_time = StepTime()
    for sequences, seconds in steps:
        step_time.note(sequences, seconds)
    return step_time


def train_until(
    bell_s: float, share: int, *, fixed_s: float, each_s: float, noise: float = 0.0
) -> tuple[list[int], float]:
    """Return the sizes of a round's steps, and its length, on a device whose steps take fixed_s + each_s a sequence."""
    rng, now_s, sizes = random.Random(0), 0.0, []
    step_time = known((share, fixed_s + each_s * share))
    while sequences := next_sequences(step_time, bell_s - now_s, share):
        seconds = (fixed_s + each_s * sequences) * (1 + noise * rng.uniform(-1, 1))
        step_time.note(sequences, seconds)
        now_s += seconds
        sizes.append(sequences)
    return sizes, now_s


def test_before_steps_of_other_sizes_time_is_taken_to_be_proportional_to_sequences():
    step_time = known((8, 2.0))

    assert step_time.seconds(4) == pytest.approx(1.0)
    assert step_time.sequences(3.0) == pytest.approx(12.0)


def test_steps_of_several_sizes_show_what_is_fixed():
    step_time = known(*[(n, 1.0 + 0.5 * n) for n in (4, 8, 12) * 8])

    assert 11.0 < step_time.seconds(20) < 11.5  # 12.5 where time is proportional to sequences
    assert step_time.sequences(7.0) == pytest.approx(12.0, rel=0.02)


@given(st.lists(st.tuples(st.integers(1, 99), st.floats(0.01, 100)), min_size=1, max_size=30), st.floats(-1, 1e4))
def test_no_step_grows_far_beyond_the_share_whatever_times_were_measured(steps, left_s):
    share = steps[-1][0]

    assert 0 <= next_sequences(known(*steps), left_s, share) <= 2 * max(share, max(n for n, _ in steps)) + 1


def test_what_is_new_outweighs_what_is_old():
    step_time = known(*[(8, 1.0)] * 40, *[(8, 2.0)] * 20)

    assert step_time.seconds(8) == pytest.approx(2.0, rel=0.15)


@given(
    share=st.integers(2, 64),
    steps=st.floats(4, 40),
    fixed=st.floats(0, 2),
    noise=st.sampled_from([0.0, 0.05]),
)
def test_steps_end_at_the_bell_and_are_about_as_large_as_the_share(
    share: int, steps: float, fixed: float, noise: float
):
    fixed_s, each_s = fixed * share * 0.01, 0.01  # up to twice a share's own time
    usual_s = fixed_s + each_s * share
    sizes, took_s = train_until(steps * usual_s, share, fixed_s=fixed_s, each_s=each_s, noise=noise)

    assert len(sizes) == pytest.approx(steps, abs=1)
    # A step takes fixed_s however small it is, so what is left at last may be half of the smallest one; and how much of
    # a step is fixed is known only as well as sizes have differed.
    least_s = max(each_s, (fixed_s + each_s) / 2)
    assert took_s == pytest.approx(steps * usual_s, abs=least_s + 2 * noise * usual_s + 0.1 * usual_s * (fixed > 0))
    off = 0.5 * (1 + fixed) / (len(sizes) - 0.5)  # what is left after whole steps goes to all of them
    assert sum(sizes) / len(sizes) == pytest.approx(share, rel=off + noise * (1 + fixed), abs=1)


def test_steps_of_equal_size_would_miss_the_bell():
    taken = round(5.5 - 1e-9) * 1.0  # the negative control: the nearest number of equal steps is half a step off

    assert abs(taken - 5.5) == pytest.approx(0.5)
    assert train_until(5.5, 10, fixed_s=0.0, each_s=0.1)[1] == pytest.approx(5.5, abs=0.11)


def test_an_island_of_one_sequence_a_step_only_counts_its_steps():
    assert train_until(10.4, 1, fixed_s=0.0, each_s=1.0) == ([1] * 10, 10.0)


def test_no_step_is_begun_whose_larger_part_comes_after_the_bell():
    assert next_sequences(known((8, 2.0)), 0.9, 8) == 0
    assert next_sequences(known((8, 2.0)), 1.1, 8) == 4
    assert next_sequences(known((8, 2.0)), -3.0, 8) == 0


@pytest.mark.parametrize(("left_s", "sequences"), [(2.0, 8), (2.4, 8), (2.6, 12), (1.2, 4)])
def test_sizes_are_whole_units(left_s: float, sequences: int):
    assert next_sequences(known((8, 2.0)), left_s, 8, unit=4, last_unit=4) == sequences


def test_only_the_last_step_of_a_round_may_end_within_a_unit():
    assert next_sequences(known((8, 2.0)), 4.5, 8, unit=4) == 8
    assert next_sequences(known((8, 2.0)), 2.5, 8, unit=4) == 10
