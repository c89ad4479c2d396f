import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import AdamW

from everyflop.optim.optimizer import build_optimizer
from everyflop.optim.part import row_squares, scale_momentum, scale_row_squares, step_on_part
from everyflop.spec.train import OptimSpec

ROWS, COLUMNS = 3, 4


def table(betas: tuple[float, float]) -> tuple[nn.Parameter, AdamW]:
    """Return rows of ones, as an embedding has them, and their optimizer."""
    parameter = nn.Parameter(torch.ones(ROWS, COLUMNS, dtype=torch.float64))
    optimizer = build_optimizer([("table", parameter)], OptimSpec(betas=betas, weight_decay=0.1))
    return parameter, optimizer


def trained(gradients: list[Tensor], part: float, betas: tuple[float, float]) -> Tensor:
    """Return how far the rows move."""
    parameter, optimizer = table(betas)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        step_on_part(optimizer, part, lr=1e-3)
    return parameter.detach() - 1


@given(part=st.floats(0.05, 0.95), seed=st.integers(0, 2**31 - 1))
def test_a_row_that_one_part_only_has_seen_moves_as_it_does_for_the_whole_batch(part: float, seed: int):
    draw = torch.Generator().manual_seed(seed)
    seen = [torch.randn(ROWS, COLUMNS, dtype=torch.float64, generator=draw) for _ in range(5)]
    unseen = [torch.zeros_like(gradient) for gradient in seen]

    whole = trained([part * gradient for gradient in seen], 1.0, (0.9, 0.95))
    mean = part * trained(seen, part, (0.9, 0.95)) + (1 - part) * trained(unseen, 1 - part, (0.9, 0.95))

    # What is left is weight decay, which acts on rows where they are: lr * 0.1 * the distance between parts.
    assert (mean - whole).abs().max() < 1e-5
    assert whole.abs().mean() > 1e-4, "ten times what may be left"


def test_plain_steps_would_move_it_by_the_share_of_that_part_only():
    seen = [torch.ones(ROWS, COLUMNS, dtype=torch.float64)] * 5

    plain = 0.25 * trained(seen, 1.0, (0.9, 0.95))

    assert plain.mean() / trained([0.25 * g for g in seen], 1.0, (0.9, 0.95)).mean() == pytest.approx(0.25, rel=0.1)


@given(part=st.floats(0.05, 0.95), seed=st.integers(0, 2**31 - 1))
def test_with_squares_that_are_the_same_for_all_the_mean_step_is_that_of_the_mean_gradient(part: float, seed: int):
    draw, betas = torch.Generator().manual_seed(seed), (0.9, 1 - 1e-10)
    ours, theirs = ([torch.randn(ROWS, COLUMNS, dtype=torch.float64, generator=draw) for _ in range(5)] for _ in "ab")
    squares = torch.rand(ROWS, COLUMNS, dtype=torch.float64, generator=draw) + 0.5
    moves = []
    for gradients, share in ((ours, part), (theirs, 1 - part)):
        moves.append(moved_with(squares, gradients, share, betas))
    both = [part * a + (1 - part) * b for a, b in zip(ours, theirs, strict=True)]

    whole, mean = moved_with(squares, both, 1.0, betas), part * moves[0] + (1 - part) * moves[1]

    assert torch.allclose(mean, whole, rtol=1e-5, atol=1e-10)


def moved_with(squares: Tensor, gradients: list[Tensor], part: float, betas: tuple[float, float]) -> Tensor:
    """Return how far the rows move in steps after very many, from these mean squares."""
    parameter, optimizer = table(betas)
    state = {"step": torch.tensor(1e7), "exp_avg": torch.zeros_like(squares)}
    optimizer.state[parameter] |= {**state, "exp_avg_sq": squares * (1 - betas[1] ** 1e7)}
    for gradient in gradients:
        parameter.grad = gradient.clone()
        for group in optimizer.param_groups:
            group["weight_decay"] = 0.0
        step_on_part(optimizer, part, lr=1e-3)
    return parameter.detach() - 1


def test_weight_decay_is_the_whole_batchs_whatever_the_part():
    moved = [trained([torch.zeros(ROWS, COLUMNS, dtype=torch.float64)] * 2, part, (0.9, 0.95)) for part in (0.3, 1.0)]

    assert torch.allclose(moved[0], moved[1], rtol=1e-9)
    assert moved[0].max() == pytest.approx(-2e-4, rel=1e-3)  # two steps of 1e-3 * 0.1


def test_momentum_of_a_part_becomes_that_of_another():
    parameter, optimizer = table((0.9, 0.95))
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()

    scale_momentum(optimizer, 0.5)

    assert optimizer.state[parameter]["exp_avg"].unique().tolist() == pytest.approx([0.05])


def test_a_rest_of_rounding_is_no_square_to_multiply():
    parameter, optimizer = table((0.9, 0.5))
    parameter.grad = torch.full_like(parameter, 1e-22)
    optimizer.step()

    scale_row_squares(optimizer, [parameter], row_squares(optimizer, [parameter]), np.array([1e-5] * ROWS))

    assert optimizer.state[parameter]["exp_avg_sq"].unique().tolist() == pytest.approx([1e-5])


def test_rows_take_the_squares_that_are_agreed_on_and_keep_their_pattern():
    parameter, optimizer = table((0.9, 0.5))
    parameter.grad = torch.tensor([[1.0, 3.0, 1.0, 3.0], [2.0] * 4, [0.0] * 4], dtype=torch.float64)
    optimizer.step()
    own = row_squares(optimizer, [parameter])
    assert own.tolist() == [2.5, 2.0, 0.0]

    scale_row_squares(optimizer, [parameter], own, np.array([5.0, 1.0, 0.25]))

    found = optimizer.state[parameter]["exp_avg_sq"].tolist()
    assert found == [[1.0, 9.0, 1.0, 9.0], [1.0] * 4, [0.25] * 4]


def test_before_the_first_step_there_is_nothing_to_agree_on():
    parameter, optimizer = table((0.9, 0.95))
    none = row_squares(optimizer, [parameter])

    scale_momentum(optimizer, 0.5)
    scale_row_squares(optimizer, [parameter], none, none)

    assert none.tolist() == [0.0] * ROWS
    assert not optimizer.state
