"""The best layout of an island: so many devices of one kind, for a batch of so many sequences.

Not every layout is predicted. Parallel degrees are compared first, each with the lightest recompute that fits; then
the best of them in every way to trade memory for time; what came out best is kept as a short list, from which the best
layout for smaller batches is taken.
"""

from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from everyflop.accounting.dims import Dims
from everyflop.accounting.layouts import RECOMPUTES, Layouts
from everyflop.accounting.memory import memory
from everyflop.planner.choose.layouts import degrees, distinct, join, refitted, variants
from everyflop.planner.predict.predict import Hardware, Prediction, predict
from everyflop.planner.predict.predictor import Predictor
from everyflop.planner.speed.calibration import Evidence
from everyflop.planner.speed.chip import chip_of
from everyflop.spec.layout import Layout
from everyflop.spec.plan import Basis
from everyflop.spec.workload import Precision

TRIAL_MICRO_BATCHES = (1, 4)
DEGREES_KEPT = 16
"""Combinations of degrees that are looked at in every variant."""
VARIANTS_KEPT = 3
"""Of each of those, for the short list."""


@dataclass(frozen=True, slots=True)
class Training:
    """What is trained, as predictions take it."""

    dims: Dims
    seq_len: int
    precision: Precision
    predictor: Predictor


@dataclass(frozen=True, slots=True)
class Found:
    """A layout and what is predicted of it."""

    layout: Layout
    batch_seqs: int
    tokens_per_s: float
    """Of the island. Where micro-batches do not divide evenly, ranks that have one less wait for the others."""
    log_sd: float
    mfu: float
    mem_gib: dict[str, float]
    mem_limit_gib: float
    step_s: dict[str, float]
    basis: Basis
    evidence: Evidence
    """Of this one layout."""


