"""Measure the training step that a run would take on this device: exactly the loop's, on random tokens."""

import statistics
from dataclasses import dataclass

from everyflop.backend.device import Device
from everyflop.backend.memory import peak_gib
from everyflop.base.progress import OpenProgress
from everyflop.train.settings import Settled
from everyflop.train.timed_step import TimedStep

LEAST_STEPS, MOST_STEPS = 3, 100


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
    times_s = _times_s(settled, device, seconds, progress)
    step_s = statistics.median(times_s)
    return StepSpeed(settled, step_s, len(times_s), settled.batch_tokens / step_s, peak_gib(device.torch))


def _times_s(settled: Settled, device: Device, seconds: float, progress: OpenProgress) -> list[float]:
    step = TimedStep(settled, device)
    with progress("Warming up", total=1, unit="training step") as bar:
        first_s, _ = step()
        bar.advance()
    n_steps = min(max(round(seconds / first_s), LEAST_STEPS), MOST_STEPS)
    times_s: list[float] = []
    with progress("Timing", total=n_steps, unit="training steps") as bar:
        for _ in range(n_steps):
            times_s.append(step()[0])
            bar.advance()
    return times_s
