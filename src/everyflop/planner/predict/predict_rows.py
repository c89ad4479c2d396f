"""Predict every line of a table: speed with its interval, memory, and what was assumed where a cell was blank."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from everyflop.accounting.memory import memory
from everyflop.accounting.model_flops import training_flops_per_token
from everyflop.base.units import TERA
from everyflop.catalog.catalog import Catalog
from everyflop.planner.predict.fitting import formula
from everyflop.planner.predict.predict import Z80, basis
from everyflop.planner.predict.predictor import Predictor
from everyflop.planner.rows.cases import RowCases, row_cases
from everyflop.planner.rows.cells import Row

COLUMNS = (
    *("id", "step_time_s", "tokens_per_s_per_device", "tokens_per_s_p10", "tokens_per_s_p90"),
    *("tflops_per_device", "mfu_pct", "peak_mem_gib", "fits", "basis", "note"),
)


@dataclass(frozen=True, slots=True)
class RowPredictions:
    """Arrays with one entry for each line; means over what its blank cells leave open are geometric."""

    asked: RowCases
    tokens_per_s: np.ndarray
    """Of all devices of a line."""
    log_sd: np.ndarray
    """Standard deviation of log(actual / predicted) speed."""
    step_s: np.ndarray
    mem_gib: np.ndarray
    """Peak of the fullest device."""
    mem_limit_gib: np.ndarray
    basis: np.ndarray
    """Of str: measured, fitted or prior."""

    @property
    def devices(self) -> np.ndarray:
        """Devices of each line's layout."""
        return self.asked.mean(self.asked.cases.layouts.devices)

    @property
    def flops_per_s(self) -> np.ndarray:
        """Model FLOPs each second on all devices: attention halved for causality, logits counted, recomputation not."""
        cases = self.asked.cases
        return self.tokens_per_s * self.asked.mean(training_flops_per_token(cases.dims, cases.seq_len))

    @property
    def mfu(self) -> np.ndarray:
        """Share of the dense peak in the line's dtype."""
        cases = self.asked.cases
        return self.flops_per_s / self.devices / self.asked.mean(cases.chip.peak(np.asarray(cases.fp8)))


def predict_cases(asked: RowCases, predictor: Predictor) -> RowPredictions:
    """Return the predictions of a table's lines."""
    cases, calibration = asked.cases, predictor.calibration
    log_formula, blank, evidence = formula(asked, predictor.constants)
    correction, sd = calibration.correct(evidence)
    log_sd = np.sqrt(sd**2 + blank)
    tokens_per_s = np.exp(log_formula + correction)
    parts_gib = memory(cases.dims, cases.layouts, seq_len=cases.seq_len, n_micro=cases.n_micro)
    return RowPredictions(
        asked=asked,
        tokens_per_s=tokens_per_s,
        log_sd=log_sd,
        step_s=asked.mean(cases.batch_seqs * cases.seq_len) / tokens_per_s,
        mem_gib=np.exp(asked.mean(np.log(np.sum(list(parts_gib.values()), axis=0)))),
        mem_limit_gib=asked.mean(cases.chip.mem_gib * np.ones(len(asked.row))),
        basis=basis(calibration, evidence, log_sd),
    )


def predict_rows(rows: Sequence[Row], catalog: Catalog, predictor: Predictor) -> list[dict[str, str]]:
    """Return one prediction for each line, with COLUMNS as keys. Speeds and their P10 and P90 are for each device."""
    if not rows:
        return []
    found = predict_cases(row_cases(rows, catalog), predictor)
    speed, width = found.tokens_per_s / found.devices, np.exp(Z80 * found.log_sd)
    columns = {
        "step_time_s": _written(found.step_s, "%.5g"),
        "tokens_per_s_per_device": _written(speed, "%.5g"),
        "tokens_per_s_p10": _written(speed / width, "%.5g"),
        "tokens_per_s_p90": _written(speed * width, "%.5g"),
        "tflops_per_device": _written(found.flops_per_s / found.devices / TERA, "%.4g"),
        "mfu_pct": _written(100 * found.mfu, "%.3g"),
        "peak_mem_gib": _written(found.mem_gib, "%.4g"),
        "fits": ["yes" if fits else "no" for fits in found.mem_gib <= found.mem_limit_gib],
        "basis": found.basis.tolist(),
        "note": list(found.asked.notes),
    }
    ids = [row.get("id", "") or str(number) for number, row in enumerate(rows, 1)]
    return [{"id": ids[i], **{name: column[i] for name, column in columns.items()}} for i in range(len(rows))]


def _written(values: np.ndarray, form: str) -> list[str]:
    return [form % value for value in values]
