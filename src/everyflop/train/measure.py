"""Measure the device at hand: the training step of a run if there is one, matmuls, memory."""

from dataclasses import dataclass
from pathlib import Path

import torch

from everyflop.accounting.flops import trained_flops_per_token
from everyflop.backend.device import DTYPES, Device
from everyflop.backend.others import others_share, processor_use
from everyflop.backend.rates import memory_bytes_per_s
from everyflop.base.progress import OpenProgress
from everyflop.infer.load import read_spec
from everyflop.spec.run import RunSpec
from everyflop.train.matmuls import MatmulRate, measure_matmuls, model_shapes, square_shapes
from everyflop.train.settings import settle
from everyflop.train.step_speed import StepSpeed, measure_steps


@dataclass(frozen=True, slots=True)
class Measured:
    """What a device really does."""

    squares: list[MatmulRate]
    """In every type."""
    own: list[MatmulRate]
    """The shapes of the run's model, in the type that it trains in; none without a run."""
    memory_bytes_per_s: float
    step: StepSpeed | None
    """Of the run, if there is one."""
    others_share: float | None = None
    """Of the processor, used by other processes meanwhile; None where that is not known or does not matter."""

    def best_flops_per_s(self, precision: str) -> float:
        """Return the rate of the fastest square matmul in a type."""
        return max(rate.flops_per_s for rate in self.squares if rate.precision == precision)

    def matmul_share(self, step: StepSpeed) -> float:
        """Return the share of the best matmul that a step's model FLOPs reach."""
        flops = trained_flops_per_token(step.run.model, step.run.run.train.seq_len)
        return step.tokens_per_s * flops / self.best_flops_per_s(step.run.precision)


def measure(run: RunSpec | None, device: Device, *, seconds: float, progress: OpenProgress) -> Measured:
    """Measure each for about so many seconds, and longer where that is too short for one."""
    before = processor_use() if device.type == "cpu" else None
    settled = settle(run, run.model or read_spec(Path(run.init_from or "")), device) if run else None
    step, own = None, list[MatmulRate]()
    if settled:
        torch.set_num_threads(settled.threads)
        # First, since on the processor the peak of memory is that of the whole process so far.
        step = measure_steps(settled, device, seconds=seconds, progress=progress)
        shapes = model_shapes(settled.model, settled.micro_batch * settled.run.train.seq_len)
        own = measure_matmuls(shapes, settled.precision, device, seconds=seconds, progress=progress)
    squares: list[MatmulRate] = []
    for precision in DTYPES:
        share_s = seconds / len(DTYPES)
        squares += measure_matmuls(square_shapes(), precision, device, seconds=share_s, progress=progress)
    with progress("Memory", total=1, unit="measurement") as bar:
        bytes_per_s = memory_bytes_per_s(device.torch, seconds=seconds)
        bar.advance()
    return Measured(squares, own, bytes_per_s, step, others_share(before, processor_use()))
