"""From lines of a table to cases of the formulas: blanks are filled, or spread over what is usual.

What a table leaves out is marginalised over a fixed prior, with its weights below; nothing is inferred from a measured
cell. A line becomes several weighted cases where its micro-batch, virtual stages or recompute policy is blank.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import product

import numpy as np

from everyflop.accounting.dims import Dims, Numbers
from everyflop.accounting.layouts import RECOMPUTES, SHARDINGS, Layouts
from everyflop.base.errors import UsageError
from everyflop.catalog.catalog import Catalog
from everyflop.catalog.fill import filled
from everyflop.planner import row_file
from everyflop.planner.calibration import Tags
from everyflop.planner.cases import Cases
from everyflop.planner.chip import Chip, chip_of
from everyflop.planner.row_file import Row, numbers_of
from everyflop.planner.row_model import row_model
from everyflop.planner.software import software_of, stack_of
from everyflop.spec.device import DeviceSpec

Weighted = list[tuple[float, float]]

RECOMPUTE_PRIOR = ((0.65, "none"), (0.30, "selective"), (0.05, "full"))
"""Published speeds are of tuned runs, and those avoid recomputing whole layers where they can."""
MICRO_BATCH_PRIOR = ((0.6, 1), (0.3, 2), (0.1, 4))
VIRTUAL_STAGES_PRIOR = ((0.5, 1), (0.5, 4))
"""With pipeline stages: plain 1F1B, or four chunks on each stage where the layers allow it."""
SEQS_PER_STAGE = 8
"""Sequences of a step for each pipeline stage of a replica, where the batch is blank: bubbles stay small."""
REAL_IMBALANCE = 1.2
"""Busiest expert group over the mean with real routing. In the published pairs of the same run with balanced and with
real routing, steps take 8 to 20 % longer, and experts and their traffic are about two thirds of a step."""

BALANCED = re.compile(r"balanced|token.?drop|capacity|padded", re.IGNORECASE)
COMPILED = re.compile(r"compile", re.IGNORECASE)
NO_OVERLAP = re.compile(r"(?:no|without) (?:\w+ )?overlap|overlap[^;,.]{0,20} off", re.IGNORECASE)
NO_MTP, MTP = re.compile(r"w/o MTP|without MTP|no MTP", re.IGNORECASE), re.compile(r"\bMTP\b")
POWER_LIMIT = re.compile(r"(\d{2,4}) ?W (?:power )?limit", re.IGNORECASE)


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
    lines = [_Line(row, catalog) for row in rows]
    flat = [(number, line, weight, layout) for number, line in enumerate(lines) for weight, layout in line.layouts()]
    dims = Dims(**{f.name: np.array([getattr(line.dims, f.name) for _, line, *_ in flat], float) for f in fields(Dims)})
    integers = {"sharding", "recompute"}
    columns = {
        f.name: np.array([layout[f.name] for *_, layout in flat], int if f.name in integers else float)
        for f in fields(Layouts)
    }
    cases = Cases(
        dims=dims,
        chip=Chip.stack([line.chip for _, line, *_ in flat]),
        layouts=Layouts(**columns),
        seq_len=np.array([line.seq_len for _, line, *_ in flat]),
        batch_seqs=np.array([line.batch(layout["dp"]) for _, line, _, layout in flat]),
        fp8=np.array([line.fp8 for _, line, *_ in flat]),
        overlaps=np.array([line.overlaps for _, line, *_ in flat]),
        plain_attention=np.array([line.tags.stack[0] == "torch" for _, line, *_ in flat]),
        unfused=np.array([line.unfused for _, line, *_ in flat]),
        imbalance=np.array([line.imbalance for _, line, *_ in flat]),
    )
    return RowCases(
        cases=cases,
        row=np.array([number for number, *_ in flat]),
        weight=np.array([weight for _, _, weight, _ in flat]),
        tags=Tags.stack_up([line.tags for line in lines]),
        notes=tuple("; ".join(line.notes) for line in lines),
    )


def row_dims(row: Row, catalog: Catalog) -> Dims:
    """Return the sizes of a line's model."""
    return _Line(row, catalog).dims


