"""Where each millisecond of a step and each GiB of the fullest device goes, for a planned island or a table's line."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from everyflop.accounting.memory import memory
from everyflop.catalog.catalog import Catalog
from everyflop.planner.predict.predict import Z80
from everyflop.planner.predict.predict_rows import predict_cases
from everyflop.planner.predict.predictor import Predictor
from everyflop.planner.rows.cases import RowCases, row_cases
from everyflop.planner.rows.cells import Row
from everyflop.planner.speed.step_time import step_time
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
    found = predict_cases(row_cases([row], catalog), predictor)
    asked, cases = found.asked, found.asked.cases
    parts_gib = memory(cases.dims, cases.layouts, seq_len=cases.seq_len, n_micro=cases.n_micro)
    p50, width = float(found.tokens_per_s[0]), float(np.exp(Z80 * found.log_sd[0]))
    return Explanation(
        title=f"{row.get('id') or 'line'}: {row.get('model', '')} on {row['accelerator']}",
        step_s=_parts(asked, step_time(cases, predictor.constants), float(found.step_s[0])),
        mem_gib=_parts(asked, parts_gib, float(found.mem_gib[0])),
        mem_limit_gib=float(found.mem_limit_gib[0]),
        tokens_per_s=(p50 / width, p50, p50 * width),
        notes=tuple(filter(None, asked.notes[0].split("; "))),
    )


def _parts(asked: RowCases, parts: Mapping[str, np.ndarray], total: float) -> dict[str, float]:
    """Return the mean of each part over a line's cases, scaled so that they sum to what is predicted."""
    means = {name: float(asked.mean(part)[0]) for name, part in parts.items()}
    scale = total / sum(means.values())
    return {name: mean * scale for name, mean in means.items()}
