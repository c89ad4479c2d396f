import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from everyflop.islands.codec import AT_ONCE
from everyflop.islands.merge import OuterStep, Work, coefficients, mean_steps, norm, reach, token_shares, weighted_sum

UNEQUAL = {"fast": Work(tokens=300, steps=6), "slow": Work(tokens=100, steps=2)}
"""Equal batches of 50 tokens; one island is three times as fast."""


def test_a_share_is_an_islands_tokens_over_all():
    assert token_shares(UNEQUAL) == {"fast": 0.75, "slow": 0.25}


def test_the_steps_of_a_round_are_the_mean_by_tokens():
    assert mean_steps(UNEQUAL) == 5.0  # 0.75 * 6 + 0.25 * 2


def test_by_steps_speed_does_not_count_twice():
    # 5 * 0.75 / 6 and 5 * 0.25 / 2: equal batches weigh the same for each step
    assert coefficients(UNEQUAL, "steps") == pytest.approx({"fast": 0.625, "slow": 0.625})


def test_by_tokens_the_fast_island_counts_for_more():
    assert coefficients(UNEQUAL, "tokens") == {"fast": 0.75, "slow": 0.25}


def test_by_steps_islands_of_equal_steps_weigh_by_their_batches():
    work = {"large": Work(tokens=300, steps=4), "small": Work(tokens=100, steps=4)}

    assert coefficients(work, "steps") == pytest.approx({"large": 0.75, "small": 0.25})


@pytest.mark.parametrize("rule", ["tokens", "steps"])
def test_equal_work_gives_the_plain_mean(rule: str):
    work = {name: Work(tokens=64, steps=4) for name in "abcd"}

    assert coefficients(work, rule) == pytest.approx(dict.fromkeys("abcd", 0.25))


@given(st.lists(st.tuples(st.integers(1, 10**9), st.integers(1, 1000)), min_size=1, max_size=8))
def test_by_steps_equal_moves_of_each_step_add_up_to_the_steps_of_the_round(work: list[tuple[int, int]]):
    # If every step of every island moves the weights by 1, the merged move is tau: nothing is counted twice or lost.
    done = {str(number): Work(*one) for number, one in enumerate(work)}
    moved = sum(factor * done[name].steps for name, factor in coefficients(done, "steps").items())

    assert moved == pytest.approx(mean_steps(done))


def test_a_weighted_sum_is_rounded_after_every_product_and_every_sum():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(1000).astype(np.float32) for _ in range(3)]
    factors = [0.1, 0.3, 0.6]
    expected = []
    for numbers in zip(*arrays, strict=True):
        products = [np.float32(number * np.float32(factor)) for number, factor in zip(numbers, factors, strict=True)]
        expected.append(np.float32(np.float32(products[0] + products[1]) + products[2]))

    merged = weighted_sum(list(zip(factors, arrays, strict=True)))

    assert merged.dtype == np.float32
    assert merged.tobytes() == np.array(expected).tobytes()


def test_a_weighted_sum_leaves_its_parts_alone():
    first = np.ones(3)
    weighted_sum([(0.5, first), (0.5, np.ones(3))])

    assert first.tolist() == [1, 1, 1]


def test_a_weighted_sum_of_fp64_stays_fp64():
    assert weighted_sum([(0.1, np.ones(1)), (0.2, np.ones(1))])[0] == 0.1 + 0.2


@pytest.mark.parametrize(("lr", "momentum"), [(0.7, 0.9), (1.0, 0.5), (0.4, 0.0)])
def test_the_outer_step_is_that_of_nesterov_sgd_on_the_merged_update(lr: float, momentum: float):
    rng = np.random.default_rng(1)
    anchor = rng.standard_normal(50).astype(np.float32)
    parameter = torch.nn.Parameter(torch.from_numpy(anchor.copy()))
    sgd = torch.optim.SGD([parameter], lr=lr, momentum=momentum, nesterov=momentum > 0)
    outer = OuterStep(lr, momentum)
    for _ in range(6):
        merged = rng.standard_normal(50).astype(np.float32)
        parameter.grad = torch.from_numpy(merged.copy())
        sgd.step()
        anchor = outer.apply(anchor, merged)

    # fp32 with a few roundings in each of six rounds
    np.testing.assert_allclose(anchor, parameter.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_plain_averaging_lands_exactly_on_anchor_minus_update():
    anchor, merged = np.array([1.0, 0.1], dtype=np.float32), np.array([0.25, 0.3], dtype=np.float32)
    outer = OuterStep(lr=1.0, momentum=0.0)

    assert outer.apply(anchor, merged).tobytes() == (anchor - merged).tobytes()
    assert outer.buffer is None


def test_the_first_momentum_is_the_update_itself_and_not_the_callers_array():
    merged = np.array([1.0], dtype=np.float32)
    outer = OuterStep(lr=1.0, momentum=0.5)
    moved = outer.apply(np.zeros(1, dtype=np.float32), merged)
    merged += 1

    assert moved.tolist() == [-1.5]
    assert outer.buffer is not None
    assert outer.buffer.tolist() == [1.0]


def test_a_norm_is_that_of_fp64_however_large_the_numbers():
    flat = np.full(4, 3e38, dtype=np.float32)  # whose squares no fp32 holds

    assert norm(flat) == pytest.approx(6e38, rel=1e-6)


def test_a_norm_counts_every_number_of_a_long_array():
    assert norm(np.ones(10**6, dtype=np.float32)) == 1000.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_norm_tells_of_a_single_number_that_is_not_finite(bad: float):
    flat = np.ones(10**6, dtype=np.float32)
    flat[-1] = bad

    assert not math.isfinite(norm(flat))


@pytest.mark.parametrize("n", [AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 2 * AT_ONCE + 1025])
def test_a_long_sum_is_that_of_its_numbers(n: int):
    rng = np.random.default_rng(n)
    one, other = (rng.standard_normal(n).astype(np.float32) for _ in range(2))

    total = weighted_sum([(0.3, one), (0.7, other)])

    assert total.tobytes() == (one * np.float32(0.3) + other * np.float32(0.7)).tobytes()


def test_short_steps_count_as_whole():
    short = {"large": Work(10, 8), "middle": Work(5, 8, reach(5 / 16, 3)), "small": Work(1, 8, reach(1 / 16, 3))}
    factors = coefficients(short, "steps")

    assert {name: factor * short[name].reach for name, factor in factors.items()} == pytest.approx(token_shares(short))


def test_an_island_left_alone_moves_the_anchor_to_where_it_is():
    assert coefficients({"small": Work(8, 8, reach(1 / 16, 2))}, "steps") == {"small": 1.0}


@given(shares=st.lists(st.integers(1, 100), min_size=1, max_size=8))
def test_no_island_strays_farther_than_one_with_an_equal_share(shares: list[int]):
    equal = sum(shares) / len(shares)

    for share in shares:
        strays = reach(share / sum(shares), len(shares)) ** 2 / share
        assert strays == pytest.approx(1 / max(share, equal))
