"""Time the training step of a run and say where it goes: exactly the loop's step, on random tokens of a fixed seed."""

import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch.profiler import profile as recorded

from everyflop.accounting.flops import flops_per_token
from everyflop.accounting.parameters import count_parameters
from everyflop.backend.device import DTYPES, Device, synchronize
from everyflop.backend.memory import forget_peak, peak_gib
from everyflop.backend.rates import matmul_flops_per_s
from everyflop.base.progress import OpenProgress
from everyflop.spec.model import ModelSpec
from everyflop.train.random_windows import random_windows
from everyflop.train.session import build_run_model, build_session
from everyflop.train.settings import Settled
from everyflop.train.update import attempt_step

OWNERS = {
    "everyflop::blocked_attention": "attention",
    "aten::scaled_dot_product_attention": "attention",
    "aten::_scaled_dot_product": "attention",
    "everyflop::rows_times": "experts",
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
OUTSIDE = "between operations"
"""Of a step's time, what no operation accounts for: the interpreter, and waiting."""


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
    forget_peak(device.torch)
    session = build_session(settled, build_run_model(settled, device), device)
    batch = random_windows(
        settled.model.vocab_size, settled.batch_tokens // settled.run.train.seq_len, seq_len=settled.run.train.seq_len
    )
    step_s, losses = list[float](), list[float]()

    def step() -> None:
        losses.append(attempt_step(session, batch, lr=settled.peak_lr).loss)
        synchronize(device.torch)

    with progress("Training", total=steps + 1, unit="steps") as bar:
        for _ in range(steps):
            began_s = time.perf_counter()
            step()
            step_s.append(time.perf_counter() - began_s)
            bar.advance()
        peak_rss = peak_gib(device.torch)
        with recorded() as trace:
            step()
        bar.advance()
    median_s = statistics.median(step_s[1:])
    peak = matmul_flops_per_s(device.torch, DTYPES[settled.precision])
    return StepProfile(
        step_s=step_s,
        losses=losses[:steps],
        tokens_per_s=settled.batch_tokens / median_s,
        mfu=settled.batch_tokens / median_s * _training_flops(settled) / peak,
        peak_flops_per_s=peak,
        peak_rss_gib=peak_rss,
        params=count_parameters(settled.model).total,
        parts_s=_parts(trace.events() or (), median_s),
        roofline_s=roofline(settled.model, settled.run.train.seq_len, settled.batch_tokens, peak),
    )


def roofline(model: ModelSpec, seq_len: int, tokens: int, flops_per_s: float) -> dict[str, float]:
    """Return the seconds that each component's FLOPs take at a rate, forward and backward."""
    flops = flops_per_token(model, seq_len)
    dense = flops.attention_projections + flops.dense + flops.shared + flops.router
    parts = {"matmul": dense, "experts": flops.routed, "attention": flops.attention_scores, "head and loss": flops.head}
    return {name: 3 * part * tokens / flops_per_s for name, part in parts.items()}


def _training_flops(settled: Settled) -> float:
    return flops_per_token(settled.model, settled.run.train.seq_len).training


def _parts(events: Iterable[Any], step_s: float) -> dict[str, float]:
    """Return each component's share of a step, from the operations of one that was recorded."""
    parts: dict[str, float] = {}
    for event in events:
        spent_us = event.self_device_time_total or event.self_cpu_time_total
        parts[component(event)] = parts.get(component(event), 0.0) + spent_us
    total = sum(parts.values())
    return {name: part / total * step_s for name, part in parts.items()} if total else {OUTSIDE: step_s}


def component(event: Any) -> str:
    """Return the component of an operation: that of the outermost of its callers that has one."""
    found, caller = REST, event
    while caller is not None:
        found = next((owner for beginning, owner in OWNERS.items() if caller.name.startswith(beginning)), found)
        caller = caller.cpu_parent
    return found


def as_json(found: StepProfile) -> Mapping[str, Any]:
    """Return a profile as `everyflop profile --json` writes it."""
    names = ("tokens_per_s", "step_s", "losses", "mfu", "peak_rss_gib", "params", "peak_flops_per_s")
    return {name: getattr(found, name) for name in names} | {
        "parts_s": found.parts_s,
        "roofline_s": found.roofline_s,
    }
