"""Time of one optimizer step by component, for any layout, from sizes, rates and a few fitted constants.

A matmul of M x K by K x N takes 2MNK / (peak x share) x (1 + ridge x traffic x (1/M + 1/N + 1/K)): what is left of the
peak, and the memory traffic that hides behind it only partly; `ridge` is peak over memory bandwidth. Attention's inner
products, elementwise work, and communication each have their own rate. The backward pass is two forward passes.
"""

from dataclasses import dataclass, fields

import numpy as np

from everyflop.accounting.dims import Dims, Numbers
from everyflop.accounting.layouts import SHARDINGS, Layouts
from everyflop.accounting.memory import BF16
from everyflop.accounting.shards import shard
from everyflop.accounting.traffic import Bytes, traffic
from everyflop.planner.chip import Chip

USUAL_WATTS_PER_TFLOPS = 0.7
"""An H100 SXM: 700 W for 989 TFLOP/s."""

PIPELINE_EXPOSED = 0.2
"""Of the sends between stages; most happen while another micro-batch is computed."""

WEIGHT_TRAFFIC = 2.0
"""Bytes moved of a weight over those of an activation: gradients accumulate in fp32, read and written each time."""


@dataclass(frozen=True, slots=True)
class Constants:
    """The fitted constants; all are positive. Their provenance is in catalog/efficiency.toml."""

    matmul: float
    """Of what the best matmul of the chip reaches, what a training step's matmuls reach at infinite size."""
    matmul_fp8: float
    """The same in fp8, relative to bf16's."""
    traffic: float
    """Weight of memory traffic beside matmuls."""
    expert_matmul: float
    """Grouped matmuls of experts, relative to plain ones."""
    attention: float
    """Attention's inner products, relative to large matmuls."""
    plain_attention: float
    """Attention's time with portable kernels over that with a vendor's own."""
    softmax: float
    """Bytes of memory traffic that take as long as one score's exponential: it runs on units that grow like memory
    bandwidth from chip to chip, not like the matmul peak."""
    memory: float
    """Elementwise work, as a share of the memory bandwidth."""
    unfused: float
    """Its memory traffic without a compiler or fused kernels, over that with them."""
    inside: float
    """Links inside a domain, as a share of their bandwidth."""
    between: float
    """Network, as a share of its bandwidth."""
    tensor_exposed: float
    """Share of tensor and context parallel traffic that computing does not hide."""
    expert_exposed: float
    layer_ms: float
    """Launching a dense layer's kernels from the host, forward and backward."""
    moe_layer_ms: float
    """The same for a layer with experts."""
    power: float
    """Exponent of watts per peak FLOP/s: a device with less power for its peak holds less of it in a long run."""
    scale_loss: float
    """Slow-down for each doubling of the domains: jitter, congestion, stragglers."""

    def vector(self) -> np.ndarray:
        """Return the logarithms, for fitting."""
        return np.log([getattr(self, f.name) for f in fields(self)])

    @classmethod
    def from_vector(cls, logs: np.ndarray) -> "Constants":
        """Undo `vector`."""
        return cls(**{f.name: float(v) for f, v in zip(fields(cls), np.exp(logs), strict=True)})


@dataclass(frozen=True, slots=True)
class Cases:
    """What is trained how on what; arrays of one length N."""

    dims: Dims
    chip: Chip
    layouts: Layouts
    seq_len: Numbers
    batch_seqs: Numbers
    fp8: Numbers
    overlaps: Numbers = 1
    """Whether communication hides behind computing where it can."""
    plain_attention: Numbers = 0
    """Whether attention runs in portable kernels, such as those of plain torch."""
    unfused: Numbers = 0
    """Whether elementwise operations run one by one."""
    imbalance: Numbers = 1.0
    """Tokens of the busiest expert group over the mean."""

    @property
    def n_micro(self) -> np.ndarray:
        """Micro-batches of a step on each data-parallel rank."""
        return np.maximum(self.batch_seqs / (self.layouts.dp * self.layouts.micro_batch), 1.0)


