"""A pass through the experts against one expert after the other, gradients included.

Tolerances: fp64 and fp32, sums in another order; bf16, five roundings to 8 bits one after the other, in the largest
value's units.
"""

import pytest
import torch
from torch import Tensor

from everyflop.kernels.experts import experts, reference
from everyflop.model.moe.dispatch import LocalDispatch

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.02}
N_EXPERTS, HIDDEN, WIDTH = 5, 16, 8


def inputs(n_tokens: int, dtype: torch.dtype, n_experts: int = N_EXPERTS) -> tuple[Tensor, ...]:
    """Tokens, their choices, weights, matrices, and a gradient; the last expert is nobody's choice."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    ids_TK = torch.rand(n_tokens, n_experts - 1, generator=generator).topk(2).indices
    matrices = normal(n_experts, 2 * WIDTH, HIDDEN) / 4, normal(n_experts, HIDDEN, WIDTH) / 3
    weights_TK = torch.rand(n_tokens, 2, generator=generator, dtype=torch.float64).to(dtype)
    return normal(n_tokens, HIDDEN), ids_TK, weights_TK, *matrices, normal(n_tokens, HIDDEN)


def results(function, x: Tensor, ids: Tensor, weights: Tensor, gate_up: Tensor, down: Tensor, grad: Tensor):
    """Return what comes of all tokens, and the gradients of tokens, weights and matrices."""
    leaves = x, weights, gate_up, down = [t.detach().requires_grad_() for t in (x, weights, gate_up, down)]
    dispatch = LocalDispatch()
    sent = dispatch.dispatch(x, ids, weights, len(gate_up))
    y = dispatch.combine(function(sent, gate_up, down), sent)
    y.backward(grad)
    return [y.detach(), *(leaf.grad for leaf in leaves)]


def fast(sent, gate_up: Tensor, down: Tensor) -> Tensor:
    return experts(sent.x_TD, sent.weight_R, sent.token_R, sent.place_TK, sent.ends_E, gate_up, down)


def plain(sent, gate_up: Tensor, down: Tensor) -> Tensor:
    return reference(sent.x_TD, sent.weight_R, sent.token_R, sent.ends_E, gate_up, down)


@pytest.mark.parametrize("n_tokens", [1, 7, 400], ids=["one token", "a few", "whole blocks"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_values_and_gradients_are_those_of_the_reference_in_fp64(dtype, n_tokens):
    x, ids, *floats = inputs(n_tokens, dtype)

    found = results(fast, x, ids, *floats)
    exact = results(plain, x.double(), ids, *(t.double() for t in floats))

    for one, expected in zip(found, exact, strict=True):
        assert one.dtype == dtype
        assert (one.double() - expected).abs().max() <= TOLERANCE[dtype] * expected.abs().max()


def test_an_expert_without_tokens_learns_nothing():
    *_, grad_gate_up, grad_down = results(fast, *inputs(400, torch.bfloat16))

    for gradient in (grad_gate_up, grad_down):
        assert [bool(one.any()) for one in gradient] == [True] * (N_EXPERTS - 1) + [False]


def test_fp32_matrices_and_weights_keep_their_type_under_bf16_tokens():
    x, ids, weights, gate_up, down, grad = inputs(7, torch.float32)

    y, *grads = results(fast, x.bfloat16(), ids, weights, gate_up, down, grad.bfloat16())

    assert [t.dtype for t in (y, *grads)] == [torch.bfloat16, torch.bfloat16, *3 * [torch.float32]]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_torchs_own_checks_of_custom_operators_pass(dtype):
    x, ids, weights, gate_up, down, _ = inputs(7, dtype)
    x, weights, gate_up, down = (t.requires_grad_() for t in (x, weights, gate_up, down))
    sent = LocalDispatch().dispatch(x.detach(), ids, weights.detach(), N_EXPERTS)
    indices = (sent.token_R, sent.place_TK, sent.ends_E)

    torch.library.opcheck(torch.ops.everyflop.experts.default, (x, sent.weight_R, *indices, gate_up, down))
    matrices = [x.detach(), sent.weight_R, *indices, gate_up.detach(), down.detach()]
    y, channels = torch.ops.everyflop.experts(*matrices)
    backward = torch.ops.everyflop.experts_backward.default
    torch.library.opcheck(backward, (y, *matrices, channels), test_utils=("test_schema", "test_faketensor"))


def test_it_compiles_without_a_graph_break_and_changes_no_bit():
    arguments = inputs(7, torch.float32)
    compiled = torch.compile(fast, fullgraph=True, backend="aot_eager")

    for one, expected in zip(results(compiled, *arguments), results(fast, *arguments), strict=True):
        assert torch.equal(one, expected)
