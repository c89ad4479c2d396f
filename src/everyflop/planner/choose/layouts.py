"""Which layouts are worth a prediction: parallel degrees first, then what trades memory for time.

All of them as arrays. A layout may leave devices idle where its degrees do not divide their number; they are paid for.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from itertools import product
from math import ceil
from typing import Any

import numpy as np

from everyflop.accounting.dims import Dims
from everyflop.accounting.layouts import RECOMPUTES, SHARDINGS, Layouts

Integers = Any
"""An int, or an array of them."""

MOST_IDLE_SHARE = 0.25
"""Of the devices. Layouts that leave more of them idle are not looked at."""
MOST_EXPERT_GROUPS = 64
FEW_EXPERTS = 16
"""Up to here experts are so large that it can pay to divide each one (etp)."""
LEAST_TOKENS_PER_CONTEXT_RANK = 4096
CHUNKS = (1, 2, 4)
"""Of layers on each pipeline stage."""
MICRO_BATCHES = (1, 2, 4, 8, 16)


def degrees(dims: Dims, *, devices: int, domain: int, seq_len: int, batch_seqs: int) -> Layouts:
    """Return combinations of tp, pp, cp, ep, etp and dp; the rest is at its simplest, with full recompute.

    Tensor parallel stays inside a domain of fast links. A batch has a sequence for each data-parallel replica at least.
    """
    rows = []
    for tp, pp, cp in product(_tensor(dims, domain), _stages(int(dims.n_layers)), _context(seq_len)):
        for ep, etp in _experts(dims, tp, domain):
            dp = _replicas(devices, tp * cp, pp, ep * etp)
            if 1 <= dp <= batch_seqs and tp * cp * pp * dp >= (1 - MOST_IDLE_SHARE) * devices:
                sharding = "zero1" if pp > 1 else "zero3"
                rows.append((tp, pp, 1, cp, ep, etp, dp, SHARDINGS.index(sharding), RECOMPUTES.index("full"), 1))
    columns = np.array(rows, dtype=np.int64).reshape(-1, len(fields(Layouts))).T
    return Layouts(*columns)


def variants(layouts: Layouts, dims: Dims, *, batch_seqs: int) -> Layouts:
    """Return all ways to choose chunks, micro-batch, recompute and sharding for each combination of degrees."""
    made = [
        replace(
            layouts,
            vpp=np.full(len(layouts), vpp),
            micro_batch=np.full(len(layouts), micro_batch),
            recompute=np.full(len(layouts), recompute),
            sharding=np.full(len(layouts), SHARDINGS.index(sharding)),
        )
        for vpp, micro_batch, recompute, sharding in product(
            CHUNKS, MICRO_BATCHES, range(len(RECOMPUTES)), ("zero1", "zero3")
        )
    ]
    every = join(made)
    n_micro = batch_seqs / (every.dp * every.micro_batch)
    chunked = (every.vpp == 1) | ((every.pp > 1) & (dims.n_layers >= every.pp * every.vpp) & (n_micro >= every.pp))
    gathered = (every.sharding == SHARDINGS.index("zero3")) & (every.pp > 1)
    return every.take((n_micro >= 1) & chunked & ~gathered)


def refitted(layouts: Layouts, *, devices: np.ndarray, batch_seqs: int) -> tuple[Layouts, np.ndarray]:
    """Return layouts for other numbers of devices, one for each: as many replicas as there is room for, all else as it
    is. And the indices of those that have any.
    """
    dp = _replicas(devices, layouts.tp * layouts.cp, layouts.pp, layouts.ep * layouts.etp)
    used = layouts.tp * layouts.cp * layouts.pp * dp
    kept = (dp >= 1) & (dp * layouts.micro_batch <= batch_seqs) & (used >= (1 - MOST_IDLE_SHARE) * devices)
    return replace(layouts, dp=dp).take(kept), np.flatnonzero(kept)


def join(parts: Sequence[Layouts]) -> Layouts:
    """Put layouts one after the other."""
    return Layouts(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Layouts)))


def distinct(layouts: Layouts) -> Layouts:
    """Return each layout once, in the order of their first."""
    rows = np.stack([getattr(layouts, f.name) for f in fields(Layouts)], axis=1)
    return layouts.take(np.sort(np.unique(rows, axis=0, return_index=True)[1]))


def _replicas(devices: Integers, rank: Integers, pp: Integers, group: Integers) -> Integers:
    """Return the most replicas that together hold whole groups of experts."""
    step = group // np.gcd(group, rank)
    return devices // (rank * pp) // step * step


def _tensor(dims: Dims, domain: int) -> Iterator[int]:
    tp = 1
    while tp <= domain and dims.n_heads % tp == 0:
        yield tp
        tp *= 2


def _stages(layers: int) -> Iterable[int]:
    """Return the numbers of pipeline stages that no smaller number equals in layers of the fullest stage."""
    return sorted({ceil(layers / on_stage) for on_stage in range(1, layers + 1)})


def _context(seq_len: int) -> Iterator[int]:
    cp = 1
    while cp == 1 or seq_len // cp >= LEAST_TOKENS_PER_CONTEXT_RANK:
        yield cp
        cp *= 2


def _experts(dims: Dims, tp: int, domain: int) -> Iterator[tuple[int, int]]:
    """Yield (ep, etp) such that a group of experts fills domains evenly, or lies inside one."""
    n_experts = max(int(dims.n_experts), 1)
    for ep in range(1, min(n_experts, MOST_EXPERT_GROUPS) + 1):
        if n_experts % ep == 0 and (domain % ep == 0 or ep % domain == 0 or ep & (ep - 1) == 0):
            yield ep, 1
            if tp > 1 and n_experts <= FEW_EXPERTS:
                yield ep, tp
