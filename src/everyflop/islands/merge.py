"""Merge the updates of islands, and what the merged one does to the anchor.

Symbols: p an island's share of the round's tokens, tau its inner steps, r their reach, Delta its pseudo-gradient.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from everyflop.islands.codec import AT_ONCE, Flat

TINY = 1e-30
"""A sum of squares in fp32 below this has lost some of them."""


@dataclass(frozen=True, slots=True)
class Work:
    """What stands behind one update."""

    tokens: int
    steps: int
    reach: float = 1.0
    """How long the steps were, over the schedule's."""


def reach(share: float, islands: int) -> float:
    """Return how long the steps of an island with this share of a batch are, over the schedule's.

    Noise carries an island off by the length of its steps over the root of their sequences, and the gradients that it
    finds there are wrong by the square of that. No island strays farther than one with an equal share.
    """
    return math.sqrt(min(1.0, share * islands))


def token_shares(work: Mapping[str, Work]) -> dict[str, float]:
    """Return p: each island's share of the tokens."""
    total = sum(done.tokens for done in work.values())
    return {name: done.tokens / total for name, done in work.items()}


def mean_steps(work: Mapping[str, Work]) -> float:
    """Return tau, the steps of the round: sum of p_i tau_i."""
    return sum(p * work[name].steps for name, p in token_shares(work).items())


def coefficients(work: Mapping[str, Work], rule: str) -> dict[str, float]:
    """Return what each pseudo-gradient is multiplied by: tau p_i / (tau_i r_i), without taus for the rule "tokens".

    An island that did more steps than others with the same batch has both more tokens and a longer Delta; dividing by
    its own steps keeps speed from counting twice (FedNova, arXiv 2007.07481, eq. 6). Short steps count as whole ones,
    as far as the island's share is the small one that they were short for: of islands that were to weigh more and are
    lost, it does not take the place with a step far beyond where it has been.
    """
    shares, tau = token_shares(work), mean_steps(work)
    per_step = {name: tau / done.steps if rule == "steps" else 1.0 for name, done in work.items()}
    return {name: per_step[name] * p / max(work[name].reach, reach(p, len(work))) for name, p in shares.items()}


def weighted_sum(parts: Sequence[tuple[float, Flat]]) -> Flat:
    """Return the sum of coefficient times array in the order given, rounded after every operation.

    Multiplying and adding apart keeps the bits the same on every processor; a fused operation would not.
    """
    (_, like), *_ = parts
    total = np.empty_like(like)
    for first in range(0, like.size, AT_ONCE):
        some = slice(first, first + AT_ONCE)
        out, *rest = (array[some] * array.dtype.type(coefficient) for coefficient, array in parts)
        for product in rest:
            out += product
        total[some] = out
    return total


@dataclass(slots=True)
class OuterStep:
    """Nesterov's momentum on merged pseudo-gradients: m = mu m + Delta, anchor -= eta (Delta + mu m)."""

    lr: float
    momentum: float
    buffer: Flat | None = None
    """m; None before the first round, and always without momentum."""

    def apply(self, anchor: Flat, merged: Flat) -> Flat:
        """Return the next anchor."""
        update = merged
        if self.momentum:
            mu = merged.dtype.type(self.momentum)
            self.buffer = merged.copy() if self.buffer is None else self.buffer * mu + merged
            update = merged + self.buffer * mu
        return anchor - update * merged.dtype.type(self.lr) if self.lr != 1 else anchor - update


def norm(flat: Flat) -> float:
    """Return the Euclidean norm; NaN or infinity if any number is.

    Squares are added up in the array's own type, blocks of them in fp64: a tenth of the time of fp64 throughout, which
    numbers whose squares are too large or too small for that still get.
    """
    total = _sum_of_squares(flat, flat.dtype.type)
    if not TINY < total < np.inf:
        total = _sum_of_squares(flat, np.float64)
    return float(np.sqrt(total))


def _sum_of_squares(flat: Flat, dtype: type[np.floating]) -> float:
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, flat.size, AT_ONCE):
            part = flat[first : first + AT_ONCE].astype(dtype, copy=False)
            total += float(part @ part)
    return total
