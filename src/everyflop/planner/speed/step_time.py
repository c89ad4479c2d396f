"""Time of one optimizer step by component, for any layout, from sizes, rates and a few fitted constants.

Layers are layer_time.py's matter; here are the passes over them, the head, what is sent and how much of it computing
hides, the pipeline's bubble and the optimizer. The backward pass is two forward passes.
"""

import numpy as np

from everyflop.accounting.dims import Numbers
from everyflop.accounting.layouts import SHARDINGS, Layouts
from everyflop.accounting.shards import shard
from everyflop.accounting.traffic import Bytes, traffic
from everyflop.planner.speed.cases import Cases, Constants
from everyflop.planner.speed.chip import Chip
from everyflop.planner.speed.layer_time import forward_s, sustained_share

PIPELINE_EXPOSED = 0.2
"""Of the sends between stages; most happen while another micro-batch is computed."""

OPTIMIZER_BYTES = 16
"""Moved of each weight by AdamW, at the bandwidth of elementwise work."""


def step_time(cases: Cases, c: Constants) -> dict[str, np.ndarray]:
    """Return seconds of one step by component; they sum to the step's time."""
    layouts, chip, n_micro = cases.layouts, cases.chip, cases.n_micro
    parts = _layers(cases, c)
    # Whole layers move away from the stage with the head as far as that evens out.
    head_s, layer_s = _head(cases, c), _total(parts) / (n_micro * cases.dims.n_layers / layouts.pp)
    parts["head"] = n_micro * np.minimum(head_s, head_s / layouts.pp + layer_s / 2)
    sent_s = _sends(cases, c)
    overlaps = np.asarray(cases.overlaps, dtype=bool)
    parts["tensor parallel"] = np.where(overlaps, c.tensor_exposed, 1.0) * sent_s["tensor"]
    parts["expert parallel"] = np.where(overlaps, c.expert_exposed, 1.0) * sent_s["expert"] * cases.imbalance
    busy = _total(parts)
    parts["pipeline bubble"] = busy * (layouts.pp - 1) / (layouts.vpp * n_micro)
    parts["pipeline sends"] = np.where(overlaps, PIPELINE_EXPOSED, 1.0) * sent_s["pipeline"]
    exposed = _exposed(sent_s["data"], busy, layouts, n_micro)
    parts["data parallel"] = np.where(overlaps, exposed, sent_s["data"])
    parts["optimizer"] = OPTIMIZER_BYTES * _optimizer_weights(cases) / (chip.mem_bytes_per_s * c.memory)
    domains = np.maximum(layouts.devices / chip.domain, 1)
    parts["stragglers"] = _total(parts) * c.scale_loss * np.log2(domains)
    return parts


def _total(parts: dict[str, np.ndarray]) -> np.ndarray:
    return np.sum(list(parts.values()), axis=0)


def _layers(cases: Cases, c: Constants) -> dict[str, np.ndarray]:
    """Return seconds of all layers of a stage, all micro-batches, forward and backward, without what is sent."""
    recompute, held = cases.layouts.recompute, shard(cases.dims, cases.layouts)
    on_stage = cases.n_micro * held.layers
    forward = forward_s(cases, c, held.moe_share)
    again = np.choose(recompute, [0.0, 0.0, 1.0])
    passes = dict.fromkeys(forward, 3 + again)
    # Flash attention computes its scores again in the backward pass: 2.5 forward passes of it.
    passes["attention"] = 3.5 + np.choose(recompute, [0.0, 0.5, 1.0])
    parts = {name: on_stage * part * passes[name] for name, part in forward.items()}
    host_s = ((1 - held.moe_share) * c.layer_ms + held.moe_share * c.moe_layer_ms) / 1000
    parts["launches"] = on_stage * _hidden_rest(host_s, _total(parts) / on_stage)
    return parts


def _sends(cases: Cases, c: Constants) -> dict[str, np.ndarray]:
    """Return seconds that each kind of traffic takes on its links, hidden or not."""
    n_micro, domain = cases.n_micro, cases.chip.domain
    sent = traffic(cases.dims, cases.layouts, seq_len=cases.seq_len, n_micro=n_micro, domain=domain)
    sent["tensor"] = sent["tensor"].plus(sent.pop("context"))
    return {name: _send(volume, cases.chip, c) for name, volume in sent.items()}


def _head(cases: Cases, c: Constants) -> np.ndarray:
    """Return seconds of the output head, forward and backward, where it lies on the busiest stage."""
    dims, layouts, chip = cases.dims, cases.layouts, cases.chip
    tokens = cases.tokens
    peak = chip.bf16_flops * sustained_share(chip, c) * c.matmul
    product = 6 * tokens * dims.hidden * dims.vocab / layouts.tp / peak * (1 + dims.extra_heads)
    softmax = 20 * tokens * dims.vocab / layouts.tp / (chip.mem_bytes_per_s * c.memory)
    return product + softmax


def _send(sent: Bytes, chip: Chip, c: Constants) -> np.ndarray:
    return sent.inside / (chip.inside_bytes_per_s * c.inside) + sent.between / (chip.between_bytes_per_s * c.between)


def _exposed(send_s: np.ndarray, busy_s: np.ndarray, layouts: Layouts, n_micro: np.ndarray) -> np.ndarray:
    """Return what is not hidden behind computing: zero3 sends all along, otherwise around the last micro-batch."""
    zero3 = layouts.sharding == SHARDINGS.index("zero3")
    cover = np.where(zero3, busy_s, busy_s / n_micro)
    return _hidden_rest(send_s, cover)


def _hidden_rest(short_s: Numbers, long_s: np.ndarray) -> np.ndarray:
    """Return what one of two overlapping works adds to the other: a smooth maximum less the other."""
    return np.maximum((short_s**3 + long_s**3) ** (1 / 3) - long_s, 0.0)  # rounding may take it below


def _optimizer_weights(cases: Cases) -> np.ndarray:
    layouts = cases.layouts
    held = shard(cases.dims, layouts)
    dense = (held.shared_by_dp + held.tables) / np.where(layouts.sharding > 0, layouts.dp * layouts.cp, 1)
    return dense + held.experts / np.where(layouts.sharding > 0, layouts.edp, 1)
