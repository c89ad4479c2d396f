"""Memory of the fullest device, worked by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.accounting.dims import Dims, dims_of
from everyflop.accounting.layouts import Layouts
from everyflop.accounting.memory import layer_activation_bytes, memory
from everyflop.spec.layout import Layout
from everyflop.spec.presets import preset

GIB = 2**30
TINY = Dims(
    hidden=64,
    n_layers=4,
    n_dense_layers=4,
    vocab=1000,
    n_heads=4,
    n_kv_heads=2,
    qk_dim=16,
    v_dim=16,
    window=2**40,
    attention_weights=64 * (64 + 2 * 32) + 64 * 64,
    dense_width=128,
    dense_matrices=3,
    n_experts=0,
    experts_per_token=0,
    expert_width=0,
    shared_width=0,
)


def parts_of(layout: Layout, dims: Dims = TINY, *, seq_len: int = 128, n_micro: int = 8) -> dict[str, float]:
    found = memory(dims, Layouts.of([layout]), seq_len=seq_len, n_micro=np.array([n_micro]))
    return {name: float(part[0]) * GIB for name, part in found.items()}


EIGHT = replace(
    TINY,
    n_layers=8,
    n_dense_layers=2,
    vocab=8,
    n_experts=16,
    experts_per_token=4,
    expert_width=64,
    shared_width=64,
)


def test_where_a_model_begins_with_dense_layers_the_second_stage_is_the_fullest():
    parts = parts_of(Layout(pp=4), EIGHT)

    one_layer = float(layer_activation_bytes(EIGHT, Layouts.of([Layout()]), 1.0)[0])
    assert parts["activations"] == pytest.approx(3 * 2 * 128 * one_layer)  # three micro-batches in flight, two layers
    assert parts["weights"] == pytest.approx(parts_of(Layout(pp=4), replace(EIGHT, vocab=16))["weights"])


def test_mixed_precision_adamw_takes_eighteen_bytes_a_weight():
    parts = parts_of(Layout(sharding="none"))
    n = TINY.total_parameters

    assert parts["weights"] == pytest.approx(2 * n, rel=1e-3)
    assert parts["gradients"] == pytest.approx(4 * n, rel=1e-3)
    assert parts["optimizer"] == pytest.approx(12 * n, rel=1e-3)


def test_zero1_shares_the_optimizer_state_among_replicas_and_nothing_else():
    alone, shared = parts_of(Layout(sharding="none")), parts_of(Layout(dp=4, sharding="zero1"))

    assert shared["optimizer"] == pytest.approx(alone["optimizer"] / 4)
    assert shared["weights"] == alone["weights"]
    assert shared["gradients"] == alone["gradients"]


def test_zero2_shares_gradients_too():
    alone, shared = parts_of(Layout(sharding="none")), parts_of(Layout(dp=4, sharding="zero2"))

    assert shared["gradients"] == pytest.approx(alone["gradients"] / 4)


def test_zero3_holds_fp32_shards_and_two_gathered_layers():
    parts = parts_of(Layout(dp=4, sharding="zero3"))
    n = TINY.total_parameters

    assert parts["weights"] == pytest.approx(4 * n / 4 + 2 * n / 4 * 2, rel=1e-3)  # 2 of 4 layers
    assert parts["optimizer"] == pytest.approx(8 * n / 4, rel=1e-3)


def test_a_layer_keeps_what_its_backward_pass_reads():
    kept = layer_activation_bytes(TINY, Layouts.of([Layout()]), 0.0)

    # two norms in and out, q, k and v, attention's output, gate, up and their product: two bytes each
    assert kept[0] == 2 * (4 * 64 + 64 + 2 * 32 + 64 + 3 * 128)


def test_full_recomputation_keeps_layer_inputs_and_one_layer_at_work():
    none, full = (parts_of(Layout(recompute=policy))["activations"] for policy in ("none", "full"))
    whole = float(layer_activation_bytes(TINY, Layouts.of([Layout()]), 0.0)[0])

    assert none == 128 * 4 * whole
    assert full == 128 * (4 * 2 * 64 + whole)


def test_the_first_stage_keeps_a_micro_batch_for_every_stage():
    few_words = replace(TINY, vocab=8)  # or the last stage with its logits were the fullest
    one, four = parts_of(Layout(), few_words), parts_of(Layout(pp=4), few_words)

    assert four["activations"] == pytest.approx(one["activations"])  # a quarter of the layers, four micro-batches


def test_fewer_micro_batches_than_stages_are_all_that_is_kept():
    few_words = replace(TINY, vocab=8)
    one, eight = (parts_of(Layout(pp=4), few_words, n_micro=n)["activations"] for n in (1, 8))

    assert one == eight / 4


def test_the_last_stage_counts_where_its_logits_outweigh_what_the_first_keeps():
    wide = replace(TINY, vocab=1_000_000)

    assert parts_of(Layout(pp=2), wide)["logits"] == 128 * 1_000_000 * 8
    assert parts_of(Layout(pp=2), replace(TINY, vocab=64, hidden=4096, dense_width=65_536))["logits"] == 0


def test_experts_are_divided_by_expert_parallelism_alone():
    dims = dims_of(preset("mixtral-8x7b"))
    whole, split = (parts_of(Layout(ep=ep, dp=8), dims)["weights"] for ep in (1, 8))
    experts = 2 * 32 * 8 * 3 * 4096 * 14336

    assert whole - split == pytest.approx(experts * 7 / 8)


@given(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]), st.sampled_from(["none", "zero1", "zero2", "zero3"]))
def test_more_devices_never_need_more_memory_each(tp, dp, sharding):
    small = parts_of(Layout(tp=tp, dp=dp, sharding=sharding))
    large = parts_of(Layout(tp=2 * tp, dp=2 * dp, sharding=sharding))

    assert sum(large.values()) <= sum(small.values()) * (1 + 1e-9)


def test_no_weight_gradient_and_moment_is_lost_between_stages():
    dims = replace(TINY, n_layers=8, n_dense_layers=8)
    one, four = (parts_of(Layout(pp=pp, sharding="none"), dims)["weights"] for pp in (1, 4))
    table = 2 * 1000 * 64

    assert four == pytest.approx((one - 2 * table) / 4 + table, rel=1e-6)


def test_virtual_stages_keep_more_micro_batches_in_flight():
    few_words = replace(TINY, vocab=8)
    plain, virtual = (parts_of(Layout(pp=4, vpp=vpp), few_words)["activations"] for vpp in (1, 2))

    assert virtual == pytest.approx(plain * (1 + 3 / 8))  # (pp - 1) / (pp x vpp) more


def test_plain_torch_holds_fourteen_bytes_of_a_logit():
    assert parts_of(Layout(sharding="zero3"))["logits"] == 128 * 1000 * 14
    assert parts_of(Layout())["logits"] == 128 * 1000 * 8


def test_tensor_parallelism_inside_experts_divides_them_too():
    dims = dims_of(preset("mixtral-8x7b"))
    whole, halved = (parts_of(Layout(tp=2, ep=4, etp=etp, dp=4), dims)["weights"] for etp in (1, 2))
    experts = 2 * 32 * 8 * 3 * 4096 * 14336 / 4

    assert whole - halved == pytest.approx(experts / 2)


def test_the_last_stage_of_a_model_that_begins_densely_holds_experts_alone():
    # 4 of 8 layers are dense, and logits make the last of 2 stages the fuller one.
    experts = {"n_experts": 8, "experts_per_token": 2, "expert_width": 32}
    dims = replace(TINY, n_layers=8, n_dense_layers=4, vocab=1_000_000, **experts)
    layer = 8 * 3 * 64 * 32 + 64 * 8 + TINY.attention_weights + 2 * 64  # experts, router, attention, norms

    assert parts_of(Layout(pp=2), dims)["weights"] == pytest.approx(2 * (4 * layer + 1_000_000 * 64))


def test_virtual_stages_keep_micro_batches_in_flight_on_the_last_stage_too():
    logits = replace(TINY, n_layers=8, n_dense_layers=8, vocab=50_000)
    plain, virtual = (parts_of(Layout(pp=4, vpp=vpp), logits)["activations"] for vpp in (1, 2))

    assert virtual == pytest.approx(plain * 5 / 2)  # ((vpp - 1) pp + 1) / vpp instead of one


def test_mtp_layers_have_logits_of_their_own():
    assert parts_of(Layout(), replace(TINY, extra_heads=1))["logits"] == 2 * 128 * 1000 * 8
