"""Say what is about to happen before anything long starts: what, where, how long, for how much."""

import time
from dataclasses import dataclass

import numpy as np

from everyflop.accounting.flops import flops_per_token
from everyflop.accounting.parameters import count_parameters
from everyflop.backend.device import DTYPES, Device, synchronize
from everyflop.backend.rates import matmul_flops_per_s
from everyflop.base.units import TERA, money, short_count, short_time
from everyflop.model.transformer import CausalLM
from everyflop.spec.run import RunSpec
from everyflop.train.meter import Meter
from everyflop.train.random_windows import random_windows
from everyflop.train.settings import Settled
from everyflop.train.state import RouterLogits
from everyflop.train.step import LocalStep

MEASURE_S = 2.0
"""How long to measure training speed; the first pass is left out, since it warms caches."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a short measurement on this machine says about a run."""

    tokens_per_s: float
    peak_flops_per_s: float
    """Measured matmul rate in the run's compute type."""


def forecast(settled: Settled, model: CausalLM, device: Device) -> Forecast:
    """Train on random tokens for MEASURE_S without changing the model, and measure the matmul rate."""
    run = settled.run
    peak = matmul_flops_per_s(device.torch, DTYPES[settled.precision])
    step = LocalStep(model, run.router, seed=run.run.seed, device=device.torch)
    logits = RouterLogits.fresh(len(model.routers), device.torch)
    batch = random_windows(model.spec.vocab_size, settled.micro_batch, seq_len=run.train.seq_len)
    passes: list[float] = []
    while len(passes) < 2 or sum(passes) < MEASURE_S:
        started = time.perf_counter()
        step.forward_backward([batch], step=0, logits=logits)
        synchronize(device.torch)
        passes.append(time.perf_counter() - started)
    model.zero_grad(set_to_none=True)
    return Forecast(batch.inputs_BT.size / float(np.median(passes[1:])), peak)


def meter_of(settled: Settled, measured: Forecast) -> Meter:
    """Return the meter that charges the run."""
    run = settled.run
    return Meter(run.money, flops_per_token(settled.model, run.train.seq_len).training, measured.peak_flops_per_s)


def first_screen(settled: Settled, device: Device, measured: Forecast, tokens_left: int) -> list[tuple[str, str]]:
    """Return labelled lines for a run with `tokens_left` to train."""
    run, model, meter = settled.run, settled.model, meter_of(settled, measured)
    count = count_parameters(model)
    seconds = tokens_left / measured.tokens_per_s
    return [
        ("run", f"{run.run.name}, seed {run.run.seed}"),
        (
            "model",
            f"{model.family}: {short_count(count.total)} parameters, {short_count(count.active)} active a token, "
            f"{model.n_layers} layers, {model.n_experts} experts, {model.experts_per_token} chosen"
            + (f" + {model.n_shared_experts} shared" if model.n_shared_experts else ""),
        ),
        ("device", f"{device.name}, {settled.threads} thread{'s' if settled.threads > 1 else ''}"),
        (
            "precision",
            f"{settled.precision} compute, fp32 parameters; "
            f"{measured.peak_flops_per_s / TERA:.2f} TFLOP/s measured in matmul",
        ),
        (
            "training",
            f"{short_count(tokens_left)} tokens in batches of {settled.batch_tokens:,} "
            f"({settled.micro_batch} x {run.train.seq_len} at once), peak learning rate {settled.peak_lr:.2g}"
            + (f". From the scaling law: {settled.law_note}" if settled.law_note else ""),
        ),
        ("data", ", ".join(source.path for source in run.data.sources)),
        (
            "time",
            f"about {short_time(seconds)} of training: {short_count(measured.tokens_per_s)} tokens/s measured, "
            f"MFU {100 * meter.mfu(measured.tokens_per_s):.0f} %",
        ),
        ("cost", _cost_line(run, meter, seconds)),
        ("writes to", str(run.dir)),
    ]


def _cost_line(run: RunSpec, meter: Meter, seconds: float) -> str:
    amount = meter.cost(seconds)
    if amount is None:
        return "unknown: set money.price_per_device_hour"
    kind = "an example price of " if run.money.example else ""
    price = f"{run.money.price_per_device_hour:g} {run.money.currency} an hour"
    return f"about {money(amount, run.money.currency)} at {kind}{price}"
