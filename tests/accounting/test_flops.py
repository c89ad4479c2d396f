from collections.abc import Sequence
from math import prod

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from everyflop.accounting.flops import flops_per_token, trained_flops_per_token
from everyflop.model.transformer import CausalLM
from everyflop.spec.model import ModelSpec
from everyflop.spec.presets import preset

SEQ_LEN = 16


def tiny(**changes: object) -> ModelSpec:
    fields = {
        "family": "ling-v2",
        "vocab_size": 64,
        "hidden": 16,
        "n_layers": 3,
        "dense_layers": [0],
        "dense_width": 24,
        "n_heads": 4,
        "n_kv_heads": 2,
        "head_dim": 8,
        "n_experts": 8,
        "experts_per_token": 2,
        "expert_width": 8,
        "n_shared_experts": 1,
    }
    return ModelSpec.model_validate(fields | changes)


MLA = {"family": "deepseek-v3", "n_kv_heads": 4, "q_rank": 12, "kv_rank": 10}
MLA |= {"nope_head_dim": 6, "rope_head_dim": 4, "v_head_dim": 8}


def square(q: torch.Size, v: torch.Size) -> int:
    """Return the FLOPs of all queries with all keys, and of weights with values."""
    B, T, N, D = q
    return 2 * B * N * T * T * (D + v[3])


def of_experts(weight: torch.Size, rest: Sequence[torch.Size]) -> int:
    """Return the FLOPs of all rows with the three matrices of an expert."""
    _token, _place, _ends, gate_up, down = rest[:5]
    return 2 * weight[0] * (prod(gate_up[1:]) + prod(down[1:]))


def counted_flops(spec: ModelSpec, *, backward: bool) -> int:
    """Let torch count the matrix products of one sequence on a real model."""
    grouped = {
        torch.ops.everyflop.experts: lambda x, weight, *rest, **kw: of_experts(weight, rest),
        torch.ops.everyflop.experts_backward: lambda grad, x, weight, *rest, **kw: 2 * of_experts(weight, rest),
        torch.ops.everyflop.attention: lambda q, k, v, *rest, **kw: square(q, v),
        # As the products that the formulas need: that scores are computed again is no FLOP of the model.
        torch.ops.everyflop.attention_backward: lambda grad, y, lse, q, k, v, *rest, **kw: 2 * square(q, v),
        # Its gradients are made in the forward pass, where they are wanted.
        torch.ops.everyflop.linear_cross_entropy: (
            lambda hidden, weight, targets, *wanted, **kw: 2 * prod(hidden) * weight[0] * (1 + sum(wanted))
        ),
    }
    torch.manual_seed(0)
    model = CausalLM(spec)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    ids = torch.randint(spec.vocab_size, (1, SEQ_LEN + 1))
    counter = FlopCounterMode(display=False, custom_mapping=grouped)
    with torch.set_grad_enabled(backward), counter:
        loss = model.loss(ids)
        if backward:
            loss.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize(
    "spec", [tiny(), tiny(**MLA), tiny(tied_embeddings=True)], ids=["GQA", "MLA", "tied embeddings"]
)
def test_the_models_own_products_are_counted_exactly_when_attention_is_not_halved(spec: ModelSpec):
    flops = flops_per_token(spec, SEQ_LEN)

    assert counted_flops(spec, backward=False) == SEQ_LEN * (flops.forward + flops.attention_scores)
    assert counted_flops(spec, backward=True) == SEQ_LEN * (flops.training + 3 * flops.attention_scores)


def test_qwen3_30b_a3b_needs_what_was_worked_by_hand():
    flops = flops_per_token(preset("qwen3-30b-a3b"), 4096)

    assert flops.attention_projections == 48 * 2 * 2048 * 128 * (32 + 2 * 4 + 32)
    assert flops.attention_scores == 48 * 2 * 32 * (128 + 128) * 2048  # 2048 keys on average
    assert flops.routed == 48 * 2 * 8 * 3 * 2048 * 768
    assert flops.router == 48 * 2 * 2048 * 128
    assert flops.head == 2 * 151_936 * 2048
    assert (flops.dense, flops.shared, flops.mtp) == (0, 0, 0)
    assert flops.training == 3 * (
        flops.attention_projections + flops.attention_scores + flops.routed + flops.router + flops.head
    )


def test_dense_layers_and_shared_experts_count_three_matrices_each():
    flops = flops_per_token(tiny(n_shared_experts=2), SEQ_LEN)

    assert flops.dense == 2 * 3 * 16 * 24
    assert flops.shared == 2 * 2 * 3 * 16 * (2 * 8)


def test_an_mtp_layer_counts_a_moe_layer_a_merge_and_a_second_pass_through_the_head():
    one_moe_layer = tiny(n_layers=1, dense_layers=[])
    layer = flops_per_token(one_moe_layer, SEQ_LEN)

    flops = flops_per_token(tiny(n_mtp_layers=1), SEQ_LEN)

    assert flops.mtp == layer.forward + 2 * 16 * (2 * 16)  # that model has one layer and one head as well
    assert flops.forward == flops_per_token(tiny(), SEQ_LEN).forward + flops.mtp


def test_a_sliding_window_limits_the_scores_alone():
    full, windowed = (flops_per_token(tiny(sliding_window=w), 1000) for w in (None, 100))

    # Each token sees itself and 99 before it, the first ones fewer: 100 - 100² / 2000 = 95 keys instead of 500.
    assert windowed.attention_scores / full.attention_scores == pytest.approx(95 / 500)
    assert windowed.attention_projections == full.attention_projections


def test_a_window_as_long_as_the_sequence_changes_nothing():
    assert flops_per_token(tiny(sliding_window=SEQ_LEN), SEQ_LEN) == flops_per_token(tiny(), SEQ_LEN)


def test_large_models_need_about_six_flops_for_each_active_parameter():
    # 6 N is the rule of thumb; Ling-flash-2.0 has 6.152 B active, of which the embedding's 0.644 B need no product.
    flops = flops_per_token(preset("ling-flash-2.0"), 4096)

    assert (flops.training - 3 * flops.attention_scores) / 6 == pytest.approx(6.152e9 - 0.644e9, rel=1e-3)


def test_an_mtp_layer_without_a_loss_is_not_computed_in_training():
    with_loss, without = (tiny(n_mtp_layers=1, mtp_loss_weight=weight) for weight in (0.1, 0.0))

    assert trained_flops_per_token(without, SEQ_LEN) == trained_flops_per_token(tiny(), SEQ_LEN)
    assert trained_flops_per_token(with_loss, SEQ_LEN) == flops_per_token(with_loss, SEQ_LEN).training
