"""Predict one layout, or many at once: time of a step, memory of the fullest device, and how sure that is."""

from dataclasses import dataclass

import numpy as np

from everyflop.accounting.dims import Dims, Numbers
from everyflop.accounting.layouts import Layouts
from everyflop.accounting.memory import memory
from everyflop.accounting.model_flops import training_flops_per_token
from everyflop.planner.predict.arguments import refuse_wrong
from everyflop.planner.predict.predictor import Predictor, load_predictor, tags_of
from everyflop.planner.rows.line import REAL_IMBALANCE
from everyflop.planner.speed.calibration import Calibration, Evidence
from everyflop.planner.speed.cases import Cases
from everyflop.planner.speed.chip import chip_of
from everyflop.planner.speed.step_time import step_time
from everyflop.spec.device import DeviceSpec
from everyflop.spec.workload import Precision

Z80 = 1.2816
"""Standard deviations from the middle of a normal distribution to the ends of its central 80 %."""

NEAR_LOG_SD = 0.08
"""A prediction this sure, on a chip that was measured, counts as measured. What a repeat would differ by is no doubt
about it."""


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
    """Share of the dense peak in the precision used; model FLOPs with causal attention and logits."""
    basis: np.ndarray
    """Of str: measured, fitted or prior."""
    evidence: Evidence
    """What the calibration knows of each layout; see Calibration.joint for errors that predictions share."""


def predict(
    dims: Dims,
    hardware: Hardware,
    layouts: Layouts,
    *,
    seq_len: int,
    batch_seqs: Numbers,
    precision: Precision = "bf16",
    predictor: Predictor | None = None,
) -> Prediction:
    """Return the prediction for each layout, for a step of batch_seqs sequences over the whole island.

    Routing is real: experts are loaded unequally. Without a predictor, the one of the package is used.
    Raises UsageError for a device of which no speed is known, and for arguments that no step can have.
    """
    refuse_wrong(
        layouts,
        precision=precision,
        seq_len=seq_len,
        batch_seqs=batch_seqs,
        devices_per_node=hardware.devices_per_node,
    )
    known = predictor or load_predictor()
    cases = _cases(dims, hardware, layouts, seq_len=seq_len, batch_seqs=batch_seqs, fp8=precision == "fp8")
    chip = cases.chip
    formula_s = step_time(cases, known.constants)
    kind = "moe" if np.any(dims.n_experts) else "dense"
    evidence = known.evidence(cases, formula_s, tags_of(hardware.device, kind))
    correction, log_sd = known.calibration.correct(evidence)
    parts_s = {part: seconds * np.exp(-correction) for part, seconds in formula_s.items()}
    step_s = np.sum(list(parts_s.values()), axis=0)
    tokens = cases.batch_seqs * seq_len
    mem_gib = memory(dims, layouts, seq_len=seq_len, n_micro=cases.n_micro)
    flops_per_s = tokens * training_flops_per_token(dims, seq_len) / step_s
    return Prediction(
        step_s=step_s,
        parts_s=parts_s,
        tokens_per_s=tokens / step_s,
        log_sd=log_sd,
        mem_gib=mem_gib,
        mem_limit_gib=float(np.max(chip.mem_gib)),
        fits=_possible(cases) & (np.sum(list(mem_gib.values()), axis=0) <= chip.mem_gib),
        mfu=flops_per_s / layouts.devices / chip.peak(precision == "fp8"),
        basis=basis(known.calibration, evidence, log_sd),
        evidence=evidence,
    )


def _cases(dims: Dims, hardware: Hardware, layouts: Layouts, *, seq_len: int, batch_seqs: Numbers, fp8: bool) -> Cases:
    device = hardware.device
    chip, _ = chip_of(
        device,
        scale_out_gbit_per_s=hardware.scale_out_gbit_per_s,
        domain=hardware.devices_per_node,
    )
    return Cases(
        dims=dims,
        chip=chip,
        layouts=layouts,
        seq_len=seq_len,
        batch_seqs=np.asarray(batch_seqs) * np.ones(len(layouts)),
        fp8=fp8,
        imbalance=REAL_IMBALANCE if np.any(dims.n_experts) else 1.0,
    )


def basis(calibration: Calibration, evidence: Evidence, log_sd: np.ndarray) -> np.ndarray:
    """Return what each prediction rests on, as a str; log_sd: how unsure it is, the noise of a repeat included."""
    noise = calibration.deviations.noise_of(evidence.tags)
    near = log_sd**2 - noise**2 <= NEAR_LOG_SD**2
    known = np.array([calibration.knows(chip) for chip in evidence.tags.chip])
    return np.where(known, np.where(near, "measured", "fitted"), "prior")


def _possible(cases: Cases) -> np.ndarray:
    dims, layouts = cases.dims, cases.layouts
    n_micro = np.asarray(cases.batch_seqs) / (layouts.dp * layouts.micro_batch)
    whole = (n_micro >= 1) & (n_micro == np.floor(n_micro))
    split = (layouts.tp <= dims.n_heads) & (layouts.pp * layouts.vpp <= dims.n_layers)
    return whole & split & (layouts.ep <= np.maximum(dims.n_experts, 1))