def step_time(cases: Cases, c: Constants) -> dict[str, np.ndarray]:
    """Return seconds of one step by component; they sum to the step's time."""
    layouts, chip = cases.layouts, cases.chip
    held = shard(cases.dims, layouts)
    n_micro = cases.n_micro
    forward = _forward(cases, c, held.moe_share)
    again = np.choose(layouts.recompute, [0.0, 0.0, 1.0])
    attention_again = np.choose(layouts.recompute, [0.0, 0.5, 1.0])
    on_stage = n_micro * held.layers
    parts = {
        "matmul": on_stage * forward["matmul"] * (3 + again),
        "experts": on_stage * forward["experts"] * (3 + again),
        "attention": on_stage * forward["attention"] * (3.5 + attention_again),
        "memory-bound": on_stage * forward["memory-bound"] * (3 + again),
    }
    host_s = ((1 - held.moe_share) * c.layer_ms + held.moe_share * c.moe_layer_ms) / 1000
    parts["launches"] = on_stage * _hidden_rest(host_s, _total(parts) / on_stage)
    layer_s = _total(parts) / on_stage
    head_s = _head(cases, c)
    # Whole layers move away from the stage with the head as far as that evens out.
    parts["head"] = n_micro * np.minimum(head_s, head_s / layouts.pp + layer_s / 2)
    sent = traffic(cases.dims, layouts, seq_len=cases.seq_len, n_micro=n_micro, domain=chip.domain)
    overlaps = np.asarray(cases.overlaps, dtype=bool)
    tensor, expert = np.where(overlaps, c.tensor_exposed, 1.0), np.where(overlaps, c.expert_exposed, 1.0)
    parts["tensor parallel"] = tensor * _send(sent["tensor"].plus(sent["context"]), chip, c)
    parts["expert parallel"] = expert * _send(sent["expert"], chip, c) * cases.imbalance
    busy = _total(parts)
    parts["pipeline bubble"] = busy * (layouts.pp - 1) / (layouts.vpp * n_micro)
    parts["pipeline sends"] = np.where(overlaps, PIPELINE_EXPOSED, 1.0) * _send(sent["pipeline"], chip, c)
    data = _send(sent["data"], chip, c)
    parts["data parallel"] = np.where(overlaps, _exposed(data, busy, layouts, n_micro), data)
    parts["optimizer"] = 16 * _optimizer_weights(cases) / (chip.mem_bytes_per_s * c.memory)
    domains = np.maximum(layouts.devices / chip.domain, 1)
    parts["stragglers"] = _total(parts) * c.scale_loss * np.log2(domains)
    return parts


def _total(parts: dict[str, np.ndarray]) -> np.ndarray:
    return np.sum(list(parts.values()), axis=0)


def _forward(cases: Cases, c: Constants, moe_share: Numbers) -> dict[str, np.ndarray]:
    """Return seconds of one layer's forward pass of one micro-batch on one device."""
    dims, layouts, chip = cases.dims, cases.layouts, cases.chip
    tokens = layouts.micro_batch * cases.seq_len / layouts.cp
    dense = (1 - moe_share) * _matmul(cases, c, tokens, dims.hidden, dims.dense_matrices * dims.dense_width)
    shared = moe_share * _matmul(cases, c, tokens, dims.hidden, dims.dense_matrices * dims.shared_width)
    attention = _matmul(cases, c, tokens, dims.hidden, dims.attention_weights / dims.hidden)
    local_experts = np.maximum(dims.n_experts / layouts.ep, 1)
    rows = tokens / layouts.tp * dims.experts_per_token * layouts.etp / local_experts
    width = dims.dense_matrices * dims.expert_width / layouts.etp
    expert = local_experts * _product(cases, c, rows, dims.hidden, width, width / dims.dense_matrices)
    keys = np.minimum(cases.seq_len, dims.window) / 2
    scores = tokens * dims.n_heads / layouts.tp * keys
    products = 2 * scores * (dims.qk_dim + dims.v_dim)
    moved = _moved_elements(dims, moe_share) * np.where(np.asarray(cases.unfused, dtype=bool), c.unfused, 1.0)
    quantised = np.where(_in_fp8(cases), 2 * _matmul_inputs(dims, moe_share), 0.0)  # read in bf16, written twice in fp8
    bytes_moved = BF16 * tokens / layouts.tp * (moved + quantised)
    slower = np.where(np.asarray(cases.plain_attention, dtype=bool), c.plain_attention, 1.0)
    return {
        "matmul": attention + dense + shared,
        "experts": moe_share * expert * cases.imbalance / c.expert_matmul,
        "attention": slower
        * (
            products / (chip.bf16_flops * _sustained(chip, c) * c.attention) + scores * c.softmax / chip.mem_bytes_per_s
        ),
        "memory-bound": bytes_moved / (chip.mem_bytes_per_s * c.memory),
    }