class Search:
    """Searches layouts of one model on one kind of hardware, and remembers what it found."""

    def __init__(self, training: Training, hardware: Hardware):
        self.training = training
        self.hardware = hardware
        self.limit_gib = float(np.max(chip_of(hardware.device)[0].mem_gib))
        self.least_gib: dict[int, float] = {}
        """Number of devices -> the least memory of one that any layout takes, of all that were looked at."""
        self._full: dict[int, Layouts] = {}
        """The short lists that a full search made."""
        self._short: dict[int, Layouts] = {}
        self._found: dict[tuple[int, int], Found | None] = {}

    def prepare(self, counts: Sequence[int], *, batches: Sequence[int]) -> None:
        """Make the short list for each number of devices, for batches of these sizes and between."""
        new = [count for count in dict.fromkeys(counts) if count not in self._full]
        if not new:
            return
        batches, batch_seqs = sorted({*batches}), max(batches)
        coarse = {count: self._degrees(count, batch_seqs) for count in new}
        kept = self._kept(coarse, batches, lambda *ranked: _best_of_each(*ranked, most=1)[:DEGREES_KEPT])
        every = {count: variants(layouts, self.training.dims, batch_seqs=batch_seqs) for count, layouts in kept.items()}
        fine = {count: self._fitting(layouts, count, batch_seqs) for count, layouts in every.items()}
        self._full |= self._kept(fine, batches, _best_of_each)
        self._short |= {count: self._full[count] for count in new}

    def refit(self, counts: Sequence[int], anchors: Sequence[int], *, batch_seqs: int) -> None:
        """Add to the short list of further numbers of devices what the prepared anchors beside each have in theirs."""
        near = [self._beside(count, anchors) for count in counts]
        wanted = np.repeat(counts, [len(layouts) for layouts in near])
        fitted, kept = refitted(join(near), devices=wanted, batch_seqs=batch_seqs)
        fits = self._memory_gib(fitted, batch_seqs) <= self.limit_gib
        fitted, wanted = fitted.take(fits), wanted[kept][fits]
        for count in counts:
            more = fitted.take(wanted == count)
            self._short[count] = distinct(join([self._short.get(count, more), more]))

    def _beside(self, count: int, anchors: Sequence[int]) -> Layouts:
        at = bisect(anchors, count)
        return join([self._full[one] for one in anchors[max(at - 1, 0) : at + 1]])

    def best(self, cases: Sequence[tuple[int, int]]) -> list[Found | None]:
        """Return the best layout for each (devices, batch in sequences), None where nothing fits.

        prepare or refit must have seen the numbers of devices.
        """
        new = [case for case in dict.fromkeys(cases) if case not in self._found]
        if new:
            owner, layouts = _owned({case: self._short[case[0]] for case in new})
            batch = np.array([case[1] for case in new])[owner]
            speed, prediction, filled = self._predict(layouts, batch)
            for place, case in enumerate(new):
                ranked = _ranked(speed, owner == place)
                found = None if not len(ranked) else _row(prediction, layouts, filled, int(ranked[0]), case[1])
                self._found[case] = found
        return [self._found[case] for case in cases]

    def _degrees(self, devices: int, batch_seqs: int) -> Layouts:
        """Return the combinations of degrees that fit, with a small and a large micro-batch, each with the lightest
        recompute with which it does."""
        every = degrees(
            self.training.dims,
            devices=devices,
            domain=self.hardware.devices_per_node,
            seq_len=self.training.seq_len,
            batch_seqs=batch_seqs,
        )
        every = join([replace(every, micro_batch=np.full(len(every), size)) for size in TRIAL_MICRO_BATCHES])
        lightest = np.full(len(every), len(RECOMPUTES) - 1)
        for level in reversed(range(len(RECOMPUTES))):
            trial = replace(every, recompute=np.full(len(every), level))
            lightest = np.where(self._memory_gib(trial, batch_seqs) <= self.limit_gib, level, lightest)
        return self._fitting(replace(every, recompute=lightest), devices, batch_seqs)

    def _fitting(self, layouts: Layouts, devices: int, batch_seqs: int) -> Layouts:
        used_gib = self._memory_gib(layouts, batch_seqs)
        self.least_gib[devices] = float(used_gib.min(initial=self.least_gib.get(devices, np.inf)))
        return layouts.take(used_gib <= self.limit_gib)

    def _memory_gib(self, layouts: Layouts, batch_seqs: int) -> np.ndarray:
        n_micro = batch_seqs / (layouts.dp * layouts.micro_batch)
        parts = memory(self.training.dims, layouts, seq_len=self.training.seq_len, n_micro=n_micro)
        return np.sum(list(parts.values()), axis=0)

    def _kept(
        self, parts: Mapping[int, Layouts], batches: Iterable[int], keep: Callable[[Layouts, np.ndarray], np.ndarray]
    ) -> dict[int, Layouts]:
        """Return of each part what `keep` takes of the indices of layouts that fit, fastest first, for any batch."""
        owner, layouts = _owned(parts)
        taken: list[list[np.ndarray]] = [[] for _ in parts]
        for batch_seqs in batches:
            speed, _, _ = self._predict(layouts, np.full(len(layouts), batch_seqs))
            for place, indices in enumerate(taken):
                indices.append(keep(layouts, _ranked(speed, owner == place)))
        union = [np.unique(np.concatenate(indices)).astype(np.int64) for indices in taken]
        return {count: layouts.take(indices) for count, indices in zip(parts, union, strict=True)}

    def _predict(self, layouts: Layouts, batch_seqs: np.ndarray) -> tuple[np.ndarray, Prediction, np.ndarray]:
        """Return tokens/s (0 where it does not fit), the prediction for whole micro-batches on every rank, and the
        share of those that is filled.
        """
        at_once = layouts.dp * layouts.micro_batch
        padded = -(-batch_seqs // at_once) * at_once
        prediction = predict(
            self.training.dims,
            self.hardware,
            layouts,
            seq_len=self.training.seq_len,
            batch_seqs=padded,
            precision=self.training.precision,
            predictor=self.training.predictor,
        )
        chunked = (layouts.vpp == 1) | (padded >= at_once * layouts.pp)  # no schedule has fewer micro-batches
        whole = (batch_seqs >= at_once) & (batch_seqs % layouts.micro_batch == 0) & chunked
        filled = np.where(whole, batch_seqs / padded, 0.0)
        return np.where(prediction.fits, prediction.tokens_per_s * filled, 0.0), prediction, filled


def _row(prediction: Prediction, layouts: Layouts, filled: np.ndarray, at: int, batch_seqs: int) -> Found:
    basis: Any = str(prediction.basis[at])
    known = prediction.evidence
    return Found(
        layout=layouts.at(at),
        batch_seqs=batch_seqs,
        tokens_per_s=float(prediction.tokens_per_s[at] * filled[at]),
        log_sd=float(prediction.log_sd[at]),
        mfu=float(prediction.mfu[at] * filled[at]),
        mem_gib={name: float(part[at]) for name, part in prediction.mem_gib.items()},
        mem_limit_gib=prediction.mem_limit_gib,
        step_s={name: float(part[at]) for name, part in prediction.parts_s.items()},
        basis=basis,
        evidence=Evidence(known.tags, known.shares[[at]], known.sizes[[at]]),  # one chip: the tags are the same for all
    )


def _owned(parts: Mapping[Any, Layouts]) -> tuple[np.ndarray, Layouts]:
    """Join layouts, and return for each the place of the part that it came from."""
    sizes = [len(part) for part in parts.values()]
    return np.repeat(np.arange(len(sizes)), sizes), join(list(parts.values()))


def _ranked(speed: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """Return the indices of mine that fit, fastest first; equals keep their order."""
    indices = np.flatnonzero(mine & (speed > 0))
    return indices[np.argsort(-speed[indices], kind="stable")]


def _best_of_each(layouts: Layouts, ranked: np.ndarray, *, most: int = VARIANTS_KEPT) -> np.ndarray:
    """Return the indices of the fastest variants of each combination of degrees."""
    combination = np.stack([getattr(layouts, name)[ranked] for name in ("tp", "pp", "cp", "ep", "etp", "dp")], axis=1)
    seen: Counter[bytes] = Counter()
    kept = []
    for at, degrees_of_it in zip(ranked, combination, strict=True):
        seen[degrees_of_it.tobytes()] += 1
        if seen[degrees_of_it.tobytes()] <= most:
            kept.append(at)
    return np.array(kept, dtype=np.int64)
