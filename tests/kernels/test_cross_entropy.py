"""The chunked loss against all logits at once, gradients included.

Tolerances are rounding alone. fp64: sums in another order. fp32: sums of up to 64 products. bf16: the same products in
fp32, probabilities rounded once to 8 bits before the matmuls of the gradients (2**-8 of the largest).
"""

import pytest
import torch
from torch import Tensor

from everyflop.kernels import cross_entropy
from everyflop.kernels.cross_entropy import IGNORED, linear_cross_entropy, reference

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2**-7}
T, H, V = 70, 64, 50


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of 16 tokens, so that there are several and the last one is not whole."""
    monkeypatch.setattr(cross_entropy, "loss_chunk", lambda tokens, vocab: 16)


def inputs(dtype: torch.dtype, weight_dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(T, H, generator=generator, dtype=torch.float64).to(dtype)
    weight = (torch.randn(V, H, generator=generator, dtype=torch.float64) / 8).to(dtype)
    targets = torch.randint(0, V, (T,), generator=generator)
    targets[::7] = IGNORED
    return hidden.requires_grad_(), weight.to(weight_dtype).requires_grad_(), targets


def results(function, hidden: Tensor, weight: Tensor, targets: Tensor) -> list[Tensor]:
    hidden, weight = (x.detach().requires_grad_() for x in (hidden, weight))
    loss = function(hidden, weight, targets)
    (loss / 3).backward()  # a third is no bf16 number, and must not become one
    return [loss.detach(), hidden.grad, weight.grad]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_loss_and_gradients_are_those_of_the_reference_in_fp64(dtype):
    hidden, weight, targets = inputs(dtype, dtype)

    found = results(linear_cross_entropy, hidden, weight, targets)
    exact = results(reference, hidden.double(), weight.double(), targets)

    for one, expected in zip(found, exact, strict=True):
        largest = expected.abs().max()
        assert ((one.double() - expected).abs().max() / largest).item() <= TOLERANCE[dtype]


def test_gradients_of_an_fp32_matrix_stay_fp32_under_bf16_states():
    hidden, weight, targets = inputs(torch.bfloat16, torch.float32)
    loss, grad_hidden, grad_weight = results(linear_cross_entropy, hidden, weight, targets)

    assert (loss.dtype, grad_hidden.dtype, grad_weight.dtype) == (torch.float32, torch.bfloat16, torch.float32)


def test_tokens_that_do_not_count_get_no_gradient():
    hidden, weight, targets = inputs(torch.float32, torch.float32)
    _, grad_hidden, _ = results(linear_cross_entropy, hidden, weight, targets)

    assert torch.equal(grad_hidden.any(1), targets != IGNORED)


def test_without_a_gradient_the_loss_is_the_same_bits():
    hidden, weight, targets = inputs(torch.bfloat16, torch.float32)

    with torch.no_grad():
        alone = linear_cross_entropy(hidden, weight, targets)

    assert torch.equal(alone, linear_cross_entropy(hidden, weight, targets).detach())


def test_a_frozen_matrix_costs_no_gradient():
    hidden, weight, targets = inputs(torch.float32, torch.float32)

    linear_cross_entropy(hidden, weight.detach(), targets).backward()

    assert hidden.grad is not None


def test_torchs_own_checks_of_custom_operators_pass():
    hidden, weight, targets = inputs(torch.float64, torch.float64)

    torch.library.opcheck(
        torch.ops.everyflop.linear_cross_entropy.default,
        (hidden, weight, targets, True, True),
        test_utils=("test_schema", "test_faketensor"),
    )
