"""Attention by blocks against all scores at once, gradients included.

Tolerances: fp64 and fp32, sums in another order; bf16, inputs and weights of 8 bits (2**-8 of the largest value, a few
of which add up).
"""

import pytest
import torch
from torch import Tensor

from everyflop.kernels import attention as module
from everyflop.kernels.attention import attention, fused, reference, select

TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 0.02}
SHAPES = {
    "as many key heads": (2, 37, 4, 4, 8, 8),
    "grouped queries": (2, 37, 6, 2, 8, 8),
    "one key head": (1, 40, 4, 1, 8, 8),
    "values of another width": (2, 33, 4, 4, 12, 8),
    "shorter than a block": (2, 5, 2, 1, 8, 8),
    "one position": (1, 1, 2, 2, 8, 8),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 16 queries, one or two heads at once."""
    monkeypatch.setattr(module, "BLOCK_QUERIES", 16)
    monkeypatch.setattr(module, "BLOCK_SCORES", 2 * 16 * 40)


def inputs(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    B, T, N, M, D, V = shape
    generator = torch.Generator().manual_seed(0)
    sizes = ((B, T, N, D), (B, T, M, D), (B, T, M, V), (B, T, N, V))
    q, k, v, grad = (torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) for size in sizes)
    return q, k, v, grad


def results(function, q: Tensor, k: Tensor, v: Tensor, grad: Tensor, mask: Tensor | None) -> list[Tensor]:
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    y = function(q, k, v, mask, 0.3)
    y.backward(grad)
    return [y.detach(), q.grad, k.grad, v.grad]


def documents(B: int, T: int) -> Tensor:
    """Masks of two documents a row, of another length in each."""
    ends = torch.arange(B)[:, None] + T // 3
    document = (torch.arange(T) >= ends).int()
    causal = torch.ones(T, T, dtype=torch.bool).tril()
    return (causal & (document[:, :, None] == document[:, None, :]))[:, None]


def window(T: int) -> Tensor:
    return (torch.ones(T, T, dtype=torch.bool).tril() & ~torch.ones(T, T, dtype=torch.bool).tril(-5))[None, None]


@pytest.mark.parametrize("mask", ["causal", "documents", "window"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_values_and_gradients_are_those_of_the_reference_in_fp64(shape, dtype, mask):
    q, k, v, grad = inputs(shape, dtype)
    seen = {"causal": None, "documents": documents(*shape[:2]), "window": window(shape[1])}[mask]

    found = results(attention, q, k, v, grad, seen)
    exact = results(reference, q.double(), k.double(), v.double(), grad.double(), seen)

    for one, expected in zip(found, exact, strict=True):
        assert one.dtype == dtype
        assert (one.double() - expected).abs().max() <= TOLERANCE[dtype] * expected.abs().max().clamp(min=1e-3)


def test_torchs_fused_kernel_says_the_same():
    q, k, v, grad = inputs(SHAPES["grouped queries"], torch.float32)

    one = results(attention, q, k, v, grad, None)
    other = results(lambda q, k, v, mask, scale: fused(q, k, v, mask, scale, causal=True), q, k, v, grad, None)

    for found, expected in zip(one, other, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_later_keys_are_never_read():
    q, k, v, _ = inputs((1, 40, 2, 2, 8, 8), torch.float32)
    k[:, 30:], v[:, 30:] = float("nan"), float("nan")

    y = attention(q, k, v, None, 0.3)

    # Blocks of 16: keys of the block that a query is in are multiplied and masked, and NaN survives no mask.
    assert y[:, :16].isfinite().all()


@pytest.mark.parametrize(("device", "implementation"), [("cpu", "blocked"), ("cuda", "torch"), ("npu", "torch")])
def test_what_runs_is_chosen_by_device_alone(device, implementation):
    assert select(device).implementation == implementation


def test_torchs_own_checks_of_custom_operators_pass():
    q, k, v, _ = inputs(SHAPES["grouped queries"], torch.float64)
    q, k, v = (x.requires_grad_() for x in (q, k, v))

    torch.library.opcheck(torch.ops.everyflop.blocked_attention.default, (q, k, v, None, 0.3))
