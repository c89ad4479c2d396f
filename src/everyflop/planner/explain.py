"""Where each millisecond of a step and each GiB of the fullest device goes, for a planned island or a table's line."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from everyflop.accounting.memory import memory
from everyflop.catalog.catalog import Catalog
from everyflop.planner.fitting import formula
from everyflop.planner.predict import Z80
from everyflop.planner.predictor import Predictor
from everyflop.planner.row_cases import row_cases
from everyflop.planner.row_file import Row
from everyflop.planner.step_time import step_time
from everyflop.spec.plan import PlannedIsland


@dataclass(frozen=True, slots=True)
class Explanation:
    """One configuration, taken apart."""

    title: str
    step_s: Mapping[str, float]
    mem_gib: Mapping[str, float]
    mem_limit_gib: float
    tokens_per_s: tuple[float, float, float]
    """P10, P50 and P90 of all devices together."""
    notes: tuple[str, ...] = ()


def explain_island(island: PlannedIsland) -> Explanation:
    """Take an island of a plan apart."""
    speed = island.tokens_per_s
    return Explanation(
        title=f"{island.name}: {island.devices} x {island.title or island.device}, {island.layout}",
        step_s=island.step_s,
        mem_gib=island.mem_gib,
        mem_limit_gib=island.mem_limit_gib,
        tokens_per_s=(speed.p10, speed.p50, speed.p90),
    )


def explain_row(row: Row, catalog: Catalog, predictor: Predictor) -> Explanation:
    """Take a table's line apart; what it leaves blank is averaged over the prior."""
    asked = row_cases([row], catalog)
    cases = asked.cases
    log_formula, blank, evidence = formula(asked, predictor.constants)
    correction, sd = predictor.calibration.correct(evidence)
    speed = float(np.exp(log_formula + correction)[0])
    tokens = float(asked.mean(cases.batch_seqs * cases.seq_len)[0])
    parts = {name: float(asked.mean(part)[0]) for name, part in step_time(cases, predictor.constants).items()}
    scale = tokens / speed / sum(parts.values())
    gib = memory(cases.dims, cases.layouts, seq_len=cases.seq_len, n_micro=cases.n_micro)
    width = float(np.exp(Z80 * np.sqrt(sd[0] ** 2 + blank[0])))
    return Explanation(
        title=f"{row.get('id') or 'line'}: {row.get('model', '')} on {row['accelerator']}",
        step_s={name: part * scale for name, part in parts.items()},
        mem_gib={name: float(asked.mean(part)[0]) for name, part in gib.items()},
        mem_limit_gib=float(asked.mean(cases.chip.mem_gib * np.ones(len(asked.row)))[0]),
        tokens_per_s=(speed / width, speed, speed * width),
        notes=tuple(filter(None, asked.notes[0].split("; "))),
    )
