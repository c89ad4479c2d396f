"""The shape that a sum of money buys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.base.errors import ExpectedNo
from everyflop.planner.shape import Shape
from everyflop.planner.spend import affordable, best_shape


def one_price(shape: Shape) -> float:
    """A FLOP costs the same in every shape: 2e-17."""
    return shape.compute * 2e-17


def dearer_with_large_batches(shape: Shape) -> float:
    """A bill that jumps, as when a batch stops dividing well."""
    return one_price(shape) * (1.3 if shape.batch_tokens > 4096 * 1700 else 1.0)


@given(st.floats(1e5, 1e7), st.floats(0.1, 10))
def test_the_bill_is_the_budget_whatever_the_first_guess(budget, off):
    shape = affordable(budget, one_price, n_experts=256, first_guess=budget / 2e-17 * off)

    assert 0.99 * budget < one_price(shape) <= budget


@given(st.floats(1.5e5, 3e5))
def test_a_bill_that_jumps_over_the_budget_ends_below_it(budget):
    shape = affordable(budget, dearer_with_large_batches, n_experts=256, first_guess=budget / 2e-17)

    assert 0.99 * budget < dearer_with_large_batches(shape) <= budget


def test_where_leverage_is_cut_alike_fewer_experts_win():
    shape = best_shape(2e6, one_price, first_guess=1e23)  # 1e23 FLOP: 3.5 % active has 7 already

    assert shape.model.n_experts == 256


def test_numbers_of_experts_that_fit_nowhere_are_passed_over():
    def small_only(shape: Shape) -> float:
        if shape.model.n_experts > 128:
            raise ExpectedNo("no plan fits")
        return one_price(shape)

    assert best_shape(2e6, small_only, first_guess=1e23).model.n_experts == 128


def test_where_nothing_fits_the_planners_own_reason_is_given():
    def never(shape: Shape) -> float:
        raise ExpectedNo("no pool can train this model")

    with pytest.raises(ExpectedNo, match="no pool can train"):
        best_shape(2e6, never, first_guess=1e23)
