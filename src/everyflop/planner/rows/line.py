"""One line of a table while it is read: what it says, and what had to be assumed.

What a line leaves out is filled with what is usual, or spread over a fixed prior, with its weights below, where the
answer depends on it; nothing is inferred from a measured cell.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from everyflop.accounting.dims import Dims
from everyflop.accounting.layouts import RECOMPUTES, SHARDINGS
from everyflop.catalog.catalog import Catalog
from everyflop.catalog.fill import filled
from everyflop.planner.rows.cells import Row, numbers_of, problems_of, word_of
from everyflop.planner.rows.model import row_model
from everyflop.planner.rows.words import words_of
from everyflop.planner.speed.calibration import Tags
from everyflop.planner.speed.chip import chip_of
from everyflop.planner.speed.software import is_known, software_of, stack_of
from everyflop.spec.device import DeviceSpec

Weighted = list[tuple[float, float]]

RECOMPUTE_PRIOR = ((0.65, "none"), (0.30, "selective"), (0.05, "full"))
"""Published speeds are of tuned runs, and those avoid recomputing whole layers where they can."""
MICRO_BATCH_PRIOR = ((0.6, 1), (0.3, 2), (0.1, 4))
VIRTUAL_STAGES_PRIOR = ((0.5, 1), (0.5, 4))
"""With pipeline stages: plain 1F1B, or four chunks on each stage where the layers allow it."""
SEQS_PER_STAGE = 8
"""Sequences of a step for each pipeline stage of a replica, where the batch is blank: bubbles stay small."""
USUAL_SEQ_LEN, USUAL_DEVICES, USUAL_SHARDING, USUAL_DTYPE = 4096, 64, "zero1", "bf16"
REAL_IMBALANCE = 1.2
"""Busiest expert group over the mean with real routing. In the published pairs of the same run with balanced and with
real routing, steps take 8 to 20 % longer, and experts and their traffic are about two thirds of a step."""

UNKNOWN_PEAK_LOG_SD = 1.0
"""Standard deviation of the logarithm of the catalogue's peaks."""
UNKNOWN_SIZE_LOG_SD = 1.5
"""Of a model of which nothing is known: a factor of 4.5 either way."""

MLA_MODELS = re.compile(r"deepseek[- ]?v[23]|kimi|moonlight|mla", re.IGNORECASE)
WINDOWED_MODELS, WINDOW, WINDOWED_SHARE = re.compile(r"gpt-?oss", re.IGNORECASE), 128, 0.5


