"""Say what is about to happen before anything long starts: what, where, how long, for how much."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from everyflop.accounting.flops import trained_flops_per_token
from everyflop.accounting.parameters import count_parameters
from everyflop.backend.device import DTYPES, Device, synchronize
from everyflop.backend.rates import matmul_flops_per_s
from everyflop.base.units import TERA, money, short_count, short_time
from everyflop.model.transformer import CausalLM
from everyflop.spec.islands import IslandSpec
from everyflop.spec.run import RunSpec
from everyflop.train.bill import price_of
from everyflop.train.meter import Meter
from everyflop.train.random_windows import random_windows
from everyflop.train.settings import Settled
from everyflop.train.state import RouterLogits
from everyflop.train.step import LocalStep
from everyflop.train.update import memory_explained

MEASURE_S = 2.0
"""How long to measure training speed; the first pass is left out, since it warms caches."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a short measurement on this machine says about a run."""

    tokens_per_s: float
    peak_flops_per_s: float
    """Measured matmul rate in the run's compute type."""


def forecast(
    settled: Settled, model: CausalLM, device: Device, *, now_s: Callable[[], float] = time.perf_counter
) -> Forecast:
    """Train on random tokens for MEASURE_S without changing the model, and measure the matmul rate.

    A step is one after the routers' warm-up with noise, whose steps are few and slower.
    `now_s` is the clock that a pass is measured by.
    """
    run = settled.run
    peak = matmul_flops_per_s(device.torch, DTYPES[settled.precision])
    step = LocalStep(model, run.router, seed=run.run.seed, device=device.torch)
    logits = RouterLogits.fresh(len(model.routers), device.torch)
    batch = random_windows(model.spec.vocab_size, settled.micro_batch, seq_len=run.train.seq_len)
    passes, end_s = list[float](), time.perf_counter() + MEASURE_S
    with memory_explained(settled.micro_batch):
        while len(passes) < 2 or time.perf_counter() < end_s:
            started_s = now_s()
            step.forward_backward([batch], step=run.router.noise_warmup_steps, logits=logits)
            synchronize(device.torch)
            passes.append(now_s() - started_s)
    model.zero_grad(set_to_none=True)
    return Forecast(batch.inputs_BT.size / float(np.median(passes[1:])), peak)


def meter_of(settled: Settled, measured: Forecast) -> Meter:
    """Return the meter that charges the run."""
    run = settled.run
    return Meter(run.money, trained_flops_per_token(settled.model, run.train.seq_len), measured.peak_flops_per_s)


def first_screen(settled: Settled, device: Device, measured: Forecast, tokens_left: int) -> list[tuple[str, str]]:
    """Return labelled lines for a run with `tokens_left` to train."""
    run, meter = settled.run, meter_of(settled, measured)
    seconds = tokens_left / measured.tokens_per_s
    return [
        *_model_lines(settled),
        ("device", f"{device.name}, {_threads(settled.threads)}"),
        (
            "precision",
            f"{settled.precision} compute, fp32 parameters; "
            f"{measured.peak_flops_per_s / TERA:.2f} TFLOP/s measured in matmul",
        ),
        *_training_lines(settled, tokens_left),
        (
            "time",
            f"about {short_time(seconds)} of training: {short_count(measured.tokens_per_s)} tokens/s measured, "
            f"MFU {100 * meter.mfu(measured.tokens_per_s):.0f} %",
        ),
        ("cost", _cost_line(run, meter, seconds)),
        ("writes to", str(run.dir)),
    ]


def islands_screen(settled: Settled, device: Device, threads: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return labelled lines for a run whose islands have these threads and start on this machine.

    How long it takes and what it costs is for the islands to say, once they have measured themselves.
    """
    run = settled.run
    return [
        *_model_lines(settled),
        ("device", device.name),
        *((f"  {one.name}", _island_line(one, run, threads[one.name])) for one in run.island),
        ("exchange", _exchange_line(run)),
        ("precision", f"{settled.precision} compute, fp32 parameters"),
        *_training_lines(settled, run.train.tokens),
        ("writes to", str(run.dir)),
    ]


def show_lines(lines: Sequence[tuple[str, str]], stream: TextIO) -> None:
    """Print labelled lines."""
    table = Table.grid(padding=(0, 2))
    for label, text in lines:
        table.add_row(f"[bold]{label}", Text(text))  # Text: a path such as data/[a-z]*.txt is no markup
    Console(file=stream, highlight=False).print(table)


def _model_lines(settled: Settled) -> list[tuple[str, str]]:
    run, model, count = settled.run.run, settled.model, count_parameters(settled.model)
    shared = f" + {model.n_shared_experts} shared" if model.n_shared_experts else ""
    text = (
        f"{model.family}: {short_count(count.total)} parameters, {short_count(count.active)} active a token, "
        f"{model.n_layers} layers, {model.n_experts} experts, {model.experts_per_token} chosen{shared}"
    )
    return [("run", f"{run.name}, seed {run.seed}"), ("model", text)]


def _training_lines(settled: Settled, tokens_left: int) -> list[tuple[str, str]]:
    run = settled.run
    law = f". From the scaling law: {settled.law_note}" if settled.law_note else ""
    text = (
        f"{short_count(tokens_left)} tokens in batches of {settled.batch_tokens:,} "
        f"({settled.micro_batch} x {run.train.seq_len} at once), peak learning rate {settled.peak_lr:.2g}{law}"
    )
    return [("training", text), ("data", ", ".join(source.path for source in run.data.sources))]


def _island_line(island: IslandSpec, run: RunSpec, threads: int) -> str:
    price, made_up = price_of(island, run), []
    if island.slowdown > 1:
        made_up.append(f"slowed to 1/{island.slowdown:g}")
    if island.numerics != "own":
        made_up.append("another device's numerics")
    if island.thin_link:
        made_up.append("a thinner link")
    kind = "an example price of " if run.money.example else ""
    cost = "no price" if price is None else f"{kind}{price:g} {run.money.currency} a device and hour"
    return ", ".join([_threads(threads), cost, *([f"simulated: {' and '.join(made_up)}"] if made_up else [])])


def _exchange_line(run: RunSpec) -> str:
    how, start = run.islands, run.islands.sync_share * run.train.tokens
    if how.steps == 1:
        return "gradients at every step"
    first = f"gradients at every step of the first {short_count(start)} tokens, then " if start else ""
    if how.steps == "auto":
        return f"{first}weights after as many steps as pay"
    return f"{first}weights every {how.steps} steps on average" + (", by the clock" * (how.rounds == "clock"))


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _cost_line(run: RunSpec, meter: Meter, seconds: float) -> str:
    amount = meter.cost(seconds)
    if amount is None:
        return "unknown: set money.price_per_device_hour"
    kind = "an example price of " if run.money.example else ""
    price = f"{run.money.price_per_device_hour:g} {run.money.currency} an hour"
    return f"about {money(amount, run.money.currency)} at {kind}{price}"