def _moved_elements(dims: Dims, moe_share: Numbers) -> Numbers:
    """Return what elementwise kernels read and write for each token in a layer's forward pass, fused as usual.

    Norms and residuals, rotary embedding, activation; for experts also sorting, sending and gathering each copy.
    """
    stream = 14 * dims.hidden + 4 * dims.n_heads * dims.qk_dim
    dense = dims.dense_matrices * dims.dense_width
    routed = dims.experts_per_token * (dims.dense_matrices * dims.expert_width + 4 * dims.hidden)
    return stream + (1 - moe_share) * dense + moe_share * (dims.dense_matrices * dims.shared_width + routed)


def _matmul_inputs(dims: Dims, moe_share: Numbers) -> Numbers:
    """Return the elements for each token that go into a layer's matmuls."""
    routed = dims.experts_per_token * (dims.hidden + dims.expert_width)
    ffn = (1 - moe_share) * dims.dense_width + moe_share * (dims.shared_width + routed)
    return 2 * dims.hidden + dims.n_heads * dims.v_dim + ffn


def _matmul(cases: Cases, c: Constants, rows: Numbers, inner: Numbers, width: Numbers) -> np.ndarray:
    """Return seconds of products with `width` output channels in all, divided over the tensor-parallel ranks."""
    split = np.maximum(np.asarray(width / cases.layouts.tp, dtype=float), 1e-9)
    return np.where(split > 1, _product(cases, c, rows, inner, split, split / 3), 0.0)


def _product(cases: Cases, c: Constants, rows: Numbers, inner: Numbers, width: Numbers, narrow: Numbers) -> np.ndarray:
    chip = cases.chip
    fp8 = _in_fp8(cases)
    peak = chip.peak(fp8) * _sustained(chip, c) * c.matmul * np.where(fp8, c.matmul_fp8, 1.0)
    ridge = chip.bf16_flops / chip.mem_bytes_per_s
    safe_rows, safe_narrow = np.maximum(rows, 1e-9), np.maximum(narrow, 1e-9)
    waste = c.traffic * ridge * (WEIGHT_TRAFFIC / safe_rows + 1 / safe_narrow + 1 / inner)
    return 2 * rows * inner * width / peak * (1 + waste)


def _sustained(chip: Chip, c: Constants) -> np.ndarray:
    """Return the share of the peak that large matmuls hold for hours, not seconds."""
    power = (np.asarray(chip.watts_per_tflops) / USUAL_WATTS_PER_TFLOPS) ** c.power
    return np.minimum(chip.matmul_share * power, 1.0)  # ample power adds nothing beyond the peak


def _in_fp8(cases: Cases) -> np.ndarray:
    return np.asarray(cases.fp8, dtype=bool) & (np.asarray(cases.chip.fp8_flops) > 0)


def _head(cases: Cases, c: Constants) -> np.ndarray:
    """Return seconds of the output head, forward and backward, where it lies on the busiest stage."""
    dims, layouts, chip = cases.dims, cases.layouts, cases.chip
    tokens = layouts.micro_batch * cases.seq_len / layouts.cp
    peak = chip.bf16_flops * _sustained(chip, c) * c.matmul
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
