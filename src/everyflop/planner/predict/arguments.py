"""Refuse questions to `predict` that have no answer: numbers out of range would only come back as nonsense."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import get_args

import numpy as np

from everyflop.accounting.dims import Numbers
from everyflop.accounting.layouts import RECOMPUTES, SHARDINGS, Layouts
from everyflop.base.errors import UsageError
from everyflop.spec.workload import Precision

INDICES = {"layouts.sharding": SHARDINGS, "layouts.recompute": RECOMPUTES}


def refuse_wrong(layouts: Layouts, *, precision: str, **counts: Numbers) -> None:
    """Raise UsageError with every argument that is wrong; counts are numbers that must be 1 or more, by their names."""
    named = {f"layouts.{field.name}": getattr(layouts, field.name) for field in fields(layouts)}
    wrong = [*_not_one_or_more({**counts, **named}), *_no_index(named)]
    if precision not in get_args(Precision):
        wrong.append(f"precision = {precision!r} is none of {', '.join(get_args(Precision))}")
    if wrong:
        raise UsageError(f"cannot predict: {'; '.join(wrong)}. Change these arguments.")


def _not_one_or_more(named: Mapping[str, Numbers]) -> Iterator[str]:
    for name, values in named.items():
        good = np.isfinite(values) & (np.asarray(values) >= 1)
        if name not in INDICES and not np.all(good):
            yield f"{name} = {_first(values, ~good)} is not 1 or more"


def _no_index(named: Mapping[str, Numbers]) -> Iterator[str]:
    for name, words in INDICES.items():
        good = np.isin(named[name], range(len(words)))
        if not np.all(good):
            yield f"{name} = {_first(named[name], ~good)} is none of 0 to {len(words) - 1} ({', '.join(words)})"


def _first(values: Numbers, bad: np.ndarray) -> str:
    return f"{np.atleast_1d(values)[np.atleast_1d(bad)][0]:g}"
