"""The shape that a sum of money buys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.planner.shape.shape import Shape
from everyflop.planner.shape.spend import Taken, best_shape, largest

compute = st.floats(3e19, 2e25)


def bought(flop: float) -> Taken:
    """A budget that buys so many FLOP, in whatever shape."""
    return lambda shape: shape.compute / flop


def dearer_with_large_batches(flop: float) -> Taken:
    """A bill that jumps, as when a batch stops dividing well."""
    return lambda shape: shape.compute / flop * (1.3 if shape.batch_tokens > 4096 * 1700 else 1.0)


def fitting_up_to(active: float, flop: float) -> Taken:
    """Memory that holds models of so many active parameters."""
    return lambda shape: shape.compute / flop if shape.active <= active else None


@given(compute, compute)
def test_all_of_the_budget_is_spent_whatever_the_first_guess(flop, guess):
    shape = largest(bought(flop), n_experts=256, first_guess=guess)

    assert shape is not None
    assert 0.97 * flop < shape.compute <= flop


@given(compute, st.floats(1, 3))
def test_a_larger_budget_never_buys_a_smaller_model_or_a_shorter_run(flop, more):
    small, large = (largest(bought(f), n_experts=256, first_guess=1e22) for f in (flop, flop * more))

    assert small is not None
    assert large is not None
    assert small.active <= large.active
    assert small.compute <= large.compute * 1.01  # tokens come in whole batches


@given(st.floats(1e22, 1e23))
def test_a_bill_that_jumps_over_the_budget_ends_below_it(flop):
    taken = dearer_with_large_batches(flop)

    shape = largest(taken, n_experts=256, first_guess=flop)

    assert shape is not None
    assert 0.75 < (taken(shape) or 0) <= 1


@given(st.floats(1e9, 4e10), compute)
def test_where_memory_ends_it_the_largest_model_that_fits_is_trained(active, guess):
    shape = largest(fitting_up_to(active, 1e26), n_experts=256, first_guess=guess)

    assert shape is not None
    assert active / 1.5 < shape.active <= active


def test_few_runs_are_planned():
    asked: list[Shape] = []

    def counted(shape: Shape) -> float:
        asked.append(shape)
        return shape.compute**1.05 / 1e23**1.05

    assert largest(counted, n_experts=256, first_guess=4e22) is not None
    assert len(asked) <= 5


def test_without_a_plan_for_the_smallest_run_there_is_no_answer():
    assert largest(lambda _: None, n_experts=256, first_guess=1e23) is None
    assert largest(bought(1e18), n_experts=256, first_guess=1e23) is None
    assert best_shape(lambda _: None, first_guess=1e23) is None


@pytest.mark.parametrize("flop", [1e23, 1e25])
def test_the_cap_of_the_law_does_not_make_dense_shapes_the_best(flop):
    def dearer_with_more_experts(shape: Shape) -> float:
        return shape.compute / flop * (1 + shape.model.n_experts / 4e3)

    best = best_shape(dearer_with_more_experts, first_guess=flop)

    assert best is not None
    assert best.model.n_experts == 256  # at 1e25 FLOP 7 % active are cut at 7 as well


def test_numbers_of_experts_that_fit_nowhere_are_passed_over():
    def small_only(shape: Shape) -> float | None:
        return None if shape.model.n_experts > 128 else shape.compute / 1e23

    best = best_shape(small_only, first_guess=1e23)

    assert best is not None
    assert best.model.n_experts == 128
