"""From lines of a table to cases of the formulas.

A line becomes several weighted cases where its micro-batch, virtual stages or recompute policy is blank.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from everyflop.accounting.dims import Dims, Numbers
from everyflop.accounting.layouts import Layouts
from everyflop.catalog.catalog import Catalog
from everyflop.planner.rows.cells import Row
from everyflop.planner.rows.line import Line
from everyflop.planner.speed.calibration import Tags
from everyflop.planner.speed.cases import Cases
from everyflop.planner.speed.chip import Chip


@dataclass(frozen=True, slots=True)
class RowCases:
    """Cases of all lines, one after the other."""

    cases: Cases
    row: np.ndarray
    """The line of each case, from 0."""
    weight: np.ndarray
    """Prior probability of each case; those of a line sum to 1."""
    tags: Tags
    """One entry for each line."""
    log_sd: np.ndarray
    """Of log speed, for each line: what assumptions beside the weighted cases leave open."""
    notes: tuple[str, ...]
    """For each line, what was assumed."""

    def mean(self, values: Numbers) -> np.ndarray:
        """Average values of the cases over each line's prior."""
        return np.bincount(self.row, self.weight * np.asarray(values), len(self.notes))

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Return the variance of values over each line's prior."""
        return np.maximum(self.mean(values**2) - self.mean(values) ** 2, 0.0)


def row_cases(rows: Sequence[Row], catalog: Catalog) -> RowCases:
    """Return the cases of a table's lines. An unknown accelerator is taken for the middle one, and noted."""
    lines = [Line(row, catalog) for row in rows]
    flat = [(number, weight, layout) for number, line in enumerate(lines) for weight, layout in line.layouts()]
    row = np.array([number for number, *_ in flat])
    return RowCases(
        cases=_cases([lines[number] for number in row], [layout for *_, layout in flat]),
        row=row,
        weight=np.array([weight for _, weight, _ in flat]),
        tags=Tags.stack_up([line.tags for line in lines]),
        log_sd=np.array([line.log_sd for line in lines]),
        notes=tuple("; ".join(line.notes) for line in lines),
    )


def row_dims(row: Row, catalog: Catalog) -> Dims:
    """Return the sizes of a line's model."""
    return Line(row, catalog).dims


def _cases(lines: Sequence[Line], layouts: Sequence[dict[str, float]]) -> Cases:
    """Return a case for each layout, with the line that it is of."""
    kinds = {f.name: int if f.name in ("sharding", "recompute") else float for f in fields(Layouts)}
    degrees = {name: np.array([layout[name] for layout in layouts], kind) for name, kind in kinds.items()}
    return Cases(
        dims=Dims(**{f.name: np.array([getattr(line.dims, f.name) for line in lines], float) for f in fields(Dims)}),
        chip=Chip.stack([line.chip for line in lines]),
        layouts=Layouts(**degrees),
        seq_len=np.array([line.seq_len for line in lines]),
        batch_seqs=np.array([line.batch(layout["dp"]) for line, layout in zip(lines, layouts, strict=True)]),
        fp8=np.array([line.fp8 for line in lines]),
        overlaps=np.array([line.overlaps for line in lines]),
        plain_attention=np.array([line.tags.stack[0] == "torch" for line in lines]),
        unfused=np.array([line.unfused for line in lines]),
        imbalance=np.array([line.imbalance for line in lines]),
    )
