"""Small markets for tests: pools with options, and the same question answered by trying everything."""

from itertools import combinations, combinations_with_replacement

import numpy as np

from everyflop.planner.choose.market import Caps, Market, Option, PoolRules, bill_of, broken_caps
from everyflop.planner.choose.mix import Pick


def market(
    suppliers=("x", "y"),
    *,
    counts=None,
    max_share=None,
    gbit=1000.0,
    price_per_gb=0.0,
    tokens=1e12,
    steps_between=30,
    exchange_gb=100.0,
    extra=None,
) -> Market:
    """Return a market of pools a, b, c ...; gbit and price_per_gb may be matrices, 0 Gbit/s where there is no link."""
    n = len(suppliers)
    counts, max_share = counts or [(1, 10**6)] * n, max_share or [1.0] * n
    rules = [PoolRules(chr(97 + i), s, *counts[i], max_share[i]) for i, s in enumerate(suppliers)]
    square = np.ones((n, n))
    return Market(
        pools=tuple(rules),
        gbit_per_s=square * np.asarray(gbit),
        latency_s=square * 0.001,
        price_per_gb=square * np.asarray(price_per_gb),
        tokens=tokens,
        batch_tokens=4e6,
        steps_between_exchanges=steps_between,
        exchange_gb=exchange_gb,
        extra_tokens_share=extra or {1: 0.0, 2: 0.03, 3: 0.05, 4: 0.06},
    )


def option(pool: int, devices: int, *, speed: float, price: float) -> Option:
    """Return an option by what one of its devices does in a second and costs in an hour."""
    return Option(pool, devices, speed * devices, price * devices)


def try_all(market: Market, options, caps: Caps, *, objective="cost", least_pools=1) -> Pick | None:
    """Return the best choice by trying every one."""
    best = None
    for islands, offered in options.items():
        for chosen in combinations_with_replacement(offered, islands):
            pools = [o.pool for o in chosen]
            linked = all(market.connected(*pair) for pair in combinations(pools, 2))
            if not linked or len(set(pools)) < least_pools or any(broken_caps(market, chosen, caps)):
                continue
            pick = Pick(chosen, bill_of(market, chosen))
            if pick.better_than(best, objective):
                best = pick
    return best
