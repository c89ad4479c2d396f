"""Tokens to rows and back against torch's own indexing, gradients included.

fp64 decides: sums of K rows in another order.
"""

import torch
from hypothesis import given
from hypothesis import strategies as st

from everyflop.kernels.permute import summed, to_rows, to_tokens


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

    assert torch.equal(to_rows(x_TD, token_R), x_TD[token_R])


@given(layouts())
def test_tokens_are_the_sums_of_their_rows(layout):
    token_R, place_TK = layout
    y_RD = normal(len(token_R), 3)

    torch.testing.assert_close(to_tokens(y_RD, token_R, place_TK), y_RD[place_TK].sum(1))


@given(layouts())
def test_rows_get_the_gradient_of_their_token(layout):
    token_R, place_TK = layout
    y_RD, grad_TD = normal(len(token_R), 3).requires_grad_(), normal(len(place_TK), 3)

    to_tokens(y_RD, token_R, place_TK).backward(grad_TD)

    assert torch.equal(y_RD.grad[place_TK], grad_TD[:, None].expand(-1, place_TK.shape[1], -1))


@given(layouts())
def test_rows_that_hold_no_token_are_never_read(layout):
    token_R, place_TK = layout
    y_RD = normal(len(token_R), 3)
    held_R = torch.zeros(len(token_R), dtype=torch.bool).scatter_(0, place_TK.flatten(), True)

    spoiled = y_RD.masked_fill(~held_R[:, None], float("nan"))

    assert torch.equal(summed(spoiled, place_TK), summed(y_RD, place_TK))


def test_bf16_rows_are_summed_in_fp32():
    y_RD = torch.tensor([[256.0], [1.0], [1.0]]).bfloat16()  # 256 + 1 is 256 in bf16

    assert summed(y_RD, torch.tensor([[0, 1, 2]])).item() == 258.0
