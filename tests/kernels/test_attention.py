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
    "narrower values": (2, 33, 4, 4, 12, 8),
    "wider values": (2, 33, 4, 2, 8, 12),
    "shorter than a block": (2, 5, 2, 1, 8, 8),
    "one position": (1, 1, 2, 2, 8, 8),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 16 queries, one or two heads at once, in the backward pass."""
    monkeypatch.setattr(module, "BLOCK_QUERIES", 16)
    monkeypatch.setattr(module, "BLOCK_SCORES", 2 * 16 * 40)


def inputs(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    B, T, N, M, D, V = shape
    generator = torch.Generator().manual_seed(0)
    sizes = ((B, T, N, D), (B, T, M, D), (B, T, M, V), (B, T, N, V))
    q, k, v, grad = (torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) for size in sizes)
    return q, k, v, grad


def results(function, q: Tensor, k: Tensor, v: Tensor, grad: Tensor, first_BT: Tensor | None) -> list[Tensor]:
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    y = function(q, k, v, first_BT, 0.3)
    y.backward(grad)
    return [y.detach(), q.grad, k.grad, v.grad]


def documents(B: int, T: int) -> Tensor:
    """Two documents a row, of another length in each."""
    begins = torch.arange(B)[:, None] + T // 3
    return torch.where(torch.arange(T) >= begins, begins, 0)


def short_documents(B: int, T: int) -> Tensor:
    return (torch.arange(T) // 3 * 3).expand(B, T)


def window(B: int, T: int) -> Tensor:
    """Of 5 positions, the same in all rows."""
    return (torch.arange(T) - 4).clamp(min=0)[None]


FIRST_KEYS = {"causal": lambda B, T: None, "documents": documents, "short documents": short_documents, "window": window}


@pytest.mark.parametrize("first_keys", FIRST_KEYS.values(), ids=FIRST_KEYS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_values_and_gradients_are_those_of_the_reference_in_fp64(shape, dtype, first_keys):
    q, k, v, grad = inputs(shape, dtype)
    first_BT = first_keys(*shape[:2])

    found = results(attention, q, k, v, grad, first_BT)
    exact = results(reference, q.double(), k.double(), v.double(), grad.double(), first_BT)

    for one, expected in zip(found, exact, strict=True):
        assert one.dtype == dtype
        assert (one.double() - expected).abs().max() <= TOLERANCE[dtype] * expected.abs().max().clamp(min=1e-3)


def test_torchs_fused_kernel_says_the_same():
    q, k, v, grad = inputs(SHAPES["grouped queries"], torch.float32)

    one = results(attention, q, k, v, grad, None)
    other = results(lambda q, k, v, _, scale: fused(q, k, v, None, scale, causal=True), q, k, v, grad, None)

    for found, expected in zip(one, other, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_what_a_query_may_not_look_at_reaches_neither_it_nor_its_gradient():
    q, k, v, grad = inputs((1, 40, 2, 2, 8, 8), torch.float32)
    first_BT = torch.where(torch.arange(40) >= 20, 20, 0)[None]
    changed_k, changed_v = k.clone(), v.clone()
    changed_k[:, :20] += 1.0
    changed_v[:, :20] += 1.0

    y, grad_q, grad_k, grad_v = results(attention, q, k, v, grad, first_BT)
    changed = results(attention, q, changed_k, changed_v, grad, first_BT)

    for one, other in zip((y, grad_q, grad_k, grad_v), changed, strict=True):
        assert torch.equal(one[:, 20:], other[:, 20:])
        assert not torch.equal(one[:, :20], other[:, :20])


def test_scores_far_apart_leave_numbers():
    q, k, v, grad = inputs((1, 40, 2, 2, 8, 8), torch.float32)

    for found in results(attention, 300 * q, 300 * k, v, grad, None):
        assert found.isfinite().all()


@pytest.mark.parametrize(("device", "implementation"), [("cpu", "blocked"), ("cuda", "torch"), ("npu", "torch")])
def test_what_runs_is_chosen_by_device_alone(device, implementation):
    assert select(device).implementation == implementation


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_torchs_own_checks_of_custom_operators_pass(dtype):
    q, k, v, grad = inputs(SHAPES["grouped queries"], dtype)
    y, lse = torch.ops.everyflop.attention(q, k, v, None, 0.3)
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]

    torch.library.opcheck(torch.ops.everyflop.attention.default, (*leaves, None, 0.3))
    backward = torch.ops.everyflop.attention_backward.default
    torch.library.opcheck(backward, (grad, y, lse, q, k, v, None, 0.3), test_utils=("test_schema", "test_faketensor"))


def test_compiled_it_changes_no_bit():
    q, k, v, grad = inputs(SHAPES["grouped queries"], torch.bfloat16)
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")

    one, other = (results(function, q, k, v, grad, documents(2, 37)) for function in (compiled, attention))

    assert all(torch.equal(found, expected) for found, expected in zip(one, other, strict=True))


@pytest.mark.parametrize("shape", ["grouped queries", "one key head", "narrower values"])
def test_the_fused_kernel_of_other_devices_gets_the_same_documents(shape, monkeypatch):
    q, k, v, _ = inputs(SHAPES[shape], torch.float64)
    first_BT = (torch.arange(q.shape[1]) // 10 * 10).expand(q.shape[0], -1)
    monkeypatch.setattr(module, "select", lambda _: module.Choice("attention", "torch", ""))

    found = attention(q, k, v, first_BT, 0.3)

    torch.testing.assert_close(found, reference(q, k, v, first_BT, 0.3), atol=1e-12, rtol=1e-12)
