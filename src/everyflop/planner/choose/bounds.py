"""Bounds on what line-ups could cost and deliver, whatever the sizes of their islands.

They come from Lagrange's multipliers: at any price m of a token, no bundle of a pool has less `money - m x speed` than
the pool's best, and these add up over the pools of a line-up. So money >= reduced(m) + m x speed, and speed lies
between what the limits ask for and the most that there is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from everyflop.base.units import SECONDS_PER_DAY
from everyflop.planner.choose.bundles import Bundles, Offered
from everyflop.planner.choose.line_ups import LineUps
from everyflop.planner.choose.market import SLACK, Caps, Market

PRICES = 64
"""Multipliers tried, in even ratios."""
CHUNK = 4096
"""Line-ups bounded at once, to limit memory."""

Parts = Sequence[tuple[int, int]]
"""(pool, islands on it) for each pool of a line-up."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of line-ups that may keep the limits."""

    possible: np.ndarray
    """Their numbers."""
    least_price: np.ndarray
    """Of a token, traffic included."""
    most_speed: np.ndarray
    """After exchanges."""
    tables: "_Tables"

    def may_help(
        self, chosen: Sequence[Bundles], parts: Parts, *, loss: float, most_price: float, most_s: float
    ) -> list[np.ndarray]:
        """Return for each pool of a line-up which bundles could be in one that is no dearer and no slower.

        loss is the seconds for each token that exchanges take; most_price is that of a token without traffic, most_s
        its seconds without exchanges.
        """
        tables = self.tables
        reduced = [tables.reduced[:, *part] for part in parts]
        fast, slow, money = (
            sum(table[part] for part in parts) for table in (tables.most_speed, tables.least_speed, tables.least_money)
        )
        kept = []
        for part, own, bundles in zip(parts, reduced, chosen, strict=True):
            least = (sum(reduced) - own)[:, None] + bundles.money_per_s - tables.prices * bundles.tokens_per_s
            price = (tables.prices + least / np.where(least >= 0, fast, slow)).max(axis=0)
            price = price + loss * (money - tables.least_money[part] + bundles.money_per_s)
            speed = fast - tables.most_speed[part] + bundles.tokens_per_s
            kept.append((price <= most_price * SLACK) & (speed * most_s * SLACK >= 1))
        return kept


def bounds(market: Market, offered: Offered, ups: LineUps, caps: Caps) -> Bounds:
    """Return the line-ups that may keep the limits, with bounds on each."""
    tables = _Tables(market, offered, ups.islands)
    needed = market.tokens_needed(ups.islands)
    loss = ups.stop_s / market.tokens_between  # seconds for each token
    left_s = (caps.days * SECONDS_PER_DAY / needed if caps.days else np.inf) - loss  # to compute a token in
    enough = np.maximum(tables.total(tables.least_speed, ups), 1 / np.where(left_s > 0, left_s, np.inf))
    most = tables.total(tables.most_speed, ups)
    kept = (left_s > 0) & (enough <= most * SLACK) & _keeps_shares(market, tables, ups, caps)
    if caps.devices is not None:
        kept &= tables.total(tables.least_devices, ups) <= caps.devices
    possible = np.flatnonzero(kept)
    ups, loss, enough, most = ups.take(possible), loss[possible], enough[possible], most[possible]
    budget = np.full(len(possible), np.inf if caps.cost is None else caps.cost / needed) - ups.traffic
    ratio, affordable = _chunked(tables, ups, enough, most, budget)
    money = np.maximum(tables.total(tables.least_money, ups), ratio * enough)
    price = ratio + loss * money
    kept = (affordable * SLACK >= enough) & (price <= budget * SLACK)
    most = np.minimum(most, affordable)
    return Bounds(
        possible[kept], (price + ups.traffic)[kept], (1 / (1 / np.maximum(most, enough) + loss))[kept], tables
    )


class _Tables:
    """The best that each pool has with each number of islands: arrays by (pool, islands); 0 for no islands."""

    def __init__(self, market: Market, offered: Offered, islands: int):
        shape = (len(market.pools), islands + 1)
        ratios = np.concatenate([one.money_per_s / one.tokens_per_s for one in offered.values()])
        self.prices = np.geomspace(ratios.min(), 8 * ratios.max(), PRICES)[:, None]
        self.reduced = np.zeros((PRICES, *shape))
        self.most_speed, self.least_speed, self.least_money, self.least_devices = (np.zeros(shape) for _ in range(4))
        for key, one in offered.items():
            self.reduced[:, *key] = np.min(one.money_per_s - self.prices * one.tokens_per_s, axis=1)
            self.most_speed[key], self.least_speed[key] = one.tokens_per_s.max(), one.tokens_per_s.min()
            self.least_money[key], self.least_devices[key] = one.money_per_s.min(), one.devices.min()

    def total(self, table: np.ndarray, ups: LineUps) -> np.ndarray:
        """Return the sum of a table over the pools of each line-up."""
        return table[..., ups.pools, ups.runs].sum(axis=-1)


def _chunked(
    tables: _Tables, ups: LineUps, enough: np.ndarray, most: np.ndarray, budget: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the least money for each token computed, and the most speed that the budget pays for."""
    ratio, affordable = np.empty(len(enough)), np.empty(len(enough))
    for start in range(0, len(enough), CHUNK):
        part = slice(start, start + CHUNK)
        reduced = tables.total(tables.reduced, ups.take(part))
        at_speed = np.where(reduced >= 0, most[part], enough[part])
        ratio[part] = np.max(tables.prices + reduced / at_speed, axis=0)
        over = tables.prices - budget[part]
        # What a token costs above the budget must come out of what is reduced.
        paid = np.where(over > 0, np.maximum(-reduced, 0.0) / np.where(over > 0, over, 1.0), np.inf)
        affordable[part] = paid.min(axis=0)
    return ratio, affordable


def _keeps_shares(market: Market, tables: _Tables, ups: LineUps, caps: Caps) -> np.ndarray:
    """Return where no pool and no supplier trains too much even if it is slow and all others are fast."""
    slow, fast = tables.least_speed[ups.pools, ups.runs], tables.most_speed[ups.pools, ups.runs]
    of_pools = np.array([rule.max_share for rule in market.pools])[ups.pools]
    kept = (slow <= of_pools * (slow + fast.sum(axis=1, keepdims=True) - fast) * SLACK).all(axis=1)
    if caps.supplier_share is not None:
        suppliers = np.array([rule.supplier for rule in market.pools])[ups.pools]
        for supplier in np.unique(suppliers):
            mine = suppliers == supplier
            own, others = np.where(mine, slow, 0.0).sum(axis=1), np.where(mine, 0.0, fast).sum(axis=1)
            kept &= own <= caps.supplier_share * (own + others) * SLACK
    return kept
