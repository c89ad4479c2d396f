"""What the formulas of a step's time take: cases, as many as wanted at once, and the fitted constants."""

from dataclasses import dataclass, fields

import numpy as np

from everyflop.accounting.dims import Dims, Numbers
from everyflop.accounting.layouts import Layouts
from everyflop.planner.speed.chip import Chip


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

    @property
    def tokens(self) -> Numbers:
        """Tokens of a micro-batch on each context-parallel rank."""
        return self.layouts.micro_batch * self.seq_len / self.layouts.cp

    @property
    def in_fp8(self) -> np.ndarray:
        """Whether large matmuls run in fp8: asked for, and the chip has it."""
        return np.asarray(self.fp8, dtype=bool) & (np.asarray(self.chip.fp8_flops) > 0)
