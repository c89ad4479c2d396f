"""The whole MoE part against a literal loop over tokens and their experts, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from everyflop.model.moe.layer import MoE
from everyflop.spec.model import ModelSpec

N_ROWS, N_POSITIONS = 2, 5


def layer(**fields) -> MoE:
    sizes = {"vocab_size": 8, "n_layers": 1, "n_heads": 1, "n_kv_heads": 1, "head_dim": 2, "hidden": 6}
    experts = {"n_experts": 8, "experts_per_token": 3, "expert_width": 5, "n_groups": 4, "keep_groups": 2}
    spec = ModelSpec(family="ling-v2", **{**sizes, **experts, "n_shared_experts": 2, **fields})
    built = MoE(spec, 0).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in [*built.parameters(), *built.buffers()]:
            tensor.copy_(0.5 * torch.randn(tensor.shape, generator=generator))
    return built


def states() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N_ROWS, N_POSITIONS, 6, generator=generator, dtype=torch.float64)


def swiglu(gate_up: Tensor, down: Tensor, x: Tensor) -> Tensor:
    gate, up = (gate_up @ x).chunk(2)
    return down @ (F.silu(gate) * up)


def literal(model: MoE, x_BTH: Tensor) -> Tensor:
    """Token by token: choose experts, weigh them by their unbiased scores, add the shared expert."""
    spec, outputs = model.router.spec, []
    for x in x_BTH.reshape(-1, x_BTH.shape[-1]):
        scores = 1 / (1 + torch.exp(-(model.router.weight @ x)))
        biased = (scores + model.router.expert_bias).tolist()
        size = spec.n_experts // spec.n_groups
        pairs = [sum(sorted(biased[g * size : (g + 1) * size])[-2:]) for g in range(spec.n_groups)]
        kept = sorted(range(spec.n_groups), key=lambda g: -pairs[g])[: spec.keep_groups]
        candidates = [e for e in range(spec.n_experts) if e // size in kept]
        chosen = sorted(candidates, key=lambda e: -biased[e])[: spec.experts_per_token]
        total = sum(scores[e] for e in chosen) if len(chosen) > 1 else 1.0  # as Ling's code: a lone weight stays
        y = torch.zeros_like(x)
        for e in chosen:
            weight = spec.routed_scale * scores[e] / total
            y = y + weight * swiglu(model.experts.gate_up[e], model.experts.down[e], x)
        if model.shared is not None:
            y = y + swiglu(model.shared.gate_up.weight, model.shared.down.weight, x)
        outputs.append(y)
    return torch.stack(outputs).view_as(x_BTH)


def gradients(function, model: MoE, x_BTH: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the output, and the gradients of a scalar of it for the input and all parameters."""
    x_BTH = x_BTH.clone().requires_grad_()
    y_BTH = function(x_BTH)
    slopes = torch.linspace(-1, 2, y_BTH.numel(), dtype=torch.float64).view_as(y_BTH)
    wanted = [x_BTH, *model.parameters()]
    found = torch.autograd.grad((y_BTH * slopes).sum(), wanted, allow_unused=True, materialize_grads=True)
    return y_BTH.detach(), list(found)


def assert_equals_literal(model: MoE, x_BTH: Tensor) -> None:
    y, grads = gradients(lambda x: model(x, None)[0], model, x_BTH)

    expected_y, expected_grads = gradients(lambda x: literal(model, x), model, x_BTH)
    torch.testing.assert_close(y, expected_y, rtol=1e-12, atol=1e-12)
    for one, expected in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "fields",
    [{}, {"n_groups": 1, "keep_groups": 1}, {"n_shared_experts": 0}, {"experts_per_token": 1}],
    ids=["grouped", "one group", "no shared expert", "one expert a token"],
)
def test_output_and_gradients_equal_a_loop_over_tokens(fields):
    assert_equals_literal(layer(**fields), states())


def test_an_expert_without_a_token_changes_nothing_and_learns_nothing():
    model = layer()
    model.router.expert_bias[2] = -100.0

    assert_equals_literal(model, states())
    y, stats = model(states(), None)
    y.sum().backward()
    assert stats.counts_E[2] == 0
    assert not model.experts.gate_up.grad[2].any()
    assert not model.experts.down.grad[2].any()


def test_all_tokens_to_the_same_experts_drops_none():
    model = layer()
    model.router.expert_bias.fill_(0)
    model.router.expert_bias[:3] = 100.0

    assert_equals_literal(model, states())
    assert model(states(), None)[1].counts_E.tolist() == [10, 10, 10, 0, 0, 0, 0, 0]


def test_counts_add_up_to_every_choice_of_every_token():
    _, stats = layer()(states(), None)

    assert stats.counts_E.sum() == N_ROWS * N_POSITIONS * 3


def test_where_experts_live_is_decided_outside_the_layer():
    model, x_BTH = layer(), states()
    sent_ids = []

    class Recording(type(model.dispatch)):
        def dispatch(self, x_TD, ids_TK, weights_TK, n_experts):
            sent_ids.append(ids_TK)
            return super().dispatch(x_TD, ids_TK, weights_TK, n_experts)

    other = MoE(model.router.spec, 0, Recording()).double()
    other.load_state_dict(model.state_dict())

    assert torch.equal(other(x_BTH, None)[0], model(x_BTH, None)[0])
    assert sent_ids[0].shape == (N_ROWS * N_POSITIONS, 3)
