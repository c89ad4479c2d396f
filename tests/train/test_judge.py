import math

import pytest

from everyflop.base.errors import ExpectedNo
from everyflop.train.judge import MOST_SKIPPED_IN_A_ROW, fault, refuse_divergence
from everyflop.train.state import Progress


def skipped(in_a_row: int) -> Progress:
    return Progress(skipped_in_a_row=in_a_row, ledger=[{"cause": "loss is nan"}] * in_a_row)


@pytest.mark.parametrize(("loss", "grad_norm"), [(3.2, 1.0), (0.0, 0.0), (1e30, 1e30)])
def test_finite_steps_are_applied_however_large(loss, grad_norm):
    assert fault(loss, grad_norm) is None


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_a_fault(loss):
    assert fault(loss, 1.0) == f"loss is {loss}"


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_a_fault_although_the_loss_is(norm):
    assert fault(2.0, norm) == f"gradient norm is {norm}"


def test_a_few_skipped_steps_in_a_row_are_bad_luck():
    refuse_divergence(skipped(MOST_SKIPPED_IN_A_ROW - 1))


def test_more_skipped_steps_in_a_row_are_divergence_with_cause_and_advice():
    with pytest.raises(ExpectedNo, match=r"5 steps in a row .*\(loss is nan\).*lower optim\.lr"):
        refuse_divergence(skipped(MOST_SKIPPED_IN_A_ROW))
