"""Merge the updates of islands, and what the merged one does to the anchor.

Symbols: p an island's share of the round's tokens, tau its inner steps, Delta its pseudo-gradient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from everyflop.islands.codec import Flat

BLOCK = 1 << 16
"""Numbers that are worked on at once: they stay in the processor's cache."""
TINY = 1e-30
"""A sum of squares in fp32 below this has lost some of them."""


@dataclass(frozen=True, slots=True)
class Work:
    """What stands behind one update."""

    tokens: int
    steps: int


def token_shares(work: Mapping[str, Work]) -> dict[str, float]:
    """Return p: each island's share of the tokens."""
    total = sum(done.tokens for done in work.values())
    return {name: done.tokens / total for name, done in work.items()}


def mean_steps(work: Mapping[str, Work]) -> float:
    """Return tau, the steps of the round: sum of p_i tau_i."""
    return sum(p * work[name].steps for name, p in token_shares(work).items())


def coefficients(work: Mapping[str, Work], rule: str) -> dict[str, float]:
    """Return what each pseudo-gradient is multiplied by: tau p_i / tau_i, or p_i for the rule "tokens".

    An island that did more steps than others with the same batch has both more tokens and a longer Delta; dividing by
    its own steps keeps speed from counting twice (FedNova, arXiv 2007.07481, eq. 6).
    """
    shares = token_shares(work)
    if rule == "tokens":
        return shares
    tau = mean_steps(work)
    return {name: tau * p / work[name].steps for name, p in shares.items()}


def weighted_sum(parts: Sequence[tuple[float, Flat]]) -> Flat:
    """Return the sum of coefficient times array in the order given, rounded after every operation.

    Multiplying and adding apart keeps the bits the same on every processor; a fused operation would not.
    """
    (_, like), *_ = parts
    total = np.empty_like(like)
    product = np.empty(BLOCK, dtype=like.dtype)
    for first in range(0, like.size, BLOCK):
        out = total[first : first + BLOCK]
        for number, (coefficient, array) in enumerate(parts):
            into = out if number == 0 else product[: out.size]
            np.multiply(array[first : first + BLOCK], like.dtype.type(coefficient), out=into)
            if number:
                out += into
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
        for first in range(0, flat.size, BLOCK):
            part = flat[first : first + BLOCK].astype(dtype, copy=False)
            total += float(part @ part)
    return total
