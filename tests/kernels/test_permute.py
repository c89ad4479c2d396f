"""Tokens to rows and back against torch's own indexing, gradients included.

fp64 decides: sums of K products in another order.
"""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from everyflop.kernels.permute import reference_to_tokens, to_rows, to_tokens


@st.composite
def layouts(draw):
    """Tokens, copies, and rows for them, some of which hold nothing."""
    T, K, spare = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(0, 4))
    row = torch.tensor(draw(st.permutations(range(T * K + spare)))[: T * K])
    token_R = torch.zeros(T * K + spare, dtype=torch.int64).scatter_(0, row, torch.arange(T * K) // K)
    return token_R, row.view(T, K)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape)))


@given(layouts())
def test_rows_are_their_tokens(layout):
    token_R, place_TK = layout
    x_TD = normal(len(place_TK), 3)

    assert torch.equal(to_rows(x_TD, token_R, place_TK), x_TD[token_R])


@given(layouts())
def test_tokens_are_their_rows_weighted_and_summed(layout):
    token_R, place_TK = layout
    y_RD, weights_TK = normal(len(token_R), 3), normal(*place_TK.shape)

    found = to_tokens(y_RD, weights_TK, token_R, place_TK)

    torch.testing.assert_close(found, reference_to_tokens(y_RD, weights_TK, place_TK))


@given(layouts())
def test_gradients_are_those_of_finite_differences(layout):
    token_R, place_TK = layout
    y_RD, weights_TK = normal(len(token_R), 3).requires_grad_(), normal(*place_TK.shape).requires_grad_()

    assert gradcheck(lambda y, w: to_tokens(y, w, token_R, place_TK), (y_RD, weights_TK))


@given(layouts())
def test_a_token_gets_the_gradients_of_its_own_rows_and_no_others(layout):
    token_R, place_TK = layout
    x_TD = normal(len(place_TK), 3).requires_grad_()
    grad_RD = normal(len(token_R), 3)

    to_rows(x_TD, token_R, place_TK).backward(grad_RD)

    torch.testing.assert_close(x_TD.grad, grad_RD[place_TK].sum(1))
