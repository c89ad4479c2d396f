"""Predict every line of a table: speed with its interval, memory, and what was assumed where a cell was blank."""

from collections.abc import Sequence

import numpy as np

from everyflop.accounting.memory import memory
from everyflop.accounting.model_flops import training_flops_per_token
from everyflop.base.units import TERA
from everyflop.catalog.catalog import Catalog
from everyflop.planner.fitting import formula
from everyflop.planner.predict import NEAR_LOG_SD, Z80
from everyflop.planner.predictor import Predictor
from everyflop.planner.row_cases import RowCases, row_cases
from everyflop.planner.row_file import Row

COLUMNS = (
    *("id", "step_time_s", "tokens_per_s_per_device", "tokens_per_s_p10", "tokens_per_s_p90"),
    *("tflops_per_device", "mfu_pct", "peak_mem_gib", "fits", "basis", "note"),
)


def predict_rows(rows: Sequence[Row], catalog: Catalog, predictor: Predictor) -> list[dict[str, str]]:
    """Return one prediction for each line, with COLUMNS as keys. Speeds and their P10 and P90 are for each device.

    TFLOP/s are model FLOPs (attention halved for causality, logits counted, recomputation not), and MFU is over the
    dense peak in the line's dtype.
    """
    if not rows:
        return []
    asked = row_cases(rows, catalog)
    cases = asked.cases
    log_formula, blank, evidence = formula(asked, predictor.constants)
    correction, log_sd = predictor.calibration.correct(evidence)
    log_sd = np.sqrt(log_sd**2 + blank)
    devices = asked.mean(cases.layouts.devices)
    speed = np.exp(log_formula + correction) / devices
    step_s = asked.mean(cases.batch_seqs * cases.seq_len) / (speed * devices)
    flops_per_s = speed * asked.mean(training_flops_per_token(cases.dims, cases.seq_len))
    mfu = flops_per_s / asked.mean(cases.chip.peak(np.asarray(cases.fp8)))
    mem_gib = _peak_mem_gib(asked)
    fits = mem_gib <= asked.mean(cases.chip.mem_gib * np.ones(len(asked.row)))
    known = [predictor.calibration.knows(chip) for chip in evidence.tags.chip]
    return [
        {
            "id": row.get("id", "") or str(i + 1),
            "step_time_s": f"{step_s[i]:.5g}",
            "tokens_per_s_per_device": f"{speed[i]:.5g}",
            "tokens_per_s_p10": f"{speed[i] * np.exp(-Z80 * log_sd[i]):.5g}",
            "tokens_per_s_p90": f"{speed[i] * np.exp(Z80 * log_sd[i]):.5g}",
            "tflops_per_device": f"{flops_per_s[i] / TERA:.4g}",
            "mfu_pct": f"{100 * mfu[i]:.3g}",
            "peak_mem_gib": f"{mem_gib[i]:.4g}",
            "fits": "yes" if fits[i] else "no",
            "basis": ("measured" if log_sd[i] <= NEAR_LOG_SD else "fitted") if known[i] else "prior",
            "note": asked.notes[i],
        }
        for i, row in enumerate(rows)
    ]


def _peak_mem_gib(asked: RowCases) -> np.ndarray:
    cases = asked.cases
    parts = memory(cases.dims, cases.layouts, seq_len=cases.seq_len, n_micro=cases.n_micro)
    return np.exp(asked.mean(np.log(np.sum(list(parts.values()), axis=0))))
