"""Time of one layer's forward pass of one micro-batch on one device, by what the device does.

A matmul of M x K by K x N takes 2MNK / (peak x share) x (1 + ridge x traffic x (2/M + 1/N + 1/K)): what is left of the
peak, and the memory traffic that hides behind it only partly; `ridge` is peak over memory bandwidth. Attention's inner
products and elementwise work each have their own rate.
"""

import numpy as np

from everyflop.accounting.dims import Dims, Numbers
from everyflop.accounting.memory import BF16
from everyflop.planner.speed.cases import Cases, Constants
from everyflop.planner.speed.chip import WATTS_PER_TFLOPS, Chip

WEIGHT_TRAFFIC = 2.0
"""Bytes moved of a weight over those of an activation: gradients accumulate in fp32, read and written each time."""


def forward_s(cases: Cases, c: Constants, moe_share: Numbers) -> dict[str, np.ndarray]:
    """Return seconds of one layer's forward pass of one micro-batch on one device."""
    dims = cases.dims
    dense = (1 - moe_share) * _matmul(cases, c, dims.dense_matrices * dims.dense_width)
    shared = moe_share * _matmul(cases, c, dims.dense_matrices * dims.shared_width)
    attention = _matmul(cases, c, dims.attention_weights / dims.hidden)
    return {
        "matmul": attention + dense + shared,
        "experts": moe_share * _experts(cases, c) * cases.imbalance / c.expert_matmul,
        "attention": _scores(cases, c),
        "memory-bound": _elementwise(cases, c, moe_share),
    }


def _experts(cases: Cases, c: Constants) -> np.ndarray:
    dims, layouts = cases.dims, cases.layouts
    local_experts = np.maximum(dims.n_experts / layouts.ep, 1)
    rows = cases.tokens / layouts.tp * dims.experts_per_token * layouts.etp / local_experts
    width = dims.dense_matrices * dims.expert_width / layouts.etp
    return local_experts * _product(cases, c, rows, dims.hidden, width, width / dims.dense_matrices)


def _scores(cases: Cases, c: Constants) -> np.ndarray:
    """Attention between its projections: inner products, and an exponential for each score."""
    dims, chip = cases.dims, cases.chip
    scores = cases.tokens * dims.n_heads / cases.layouts.tp * dims.causal_keys(cases.seq_len)
    products = 2 * scores * (dims.qk_dim + dims.v_dim)
    slower = np.where(np.asarray(cases.plain_attention, dtype=bool), c.plain_attention, 1.0)
    products_s = products / (chip.bf16_flops * sustained_share(chip, c) * c.attention)
    return slower * (products_s + scores * c.softmax / chip.mem_bytes_per_s)


def _elementwise(cases: Cases, c: Constants, moe_share: Numbers) -> np.ndarray:
    dims, chip = cases.dims, cases.chip
    moved = _moved_elements(dims, moe_share) * np.where(np.asarray(cases.unfused, dtype=bool), c.unfused, 1.0)
    quantised = np.where(cases.in_fp8, 2 * _matmul_inputs(dims, moe_share), 0.0)  # read in bf16, written twice in fp8
    bytes_moved = BF16 * cases.tokens / cases.layouts.tp * (moved + quantised)
    return bytes_moved / (chip.mem_bytes_per_s * c.memory)


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


def _matmul(cases: Cases, c: Constants, width: Numbers) -> np.ndarray:
    """Return seconds of a micro-batch times matrices of `width` columns in all, divided among tensor-parallel ranks."""
    split = np.maximum(np.asarray(width / cases.layouts.tp, dtype=float), 1e-9)
    return np.where(split > 1, _product(cases, c, cases.tokens, cases.dims.hidden, split, split / 3), 0.0)


def _product(cases: Cases, c: Constants, rows: Numbers, inner: Numbers, width: Numbers, narrow: Numbers) -> np.ndarray:
    chip = cases.chip
    fp8 = cases.in_fp8
    peak = chip.peak(fp8) * sustained_share(chip, c) * c.matmul * np.where(fp8, c.matmul_fp8, 1.0)
    ridge = chip.bf16_flops / chip.mem_bytes_per_s
    safe_rows, safe_narrow = np.maximum(rows, 1e-9), np.maximum(narrow, 1e-9)
    waste = c.traffic * ridge * (WEIGHT_TRAFFIC / safe_rows + 1 / safe_narrow + 1 / inner)
    return 2 * rows * inner * width / peak * (1 + waste)


def sustained_share(chip: Chip, c: Constants) -> np.ndarray:
    """Return the share of the peak that large matmuls hold for hours, not seconds."""
    power = (np.asarray(chip.watts_per_tflops) / WATTS_PER_TFLOPS) ** c.power
    return np.minimum(chip.matmul_share * power, 1.0)  # ample power adds nothing beyond the peak
