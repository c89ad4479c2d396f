"""Time of a step by component."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.accounting.dims import dims_of
from everyflop.accounting.layouts import Layouts
from everyflop.planner.predict.fitting import PRIOR
from everyflop.planner.speed.cases import Cases, Constants
from everyflop.planner.speed.chip import Chip
from everyflop.planner.speed.step_time import step_time
from everyflop.spec.layout import Layout
from everyflop.spec.presets import preset

CHIP = Chip(
    bf16_flops=1e15,
    fp8_flops=2e15,
    matmul_share=0.8,
    mem_bytes_per_s=3e12,
    inside_bytes_per_s=4e11,
    between_bytes_per_s=5e10,
    domain=8,
    mem_gib=80,
    watts_per_tflops=0.7,
)
IDEAL = replace(PRIOR, **dict.fromkeys(("matmul", "expert_matmul", "attention"), 1.0), traffic=1e-12)


def times(layout: Layout, *, chip: Chip = CHIP, batch_seqs: int = 256, constants: Constants = PRIOR, **other) -> dict:
    dims = other.pop("dims", dims_of(preset("mixtral-8x7b")))
    cases = Cases(dims, chip, Layouts.of([layout]), seq_len=4096, batch_seqs=np.array([batch_seqs]), fp8=False)
    return {name: float(part[0]) for name, part in step_time(replace(cases, **other), constants).items()}


def total(layout: Layout, **other) -> float:
    return sum(times(layout, **other).values())


def test_on_an_ideal_chip_matmuls_take_their_flops_over_the_peak():
    found = times(Layout(ep=8, dp=8), constants=IDEAL)
    dims = dims_of(preset("mixtral-8x7b"))
    expert_flops = 6 * 32 * 2 * 3 * 4096 * 14336  # layers, chosen experts, three matrices; forward and backward

    assert found["experts"] == pytest.approx(expert_flops * 256 * 4096 / 8 / 0.8e15, rel=1e-3)
    assert found["matmul"] == pytest.approx(6 * 32 * dims.attention_weights * 256 * 4096 / 8 / 0.8e15, rel=1e-3)


@pytest.mark.parametrize(("recompute", "passes"), [("none", 3.5), ("selective", 4.0), ("full", 4.5)])
def test_attention_computes_its_scores_once_more_in_the_backward_pass(recompute, passes):
    # One pass: 32 layers and heads, 2 x 128 channels of query and key, as many of values, 2048 keys on average.
    found = times(Layout(dp=8, recompute=recompute), constants=replace(IDEAL, softmax=1e-12))["attention"]

    assert found == pytest.approx(passes * 2 * 32 * 32 * (128 + 128) * 2048 * 256 * 4096 / 8 / 0.8e15, rel=1e-3)


def test_each_predicted_token_more_passes_the_head_once_more():
    layout, constants = Layout(pp=1), replace(IDEAL, memory=1e9)
    plain = times(layout, constants=constants)["head"]
    more = times(layout, constants=constants, dims=replace(dims_of(preset("mixtral-8x7b")), extra_heads=1))["head"]

    assert plain == pytest.approx(6 * 256 * 4096 * 4096 * 32_000 / 0.8e15, rel=1e-3)
    assert more == pytest.approx(2 * plain, rel=1e-3)


def test_memory_traffic_slows_narrow_matmuls_down():
    # Experts get 4096 x 2 / 8 = 1024 tokens; gate, up and down are 14,336 wide, the model 4096. Ridge: 1e15 / 3e12.
    found = times(Layout(), constants=replace(IDEAL, traffic=0.5))["experts"]
    ideal = times(Layout(), constants=IDEAL)["experts"]

    assert found / ideal == pytest.approx(1 + 0.5 * 1000 / 3 * (2 / 1024 + 1 / 14_336 + 1 / 4096))


def test_gradients_hide_behind_the_last_micro_batch_and_zero3_behind_all():
    slow = replace(CHIP, inside_bytes_per_s=1e9)
    exposed = {name: times(Layout(dp=8, sharding=name), chip=slow)["data parallel"] for name in ("zero1", "zero3")}
    sent = {
        name: times(Layout(dp=8, sharding=name), chip=slow, overlaps=0)["data parallel"] for name in ("zero1", "zero3")
    }
    cover = sum(
        part for name, part in times(Layout(dp=8), chip=slow).items() if name not in ("data parallel", "optimizer")
    )

    # The smooth maximum of both, less what is hidden behind: (a^3 + b^3)^(1/3) - b
    assert exposed["zero1"] == pytest.approx((sent["zero1"] ** 3 + (cover / 32) ** 3) ** (1 / 3) - cover / 32)
    assert exposed["zero3"] == pytest.approx((sent["zero3"] ** 3 + cover**3) ** (1 / 3) - cover)


def test_recomputing_layers_costs_a_third_more_matmul():
    none, full = (times(Layout(recompute=policy))["matmul"] for policy in ("none", "full"))

    assert full == pytest.approx(none * 4 / 3)


def test_the_bubble_is_stages_less_one_over_micro_batches():
    found = times(Layout(pp=4, vpp=2), batch_seqs=24)
    busy = sum(found[name] for name in ("matmul", "experts", "attention", "memory-bound", "launches", "head"))
    busy += found["tensor parallel"] + found["expert parallel"]

    assert found["pipeline bubble"] == pytest.approx(busy * 3 / (2 * 24))


def test_fp8_halves_the_large_matmuls_and_not_attention():
    half = replace(PRIOR, matmul_fp8=1.0, traffic=1e-12)
    bf16, fp8 = (times(Layout(), constants=half, fp8=is_fp8) for is_fp8 in (False, True))

    assert fp8["matmul"] == pytest.approx(bf16["matmul"] / 2)
    assert fp8["attention"] == bf16["attention"]
    assert fp8["memory-bound"] > bf16["memory-bound"]  # inputs are quantised


def test_a_chip_without_fp8_computes_it_in_bf16():
    plain = replace(CHIP, fp8_flops=0.0)

    assert times(Layout(), chip=plain, fp8=True) == times(Layout(), chip=plain, fp8=False)


def test_unequal_experts_cost_their_matmuls_and_their_traffic():
    even, real = (times(Layout(ep=8, dp=8), imbalance=ratio) for ratio in (1.0, 1.2))

    assert real["experts"] == pytest.approx(1.2 * even["experts"])
    assert real["expert parallel"] == pytest.approx(1.2 * even["expert parallel"])
    assert real["matmul"] == even["matmul"]


def test_what_does_not_overlap_is_exposed_in_full():
    hidden, exposed = (total(Layout(tp=8, dp=2), overlaps=overlaps) for overlaps in (1, 0))

    assert exposed > hidden


def test_small_micro_batches_wait_for_the_host():
    fast = replace(CHIP, bf16_flops=1e17, mem_bytes_per_s=3e14, inside_bytes_per_s=4e14)
    launches = times(Layout(dp=8), chip=fast)["launches"]

    assert launches == pytest.approx(32 * 32 * PRIOR.moe_layer_ms / 1000, rel=0.1)  # micro-batches, layers


@given(st.sampled_from(["bf16_flops", "mem_bytes_per_s", "inside_bytes_per_s", "between_bytes_per_s"]))
def test_a_better_chip_is_never_slower(figure):
    # a higher peak raises the ridge with it, and watts per FLOP/s are given apart
    better = replace(CHIP, **{figure: 2 * getattr(CHIP, figure)})
    layout = Layout(tp=2, pp=2, ep=8, dp=16)

    assert total(layout, chip=better) <= total(layout) * (1 + 1e-9)


@given(st.integers(0, 4), st.integers(0, 3), st.sampled_from(["zero1", "zero3"]))
def test_all_parts_are_times(log_dp, log_pp, sharding):
    found = times(Layout(dp=2**log_dp, pp=2**log_pp, sharding=sharding))

    assert all(np.isfinite(part) and part >= 0 for part in found.values())


def test_with_free_links_a_device_is_as_fast_among_many_as_among_few():
    free = replace(CHIP, inside_bytes_per_s=1e30, between_bytes_per_s=1e30)
    even = replace(PRIOR, scale_loss=1e-12)
    few = total(Layout(dp=8, sharding="none"), chip=free, constants=even, batch_seqs=64)
    many = total(Layout(dp=512, sharding="none"), chip=free, constants=even, batch_seqs=64 * 64)

    assert many == pytest.approx(few)


@given(st.integers(0, 6), st.integers(0, 3))
def test_a_step_of_twice_the_batch_takes_at_most_twice_as_long(log_dp, log_pp):
    layout = Layout(dp=2**log_dp, pp=2**log_pp)
    once, twice = (total(layout, batch_seqs=batch) for batch in (1024, 2048))

    assert once < twice <= 2 * once * (1 + 1e-9)


def test_stragglers_cost_a_share_for_each_doubling_of_the_nodes():
    found = times(Layout(dp=64))
    rest = sum(found.values()) - found["stragglers"]

    assert found["stragglers"] == pytest.approx(rest * 0.01 * 3)  # 8 nodes are 3 doublings


def test_the_head_moves_layers_to_other_stages_only_as_far_as_that_evens_out():
    # Mixtral's head is short beside a layer: on two stages, half of it stays and the layers move.
    one, two = (times(Layout(pp=pp))["head"] for pp in (1, 2))

    assert one / 2 <= two <= one


def test_a_window_shortens_attention_and_nothing_else():
    dims = dims_of(preset("mixtral-8x7b"))
    full, windowed = (times(Layout(), dims=replace(dims, window=w, windowed_share=1)) for w in (4096, 1024))

    # 4096 / 2 keys on average, and 1024 less half of what the first tokens lack: 1024 - 1024^2 / 8192
    assert windowed["attention"] / full["attention"] == pytest.approx(896 / 2048)
    assert windowed["matmul"] == full["matmul"]


def test_constants_come_back_from_their_logarithms():
    assert Constants.from_vector(PRIOR.vector()).vector() == pytest.approx(PRIOR.vector())