class _Line:
    """One line while it is read: what it says, and what had to be assumed."""

    def __init__(self, row: Row, catalog: Catalog):
        self.row, self.cells, self.notes = row, numbers_of(row), list[str]()
        text = f"{row.get('notes', '')} {row.get('software', '')}"
        device = self._device(catalog)
        limit = POWER_LIMIT.search(text)
        self.chip, assumed = chip_of(device, power_limit_w=float(limit[1]) if limit else None)
        self.notes += assumed
        self.seq_len = self._cell("seq_len", 4096)
        self.devices = self._cell("n_devices", self._least_devices())
        self.dims = self._dims(text)
        self.fp8 = "fp8" in row.get("dtype", "").lower()
        self.is_moe = bool(self.dims.n_experts)
        self.imbalance = REAL_IMBALANCE if self.is_moe and not BALANCED.search(text) else 1.0
        if self.imbalance > 1:
            self.notes.append("real routing assumed")
        software = software_of(row.get("software", ""))
        self.overlaps = not NO_OVERLAP.search(text)
        self.unfused = stack_of(software) == "torch" and not COMPILED.search(text)
        kind = "moe" if self.is_moe else "dense"
        self.tags = Tags.one(device.name, device.architecture, software, stack_of(software), kind)

    def batch(self, dp: float) -> float:
        """Return the sequences of a step."""
        return self.cells["global_batch_seqs"] or dp * (self.cells["pp"] or 1) * SEQS_PER_STAGE

    def layouts(self) -> list[tuple[float, dict[str, float]]]:
        """Return weighted layouts, as numbers by degree."""
        cells = self.cells
        devices = self.devices
        tp, pp, cp, ep = (cells[name] or 1 for name in ("tp", "pp", "cp", "ep"))
        dp = cells["dp"] or max(devices // (tp * pp * cp), 1)
        base = {
            "tp": tp,
            "pp": pp,
            "cp": cp,
            "ep": ep,
            "etp": cells["etp"] or self._expert_tp(tp, cp, ep, dp),
            "dp": dp,
        }
        base["sharding"] = SHARDINGS.index(row_file.SHARDINGS[self.row.get("sharding", "").lower()] or "zero1")
        found = product(self._micro_batches(base), self._virtual_stages(pp), self._recomputes())
        return [
            (wm * wv * wr, {**base, "micro_batch": m, "vpp": v, "recompute": r}) for (wm, m), (wv, v), (wr, r) in found
        ]

    def _least_devices(self) -> float:
        """Return the devices that a layout takes where their number is blank: a node in each direction at least."""
        given = [self.cells[name] or 1 for name in ("tp", "pp", "cp", "dp")]
        return max(float(np.prod(given)), (self.cells["ep"] or 1) * (self.cells["pp"] or 1), 64.0)

    def _expert_tp(self, tp: float, cp: float, ep: float, dp: float) -> float:
        """Megatron-LM divides experts like everything else unless told otherwise; others do so only without ep."""
        divided = self.is_moe and (ep == 1 or self.tags.software[0] == "megatron-lm")
        return tp if divided and ep * tp <= tp * cp * dp else 1.0

    def _micro_batches(self, base: dict[str, float]) -> Weighted:
        each = max(self.batch(base["dp"]) / base["dp"], 1e-3)
        if given := self.cells["micro_batch"]:
            return [(1.0, min(given, each))]
        self.notes.append("micro-batch unknown")
        if self.tags.stack[0] == "xla":  # one pass over the whole batch of a device
            return [(1.0, each)]
        return [(weight, min(size, each)) for weight, size in MICRO_BATCH_PRIOR]

    def _virtual_stages(self, pp: float) -> Weighted:
        if (given := self.cells["vpp"]) or pp == 1:
            return [(1.0, given or 1.0)]
        self.notes.append("virtual stages unknown")
        most = max(float(self.dims.n_layers // pp), 1.0)
        return [(weight, min(float(stages), most)) for weight, stages in VIRTUAL_STAGES_PRIOR]

    def _recomputes(self) -> Weighted:
        if given := row_file.RECOMPUTES[self.row.get("recompute", "").lower()]:
            return [(1.0, RECOMPUTES.index(given))]
        self.notes.append("recompute unknown")
        return [(weight, RECOMPUTES.index(name)) for weight, name in RECOMPUTE_PRIOR]

    def _cell(self, column: str, default: float) -> float:
        value = self.cells[column]
        if value is None:
            self.notes.append(f"{column} unknown, {default:g} assumed")
        return default if value is None else value

    def _dims(self, text: str) -> Dims:
        name = self.row.get("model", "")
        mla = bool(re.search(r"deepseek-?v[23]|kimi|moonlight|mla", name, re.IGNORECASE))
        positions = int(self.seq_len) if self.row.get("kind") != "moe" else 0
        model = row_model(self.cells, mla=mla, learned_positions=positions)
        self.notes += model.notes
        dims = model.dims
        if MTP.search(text) and not NO_MTP.search(text):
            dims = replace(dims, n_layers=dims.n_layers + 1, extra_heads=1)
        if re.search(r"gpt-?oss", name, re.IGNORECASE):  # every other layer sees 128 tokens
            dims = replace(dims, window=(128 + self.seq_len) / 2)
        return dims

    def _device(self, catalog: Catalog) -> DeviceSpec:
        name = self.row.get("accelerator", "")
        try:
            device, _ = filled(catalog.find(name), catalog)
        except UsageError:
            peaks = sorted(d.bf16_tflops for d in catalog.devices.values() if d.bf16_tflops)
            self.notes.append(f"unknown accelerator '{name}': taken for a device with the median peak of the catalogue")
            return DeviceSpec(name="unknown", vendor="unknown", bf16_tflops=peaks[len(peaks) // 2])
        if device.bf16_tflops is None and device.achieved_bf16_tflops is None:
            self.notes.append(f"{name} has no published peak: 300 TFLOP/s assumed")
            device = device.model_copy(update={"bf16_tflops": 300.0})
        return device
