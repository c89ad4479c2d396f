"""What one pool can contribute to a mix: so many islands at once, in every combination that it has devices for."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from everyflop.base.units import SECONDS_PER_HOUR
from everyflop.planner.choose.market import Market, Option


@dataclass(frozen=True, slots=True)
class Bundles:
    """Combinations of islands on one pool; arrays have one entry for each."""

    options: tuple[Option, ...]
    chosen: np.ndarray
    """(bundles, islands): indices into options."""
    tokens_per_s: np.ndarray
    money_per_s: np.ndarray
    devices: np.ndarray

    def members(self, number: int) -> tuple[Option, ...]:
        """Return the islands of one bundle."""
        return tuple(self.options[index] for index in self.chosen[number])


Offered = dict[tuple[int, int], Bundles]
"""(pool, islands on it) -> what there is; without an entry there is nothing."""


def bundles_of(market: Market, options: Sequence[Option], islands: int) -> Offered:
    """Return what each pool can contribute with up to so many islands on it."""
    offered: Offered = {}
    for pool in sorted({option.pool for option in options}):
        mine = tuple(option for option in options if option.pool == pool)
        most = islands if market.connected(pool, pool) else 1
        for count in range(1, most + 1):
            made = _bundles(market, mine, count)
            if len(made.chosen):
                offered[pool, count] = made
    return offered


def _bundles(market: Market, options: tuple[Option, ...], count: int) -> Bundles:
    rule = market.pools[options[0].pool]
    chosen = _combinations(len(options), count)
    devices = np.array([option.devices for option in options])[chosen].sum(axis=1)
    kept = (rule.least_devices <= devices) & (devices <= rule.most_devices)
    chosen = chosen[kept]
    return Bundles(
        options=options,
        chosen=chosen,
        tokens_per_s=np.array([option.tokens_per_s for option in options])[chosen].sum(axis=1),
        money_per_s=np.array([option.money_per_hour for option in options])[chosen].sum(axis=1) / SECONDS_PER_HOUR,
        devices=devices[kept],
    )


@functools.cache
def _combinations(options: int, count: int) -> np.ndarray:
    return np.array(list(combinations_with_replacement(range(options), count)), dtype=np.int64)
