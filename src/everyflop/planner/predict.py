"""Predict one layout, or many at once: time of an optimizer step, memory of the fullest device, and how sure that is."""

from dataclasses import dataclass

import numpy as np

from everyflop.accounting.dims import Dims, Numbers
from everyflop.accounting.layouts import Layouts
from everyflop.spec.device import DeviceSpec
from everyflop.spec.workload import Precision

Z80 = 1.2816
"""Standard deviations from the middle of a normal distribution to the ends of its central 80 %."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """Devices of one kind, and what connects them."""

    device: DeviceSpec
    devices_per_node: int
    scale_out_gbit_per_s: float
    """Between nodes, one direction, per device."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Arrays with one entry for each layout."""

    step_s: np.ndarray
    """Median prediction of one optimizer step of the whole island."""
    parts_s: dict[str, np.ndarray]
    """Where the step's time goes; they sum to step_s."""
    tokens_per_s: np.ndarray
    """Of the whole island."""
    log_sd: np.ndarray
    """Standard deviation of log(actual / predicted) speed."""
    mem_gib: dict[str, np.ndarray]
    """Peak of the fullest device by component."""
    mem_limit_gib: float
    fits: np.ndarray
    """Whether the memory is enough and the layout possible for the model and batch."""
    mfu: np.ndarray
    """Share of the dense peak in the precision used."""
    basis: np.ndarray
    """Of str: measured, fitted or prior."""

    @property
    def mem_total_gib(self) -> np.ndarray:
        """Sum over the components."""
        return sum(self.mem_gib.values(), np.zeros_like(self.step_s))


def predict(
    dims: Dims,
    hardware: Hardware,
    layouts: Layouts,
    *,
    seq_len: int,
    batch_seqs: Numbers,
    precision: Precision = "bf16",
) -> Prediction:
    """Return the prediction for each layout, for a step of batch_seqs sequences over the whole island."""
    device = hardware.device
    peak = (device.fp8_tflops if precision == "fp8" and device.fp8_tflops else device.bf16_tflops or 0.0) * 1e12
    tokens = np.asarray(batch_seqs) * seq_len * np.ones(len(layouts))
    compute_s = 6 * dims.active_parameters * tokens / (layouts.devices * peak * 0.4)
    n_micro = tokens / seq_len / (layouts.dp * layouts.micro_batch)
    bubble_s = compute_s * (layouts.pp - 1) / (layouts.vpp * n_micro)
    step_s = compute_s + bubble_s
    weights = 16 * dims.total_parameters / layouts.devices / 2**30
    activations = 34 * dims.hidden * seq_len * layouts.micro_batch * dims.n_layers / layouts.tp / layouts.cp / 2**30
    limit = (device.mem_gb or 0.0) * 0.92
    return Prediction(
        step_s=step_s,
        parts_s={"matmul": compute_s, "pipeline bubble": bubble_s},
        tokens_per_s=tokens / step_s,
        log_sd=np.full(len(layouts), 0.2),
        mem_gib={"weights": weights, "activations": activations},
        mem_limit_gib=limit,
        fits=(weights + activations < limit) & (n_micro >= 1) & (n_micro == np.floor(n_micro)),
        mfu=compute_s / step_s * 0.4,
        basis=np.full(len(layouts), "prior"),
    )
