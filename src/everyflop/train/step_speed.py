"""Measure the training step that a run would take on this device: exactly the loop's, on random tokens."""

import statistics
import time
from dataclasses import dataclass

import torch

from everyflop.accounting.parameters import count_parameters
from everyflop.backend.device import Device, synchronize
from everyflop.backend.memory import forget_peak, peak_gib, total_bytes
from everyflop.base.errors import ExpectedNo
from everyflop.base.progress import OpenProgress
from everyflop.base.units import GIB
from everyflop.spec.model import ModelSpec
from everyflop.train.random_windows import random_windows
from everyflop.train.session import build_run_model, build_session
from everyflop.train.settings import Settled
from everyflop.train.update import attempt_step

LEAST_STEPS, MOST_STEPS = 3, 100
BYTES_PER_PARAMETER = 16
"""fp32 weights, gradients and two moments of AdamW: the least that training holds."""


@dataclass(frozen=True, slots=True)
class StepSpeed:
    """How fast the training step of a run is on one device."""

    run: Settled
    step_s: float
    """Median of `steps`; a first one, which warms caches, is left out."""
    steps: int
    tokens_per_s: float
    peak_mem_gib: float


def measure_steps(settled: Settled, device: Device, *, seconds: float, progress: OpenProgress) -> StepSpeed:
    """Train on random tokens with a run's model, batch and micro-batch, for about so long, and time each step.

    Raises ExpectedNo where the device's memory is too small.
    """
    _refuse_too_large(settled.model, device)
    forget_peak(device.torch)
    try:
        times_s = _times_s(settled, device, seconds, progress)
    except torch.OutOfMemoryError as error:
        raise ExpectedNo(
            f"the training step does not fit into the memory of {device.name}: {str(error).splitlines()[0]} "
            f"Lower train.micro_batch = {settled.micro_batch}, or set train.recompute=layer."
        ) from None
    step_s = statistics.median(times_s)
    return StepSpeed(settled, step_s, len(times_s), settled.batch_tokens / step_s, peak_gib(device.torch))


def _times_s(settled: Settled, device: Device, seconds: float, progress: OpenProgress) -> list[float]:
    session = build_session(settled, build_run_model(settled, device), device)
    seq_len = settled.run.train.seq_len
    batch = random_windows(settled.model.vocab_size, settled.batch_tokens // seq_len, seq_len=seq_len)

    def timed_step() -> float:
        started_s = time.perf_counter()
        attempt_step(session, batch, lr=settled.peak_lr)
        synchronize(device.torch)
        return time.perf_counter() - started_s

    with progress("Warming up", total=1, unit="training step") as bar:
        first_s = timed_step()
        bar.advance()
    n_steps = min(max(round(seconds / first_s), LEAST_STEPS), MOST_STEPS)
    times_s: list[float] = []
    with progress("Timing", total=n_steps, unit="training steps") as bar:
        for _ in range(n_steps):
            times_s.append(timed_step())
            bar.advance()
    return times_s


def _refuse_too_large(model: ModelSpec, device: Device) -> None:
    count = count_parameters(model)
    needed, there = BYTES_PER_PARAMETER * (count.total + count.mtp), total_bytes(device.torch)
    if needed > there:
        raise ExpectedNo(
            f"weights, gradients and optimizer state need {needed / GIB:.1f} GiB, and {device.name} has "
            f"{there / GIB:.1f} GiB. Measure a slice of the model instead, with its own widths: "
            f"lower model.n_layers = {model.n_layers} or model.n_experts = {model.n_experts}."
        )