class Line:
    """What a line says of device, model, layout and software."""

    def __init__(self, row: Row, catalog: Catalog):
        self.row, self.cells = row, numbers_of(row)
        self.log_sd = 0.0
        """What assumptions beside weighted cases leave open of log speed."""
        self.notes = [f"{problem.key} {problem.found}, taken for blank" for problem in problems_of(row)]
        self.words = words_of(row)
        software = software_of(row.get("software", ""))
        stack = stack_of(software)
        if not is_known(software):
            named = f" '{software}'" if software else ""
            self.notes.append(f"software{named} unknown, taken for one of the {stack} kind")
        device = self._device(catalog)
        self.chip, assumed = chip_of(device, power_limit_w=self.words.power_limit_w)
        self.notes += assumed
        self.seq_len = self._cell("seq_len", USUAL_SEQ_LEN)
        self.devices = self._cell("n_devices", self._least_devices())
        self.dims = self._dims()
        self.fp8 = self._precision() == "fp8"
        if self.fp8 and not self.chip.fp8_flops:
            self.notes.append(f"{device.name} has no known fp8 speed: computed in bf16")
        self.overlaps = self.words.overlaps
        self.unfused = stack == "torch" and not self.words.compiled
        kind = "moe" if self.is_moe else "dense"
        self.tags = Tags.one(device.name, device.architecture, software, stack, kind)
        self.imbalance = self._imbalance()

    @property
    def is_moe(self) -> bool:
        """Whether the model has experts."""
        return bool(self.dims.n_experts)

    def batch(self, dp: float) -> float:
        """Return the sequences of a step."""
        return self.cells["global_batch_seqs"] or dp * (self.cells["pp"] or 1) * SEQS_PER_STAGE

    def layouts(self) -> list[tuple[float, dict[str, float]]]:
        """Return weighted layouts, as numbers by degree."""
        degrees = self._degrees()
        if not self.cells["global_batch_seqs"]:
            self.notes.append(f"global_batch_seqs unknown, {SEQS_PER_STAGE} for each stage of a replica assumed")
        word = word_of(self.row, "sharding")
        if word is None:
            self.notes.append(f"sharding unknown, {USUAL_SHARDING} assumed")
        sharding = SHARDINGS.index(word or USUAL_SHARDING)
        choices = product(self._micro_batches(degrees["dp"]), self._virtual_stages(degrees["pp"]), self._recomputes())
        return [
            (wm * wv * wr, {**degrees, "sharding": sharding, "micro_batch": m, "vpp": v, "recompute": r})
            for (wm, m), (wv, v), (wr, r) in choices
        ]

    def _degrees(self) -> dict[str, float]:
        names = ("tp", "pp", "ep") if self.is_moe else ("tp", "pp")  # who does not name cp does not use it
        if blank := [name for name in names if not self.cells[name]]:
            self.notes.append(f"{', '.join(blank)} unknown, 1 assumed")
        tp, pp, cp, ep = (self.cells[name] or 1 for name in ("tp", "pp", "cp", "ep"))
        dp = max(self.devices // (tp * pp * cp), 1)
        if (taken := tp * pp * cp * (self.cells["dp"] or dp)) != self.devices:
            self.notes.append(f"its layout takes {taken:g} devices, not {self.devices:g}: {dp:g} replicas assumed")
        self._note_impossible(ep, dp)
        return {"tp": tp, "pp": pp, "cp": cp, "ep": ep, "etp": self.cells["etp"] or self._etp(tp, cp, ep, dp), "dp": dp}

    def _note_impossible(self, ep: float, dp: float) -> None:
        """Note what no run can be; it is predicted all the same."""
        cells, dims = self.cells, self.dims
        above = {
            f"ep above {dims.n_experts:g} experts": self.is_moe and ep > dims.n_experts,
            "ep without experts": not self.is_moe and ep > 1,
            f"tp above {dims.n_heads:g} heads": (cells["tp"] or 1) > dims.n_heads,
            f"pp above {dims.n_layers:g} layers": (cells["pp"] or 1) * (cells["vpp"] or 1) > dims.n_layers,
            "topk above experts": self.is_moe and dims.experts_per_token > dims.n_experts,
            "kv_heads above heads": dims.n_kv_heads > dims.n_heads,
            "ep above tp x cp x dp": ep * (cells["etp"] or 1) > max(self.devices // (cells["pp"] or 1), 1),
            "micro_batch above the batch of a replica": (cells["micro_batch"] or 1) > max(self.batch(dp) / dp, 1),
            "global_batch_seqs below dp": bool(cells["global_batch_seqs"]) and self.batch(dp) < dp,
            "tp, pp and cp above n_devices": np.prod([cells[k] or 1 for k in ("tp", "pp", "cp")]) > self.devices,
        }
        if found := [what for what, is_so in above.items() if is_so]:
            self.notes.append(f"impossible as written: {', '.join(found)}")

    def _etp(self, tp: float, cp: float, ep: float, dp: float) -> float:
        """Megatron-LM divides experts like everything else unless told otherwise; others do so only without ep."""
        divided = self.is_moe and (ep == 1 or self.tags.software[0] == "megatron-lm")
        return tp if divided and ep * tp <= tp * cp * dp else 1.0

    def _least_devices(self) -> float:
        """Return the devices of a line that does not say how many: what its layout takes, or a few nodes."""
        given = [self.cells[name] or 1 for name in ("tp", "pp", "cp", "dp")]
        return max(float(np.prod(given)), (self.cells["ep"] or 1) * (self.cells["pp"] or 1), float(USUAL_DEVICES))

    def _micro_batches(self, dp: float) -> Weighted:
        each = max(self.batch(dp) / dp, 1e-3)
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
        if given := word_of(self.row, "recompute"):
            return [(1.0, RECOMPUTES.index(given))]
        self.notes.append("recompute unknown")
        return [(weight, RECOMPUTES.index(name)) for weight, name in RECOMPUTE_PRIOR]

    def _imbalance(self) -> float:
        if not self.is_moe or self.words.balanced:
            return 1.0
        self.notes.append("real routing assumed")
        return REAL_IMBALANCE

    def _cell(self, column: str, default: float) -> float:
        value = self.cells[column]
        if value is None:
            self.notes.append(f"{column} unknown, {default:g} assumed")
        return default if value is None else value

    def _precision(self) -> str:
        if given := word_of(self.row, "dtype"):
            return given
        self.notes.append(f"dtype unknown, {USUAL_DTYPE} assumed")
        return USUAL_DTYPE

    def _dims(self) -> Dims:
        name = self.row.get("model", "")
        positions = int(self.seq_len) if self.row.get("kind") != "moe" else 0
        cells, moe = self.cells, self.row.get("kind", "").lower() == "moe"
        model = row_model(cells, moe=moe, mla=bool(MLA_MODELS.search(name)), learned_positions=positions)
        self.notes += model.notes
        if not any(cells[column] for column in ("hidden", "layers", "total_params_b", "active_params_b")):
            self._doubt("size of the model unknown", UNKNOWN_SIZE_LOG_SD)
        dims = model.dims
        if self.words.mtp:
            dims = replace(dims, n_layers=dims.n_layers + 1, extra_heads=1)
        if WINDOWED_MODELS.search(name):
            dims = replace(dims, window=WINDOW, windowed_share=WINDOWED_SHARE)
        return dims

    def _device(self, catalog: Catalog) -> DeviceSpec:
        name, peaks = self.row.get("accelerator", ""), [d.bf16_tflops for d in catalog.devices.values()]
        device = catalog.find(name) if name in catalog else catalog.described(name)
        if device is None:
            found = f"unknown accelerator '{name}'" if name else "accelerator unknown"
            self._doubt(f"{found}: taken for a device with the median peak of the catalogue", UNKNOWN_PEAK_LOG_SD)
            return DeviceSpec(name="unknown", vendor="unknown", bf16_tflops=median(peaks))
        if name not in catalog:
            self.notes.append(f"accelerator '{name}' taken for {device.name}")
        device, _ = filled(device, catalog)
        if device.bf16_tflops is None and device.achieved_bf16_tflops is None:
            self._doubt(f"{name} has no published peak: the median of the catalogue assumed", UNKNOWN_PEAK_LOG_SD)
            device = device.model_copy(update={"bf16_tflops": median(peaks)})
        return device

    def _doubt(self, note: str, log_sd: float) -> None:
        """Note an assumption that may be off by a factor, with its standard deviation in log speed."""
        self.notes.append(note)
        self.log_sd = float(np.hypot(self.log_sd, log_sd))


def median(values: Sequence[float | None]) -> float:
    """Return the middle one of the numbers, the upper one of two."""
    known = sorted(value for value in values if value is not None)
    return known[len(known) // 2]
