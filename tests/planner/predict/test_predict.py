"""One call for many layouts."""

from dataclasses import replace

import numpy as np
import pytest

from everyflop.accounting.dims import dims_of
from everyflop.accounting.layouts import Layouts
from everyflop.base.errors import UsageError
from everyflop.catalog.load import load_catalog
from everyflop.planner.predict.predict import Hardware, predict
from everyflop.planner.predict.predictor import load_predictor
from everyflop.planner.speed.chip import chip_of
from everyflop.spec.device import DeviceSpec
from everyflop.spec.layout import Layout
from everyflop.spec.measured import MeasuredSpeed
from everyflop.spec.presets import preset

MIXTRAL = preset("mixtral-8x7b")
DEVICE = load_catalog().find("h100-sxm")
HARDWARE = Hardware(DEVICE, 8, 400.0)


def found(*layouts: Layout, batch_seqs: int = 256, predictor=None):
    return predict(
        dims_of(MIXTRAL), HARDWARE, Layouts.of(layouts), seq_len=4096, batch_seqs=batch_seqs, predictor=predictor
    )


def speed_of(tokens_per_s: float, routing: str = "real", device: str = "h100-sxm") -> MeasuredSpeed:
    return MeasuredSpeed(
        device=device,
        date="2026-11-25",
        source="a test",
        model=MIXTRAL,
        seq_len=4096,
        batch_tokens=256 * 4096,
        layout=Layout(ep=8, dp=64),
        routing=routing,
        tokens_per_s_per_device=tokens_per_s,
    )


def test_parts_of_a_step_sum_to_it_and_make_its_speed():
    one = found(Layout(pp=4, ep=8, dp=16))

    assert sum(part[0] for part in one.parts_s.values()) == pytest.approx(one.step_s[0])
    assert one.tokens_per_s[0] * one.step_s[0] == pytest.approx(256 * 4096)


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(UsageError, match="batch_seqs = 0"):
        found(Layout(ep=8, dp=64), batch_seqs=0)


def test_a_device_that_proved_faster_is_predicted_faster():
    before = found(Layout(ep=8, dp=64)).tokens_per_s[0] / 64
    wiser = load_predictor().with_measured([speed_of(1.3 * before)], load_catalog())

    assert found(Layout(ep=8, dp=64), predictor=wiser).tokens_per_s[0] / 64 == pytest.approx(1.3 * before, rel=0.03)


def test_a_speed_with_balanced_experts_promises_less_than_the_same_with_real_routing():
    real, balanced = (
        found(
            Layout(ep=8, dp=64),
            predictor=load_predictor().with_measured([speed_of(3000.0, routing)], load_catalog()),
        ).tokens_per_s[0]
        for routing in ("real", "balanced")
    )

    assert balanced < real


def test_a_batch_must_divide_into_micro_batches():
    # 256 sequences on 32 replicas: 8 each
    three, four = (Layout(ep=8, pp=2, dp=32, recompute="full", micro_batch=m) for m in (3, 4))

    assert found(three, four).fits.tolist() == [False, True]


@pytest.mark.parametrize("layout", [Layout(tp=64, ep=8), Layout(ep=16, dp=64), Layout(pp=64, ep=8, dp=8)])
def test_a_layout_cannot_split_what_there_is_less_of(layout):
    # 32 heads, 8 experts, 32 layers
    assert not found(layout).fits[0]


def test_a_chip_nobody_measured_is_a_prior():
    made_up = DEVICE.model_copy(update={"name": "made-up", "architecture": "Else"})
    one = predict(dims_of(MIXTRAL), replace(HARDWARE, device=made_up), Layouts.of([Layout()]), seq_len=64, batch_seqs=8)

    assert one.basis.tolist() == ["prior"]
    assert found(Layout()).basis.tolist() != ["prior"]


def test_what_was_measured_itself_is_measured_and_not_fitted():
    wiser = load_predictor().with_measured([speed_of(3000)], load_catalog())

    assert found(Layout(ep=8, dp=64), predictor=wiser).basis.tolist() == ["measured"]
    assert found(Layout(ep=8, dp=64)).basis.tolist() == ["fitted"]


def test_devices_that_fast_links_do_not_connect_are_slower_together():
    layouts = Layouts.of([Layout(ep=8, dp=64)])
    whole, single = (
        predict(dims_of(MIXTRAL), Hardware(DEVICE, node, 10.0), layouts, seq_len=4096, batch_seqs=256)
        for node in (8, 1)
    )

    assert single.step_s[0] > 1.5 * whole.step_s[0]


def test_a_chip_is_in_bytes_and_flops_a_second_one_way():
    chip, assumed = chip_of(DEVICE, scale_out_gbit_per_s=400)

    assert chip.between_bytes_per_s == 5e10
    assert chip.inside_bytes_per_s == 450e9
    assert chip.bf16_flops == pytest.approx(989.5e12)
    assert assumed == ()


def test_every_figure_that_was_not_published_is_named():
    _, assumed = chip_of(DeviceSpec(name="bare", vendor="Nobody", bf16_tflops=100.0))

    words = ("power", "memory bandwidth", "links in a node", "matmul", "network", "devices in a node", "memory (GB)")
    assert all(any(word in sentence for sentence in assumed) for word in words)


def test_layouts_are_predicted_alike_together_and_alone():
    layouts = [Layout(ep=8, dp=64), Layout(tp=2, pp=4, ep=4, dp=8), Layout(dp=64, sharding="zero3")]
    together = found(*layouts)
    alone = [found(layout).step_s[0] for layout in layouts]

    assert np.allclose(together.step_s, alone)
