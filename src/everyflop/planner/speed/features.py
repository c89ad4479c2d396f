"""What the calibration knows of a case: where its time goes, and how large it is in each respect."""

import numpy as np

from everyflop.planner.speed.cases import Cases

PARTS = (
    *("matmul", "experts", "attention", "memory-bound", "launches", "head"),
    *("tensor parallel", "expert parallel", "pipeline bubble", "data parallel"),
)
"""Components of a step whose rate can be off for a chip, a software, or both."""


def time_shares(parts_s: dict[str, np.ndarray], fp8: np.ndarray) -> np.ndarray:
    """Return each component's share of the step (N, P + 1); the last column is matmuls in fp8."""
    total = sum(parts_s.values())
    shares = np.stack([parts_s[name] / total for name in PARTS], axis=1)
    in_fp8 = (shares[:, 0] + shares[:, 1]) * np.asarray(fp8, dtype=float)
    return np.concatenate([shares, in_fp8[:, None]], axis=1)


def sizes(cases: Cases) -> np.ndarray:
    """Return the logarithms of a case's sizes (N, F), scaled so that distance 1 is a like case."""
    dims, layouts = cases.dims, cases.layouts
    columns = (
        _log2(cases.seq_len) / 2,
        _log2(dims.hidden),
        _log2(dims.n_layers),
        _log2(layouts.devices) / 3,
        _log2(layouts.tp) / 1.5,
        _log2(layouts.pp) / 1.5,
        _log2(layouts.cp) / 1.5,
        _log2(layouts.ep) / 2,
        1.5 * np.asarray(cases.in_fp8, dtype=float),
        _log2(layouts.micro_batch) / 1.5,
        layouts.recompute - 1.0,
        _log2(cases.batch_seqs) / 3,
    )
    return np.stack([column * np.ones(len(layouts)) for column in columns], axis=1)


def _log2(values: object) -> np.ndarray:
    return np.log2(np.maximum(np.asarray(values, dtype=float), 1e-6))
