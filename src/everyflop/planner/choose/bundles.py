"""What one pool can contribute to a mix: so many islands at once.

Of combinations that take equally many devices, and so cost the same, the fastest is on offer; where shares of the
tokens are limited, the slower ones are too.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from everyflop.base.units import SECONDS_PER_HOUR
from everyflop.planner.choose.market import Market, Option, PoolRules


@dataclass(frozen=True, slots=True)
class Bundles:
    """Combinations of islands on one pool; arrays have one entry for each."""

    options: tuple[Option, ...]
    chosen: np.ndarray
    """(bundles, islands): indices into options."""
    tokens_per_s: np.ndarray
    money_per_s: np.ndarray
    devices: np.ndarray

    def take(self, kept: np.ndarray) -> "Bundles":
        """Return some of them."""
        return replace(
            self,
            chosen=self.chosen[kept],
            tokens_per_s=self.tokens_per_s[kept],
            money_per_s=self.money_per_s[kept],
            devices=self.devices[kept],
        )

    def members(self, number: int) -> tuple[Option, ...]:
        """Return the islands of one bundle."""
        return tuple(self.options[index] for index in self.chosen[number])


Offered = dict[tuple[int, int], Bundles]
"""(pool, islands on it) -> what there is; without an entry there is nothing."""


def bundles_of(market: Market, options: Sequence[Option], islands: int, *, shares_limited: bool = False) -> Offered:
    """Return what each pool can contribute with up to so many islands on it.

    shares_limited: whether suppliers may train only a share of the tokens.
    """
    offered: Offered = {}
    for pool in sorted({option.pool for option in options}):
        mine = tuple(option for option in options if option.pool == pool)
        rule = market.pools[pool]
        most = islands if market.connected(pool, pool) else 1
        made = _bundles(mine, rule, most, shares_limited or rule.max_share < 1)
        offered |= {(pool, count): bundles for count, bundles in enumerate(made, 1) if len(bundles.chosen)}
    return offered


@functools.lru_cache(maxsize=4096)
def _bundles(options: tuple[Option, ...], rule: PoolRules, most_islands: int, slower_too: bool) -> tuple[Bundles, ...]:
    """Return those of 1, 2, ... islands; kept, since most questions change little of the market."""
    return tuple(
        _of(options, chosen, rule.least_devices)
        for chosen in _combinations(options, most_islands, rule.most_devices, slower_too=slower_too)
    )


def _of(options: tuple[Option, ...], chosen: np.ndarray, least_devices: int) -> Bundles:
    devices = np.array([option.devices for option in options])[chosen].sum(axis=1)
    kept = devices >= least_devices
    chosen = chosen[kept]
    return Bundles(
        options=options,
        chosen=chosen,
        tokens_per_s=np.array([option.tokens_per_s for option in options])[chosen].sum(axis=1),
        money_per_s=np.array([option.money_per_hour for option in options])[chosen].sum(axis=1) / SECONDS_PER_HOUR,
        devices=devices[kept],
    )


def _combinations(
    options: Sequence[Option], most_islands: int, most_devices: int, *, slower_too: bool
) -> Iterator[np.ndarray]:
    """Yield for 1, 2, ... islands the fastest combination of each number of devices, as indices (bundles, islands)."""
    devices = np.array([option.devices for option in options])
    speed = np.array([option.tokens_per_s for option in options])
    chosen = np.zeros((1, 0), dtype=np.int64)
    for _ in range(most_islands):
        more = np.broadcast_to(np.arange(len(options)), (len(chosen), len(options)))[..., None]
        extended = np.concatenate([np.repeat(chosen[:, None], len(options), axis=1), more], axis=2)
        chosen = np.sort(extended.reshape(-1, extended.shape[2]), axis=1)  # equal ones sum up to equal bits
        total, fast = devices[chosen].sum(axis=1), speed[chosen].sum(axis=1)
        order = np.lexsort((-fast, total))
        other = np.diff(total[order]) > 0
        if slower_too:
            other |= np.diff(fast[order]) < 0
        chosen = chosen[order[np.append(True, other) & (total[order] <= most_devices)]]
        yield chosen
