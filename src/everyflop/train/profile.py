"""Time the training step of a run and say where it goes: exactly the loop's step, on random tokens of a fixed seed."""

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from torch.autograd import DeviceType
from torch.profiler import profile as recorded

from everyflop.accounting.flops import flops_per_token, trained_flops_per_token
from everyflop.accounting.parameters import count_parameters
from everyflop.backend.device import DTYPES, Device
from everyflop.backend.memory import peak_gib
from everyflop.backend.rates import matmul_flops_per_s
from everyflop.base.progress import OpenProgress
from everyflop.spec.model import ModelSpec
from everyflop.train.settings import Settled
from everyflop.train.timed_step import TimedStep

OWNERS = {
    "everyflop::attention": "attention",
    "aten::scaled_dot_product_attention": "attention",
    "aten::_scaled_dot_product": "attention",
    "everyflop::experts": "experts",
    "everyflop::linear_cross_entropy": "head and loss",
    "Optimizer.step": "optimizer",
    "aten::_fused_adamw_": "optimizer",
    "aten::mm": "matmul",
    "aten::addmm": "matmul",
    "aten::linear": "matmul",
    "mkldnn": "matmul",
}
"""Beginnings of operations' names -> component. What no owner called is elementwise, copies and indexing."""
REST = "elementwise, copies, indexing"


@dataclass(frozen=True, slots=True)
class StepProfile:
    """What some steps took, and one of them by component."""

    step_s: list[float]
    losses: list[float]
    tokens_per_s: float
    """At the median of all steps but the first, which compiles and warms caches."""
    mfu: float
    """Share of peak_flops_per_s."""
    peak_flops_per_s: float
    """Measured in large matmuls of the type that the step computes in."""
    peak_rss_gib: float
    params: int
    parts_s: dict[str, float]
    """Of one step more, with every operation recorded, scaled to the median step."""
    roofline_s: dict[str, float]
    """What the FLOPs of a component would take at the peak."""


def profile_steps(settled: Settled, device: Device, *, steps: int, progress: OpenProgress) -> StepProfile:
    """Do `steps` steps and one more under a recorder. steps is 2 at least."""
    step, timed = TimedStep(settled, device), list[tuple[float, float]]()
    with progress("Training", total=steps + 1, unit="steps") as bar:
        for _ in range(steps):
            timed.append(step())
            bar.advance()
        peak_rss = peak_gib(device.torch)
        with recorded() as trace:
            step()
        bar.advance()
    step_s, losses = ([pair[i] for pair in timed] for i in (0, 1))
    median_s = statistics.median(step_s[1:])
    peak = matmul_flops_per_s(device.torch, DTYPES[settled.precision])
    flops = trained_flops_per_token(settled.model, settled.run.train.seq_len)
    return StepProfile(
        step_s=step_s,
        losses=losses,
        tokens_per_s=settled.batch_tokens / median_s,
        mfu=settled.batch_tokens / median_s * flops / peak,
        peak_flops_per_s=peak,
        peak_rss_gib=peak_rss,
        params=count_parameters(settled.model).total,
        parts_s=_parts(trace.events() or [], median_s),
        roofline_s=roofline(settled.model, settled.run.train.seq_len, settled.batch_tokens, peak),
    )


def roofline(model: ModelSpec, seq_len: int, tokens: int, flops_per_s: float) -> dict[str, float]:
    """Return the seconds that each component's FLOPs take at a rate, forward and backward."""
    flops = flops_per_token(model, seq_len)
    dense = flops.attention_projections + flops.dense + flops.shared + flops.router
    parts = {"matmul": dense, "experts": flops.routed, "attention": flops.attention_scores, "head and loss": flops.head}
    return {name: 3 * part * tokens / flops_per_s for name, part in parts.items()}


def _parts(events: Iterable[Any], step_s: float) -> dict[str, float]:
    """Return each component's share of a step, from the operations of one that was recorded.

    On an accelerator an operation's time is that of its kernels, which are events of their own as well; what the host
    does meanwhile, such as waiting, is no part of it.
    """
    operations = [event for event in events if event.device_type == DeviceType.CPU]
    on_device = any(event.self_device_time_total for event in operations)
    parts: dict[str, float] = {}
    for event in operations:
        spent_us = event.self_device_time_total if on_device else event.self_cpu_time_total
        parts[component(event)] = parts.get(component(event), 0.0) + spent_us
    total = sum(parts.values())
    return {name: part / total * step_s for name, part in parts.items()}


def component(event: Any) -> str:
    """Return the component of an operation: that of the outermost of its callers that has one."""
    found, caller = REST, event
    while caller is not None:
        found = next((owner for beginning, owner in OWNERS.items() if caller.name.startswith(beginning)), found)
        caller = caller.cpu_parent
    return found


def as_json(found: StepProfile) -> dict[str, Any]:
    """Return a profile as `everyflop profile --json` writes it."""
    return asdict(found)
