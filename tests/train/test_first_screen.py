import itertools

import pytest
import torch

from everyflop.model.build import build_model
from everyflop.train import first_screen as screen
from everyflop.train.first_screen import Forecast, first_screen, forecast, islands_screen, meter_of
from everyflop.train.timed_step import TimedStep

MEASURED = Forecast(tokens_per_s=1000.0, peak_flops_per_s=2e12)


def text_of(settled, device, tokens_left: int = 90_000) -> dict[str, str]:
    return dict(first_screen(settled, device, MEASURED, tokens_left))


def test_the_model_line_counts_parameters_and_active_parameters(make_settled, device):
    # Embedding and head: 2 x 320 x 32 = 20,480. Each layer: QKV 64 x 32 and output 32 x 32, two norms of 32 and two of
    # 16: 3,168. Dense part: 3 x 64 x 32 = 6,144. Four experts and a shared one of 3 x 16 x 32 = 1,536, router 4 x 32.
    # Last norm: 32. Together 40,800; two experts less are active.
    assert text_of(make_settled(), device)["model"] == (
        "ling-v2: 40.8 K parameters, 37.7 K active a token, 2 layers, 4 experts, 2 chosen + 1 shared"
    )


def test_the_time_is_what_the_measured_speed_needs_for_the_tokens_left(make_settled, device):
    assert text_of(make_settled(), device)["time"].startswith("about 1 min 30 s of training: 1.00 K tokens/s measured")


def test_the_cost_is_that_of_the_time_at_the_price(make_settled, device):
    money = {"currency": "CNY", "price_per_device_hour": 20.0}

    assert text_of(make_settled(money=money), device)["cost"] == "about 0.5 CNY at 20 CNY an hour"  # 90 s
    assert "an example price of 20 CNY" in text_of(make_settled(money={**money, "example": True}), device)["cost"]


def test_without_a_price_the_cost_is_unknown_and_the_key_is_named(make_settled, device):
    assert text_of(make_settled(), device)["cost"] == "unknown: set money.price_per_device_hour"


def test_device_precision_batches_data_and_directory_are_shown(make_settled, device, stories, tmp_path):
    text = text_of(make_settled(), device)

    assert text["device"] == "a processor, 1 thread"
    assert text["precision"] == "fp32 compute, fp32 parameters; 2.00 TFLOP/s measured in matmul"
    assert text["training"] == ("90.0 K tokens in batches of 256 (4 x 32 at once), peak learning rate 0.01")
    assert text["data"] == str(stories)
    assert text["writes to"] == str(tmp_path / "runs" / "tiny")


def test_the_meter_counts_the_models_training_flops(make_settled):
    meter = meter_of(make_settled(), MEASURED)

    # 37,728 active parameters less 10,240 of the embedding and 224 of norms are matrices: 6 FLOPs each. Attention,
    # halved for causality: 2 layers x 2 matmuls x 2 heads x 16 channels x 32 positions, times 3 for the backward pass.
    assert meter.flops_per_token == pytest.approx(6 * 27_264 + 3 * 2 * 2 * 2 * 16 * 32)


def test_measuring_leaves_the_model_as_it_was(make_settled, device, monkeypatch):
    monkeypatch.setattr(screen, "MEASURE_S", 0.0)
    settled = make_settled()
    model = build_model(settled.model, seed=0, device=device.torch, compute_dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measured = forecast(settled, model, device)

    assert measured.tokens_per_s > 0
    assert measured.peak_flops_per_s > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_speed_is_measured_by_the_clock_that_is_given(make_settled, device, monkeypatch):
    monkeypatch.setattr(screen, "MEASURE_S", 0.0)
    settled, ticks = make_settled(), itertools.count()
    model = build_model(settled.model, seed=0, device=device.torch, compute_dtype=torch.float32)

    # A pass is from one tick to the next, and has four windows of 32.
    assert forecast(settled, model, device, now_s=lambda: float(next(ticks))).tokens_per_s == 4 * 32


def test_what_is_measured_is_a_step_after_the_warm_up_with_noise(make_settled, device, monkeypatch):
    settled = make_settled(router={"noise_warmup_steps": 10})
    monkeypatch.setattr(screen, "MEASURE_S", 0.0)
    monkeypatch.setattr("everyflop.train.step.RoutingNoise", None)  # cannot be made

    model = build_model(settled.model, seed=0, device=device.torch, compute_dtype=torch.float32)

    assert forecast(settled, model, device).tokens_per_s > 0
    assert TimedStep(settled, device)()[0] > 0


def test_islands_are_shown_with_their_threads_prices_and_all_that_is_made_up(make_settled, device):
    islands = [
        {"name": "fast", "price_per_device_hour": 3.0},
        {"name": "slow", "slowdown": 1.5, "link_latency_ms": 5.0},
        {"name": "odd", "numerics": "split"},
    ]
    money = {"currency": "CNY", "price_per_device_hour": 4.0, "example": True}
    settled = make_settled(island=islands, islands={}, money=money, train={"compile": "off"})
    text = dict(islands_screen(settled, device, {"fast": 2, "slow": 1, "odd": 1}))

    assert text["  fast"] == "2 threads, an example price of 3 CNY a device and hour"
    assert text["  slow"] == (
        "1 thread, an example price of 4 CNY a device and hour, simulated: slowed to 1/1.5 and a thinner link"
    )
    assert text["  odd"].endswith("simulated: another device's numerics")
    assert text["device"] == "a processor"
    assert {"run", "model", "precision", "training", "data", "writes to"} < set(text)


@pytest.mark.parametrize(
    ("islands", "said"),
    [
        ({"steps": 1}, "gradients at every step"),
        ({"steps": 8, "sync_share": 0.5}, "gradients at every step of the first 1.54 K tokens, then weights every 8 "),
        ({"steps": 8, "sync_share": 0, "rounds": "steps"}, "weights every 8 steps on average"),
        ({"steps": 8, "sync_share": 0}, "weights every 8 steps on average, by the clock"),
        ({"steps": "auto", "sync_share": 0}, "weights after as many steps as pay"),
    ],
)
def test_how_islands_exchange_is_said(make_settled, device, islands, said):
    settled = make_settled(island=[{"name": "a"}, {"name": "b"}], islands=islands)
    exchange = dict(islands_screen(settled, device, {"a": 1, "b": 1}))["exchange"]

    assert exchange.startswith(said)
    assert ("clock" in exchange) == ("clock" in said or "then" in said)
