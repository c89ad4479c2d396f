"""Which islands together are cheapest, or fastest: exact over fixed options, by branch and bound.

Line-ups are tried in the order of their bounds until none can be better than the best found. Each is tried in all its
sizes at once. (A mixed-integer program says the same; scipy's solver took ten times as long and failed on one question
in ten thousand.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal

import numpy as np

from everyflop.base.units import SECONDS_PER_DAY
from everyflop.planner.choose.bounds import Bounds, bounds
from everyflop.planner.choose.bundles import Bundles, Offered, bundles_of
from everyflop.planner.choose.line_ups import ANY, LineUps, Wanted, line_ups
from everyflop.planner.choose.market import SLACK, Bill, Caps, Market, Option, bill_of

Objective = Literal["cost", "time"]

SAME = 1e-9
"""Differences below this share are none."""


@dataclass(frozen=True, slots=True)
class Pick:
    """Options taken, one for each island."""

    islands: tuple[Option, ...]
    bill: Bill

    @property
    def pools(self) -> tuple[int, ...]:
        """Indices of the pools taken, without repeats."""
        return tuple(sorted({island.pool for island in self.islands}))

    def better_than(self, other: "Pick | None", objective: Objective) -> bool:
        """Whether this is the one to take; among equals the cheaper or faster one, and then the first."""
        if other is None:
            return True
        mine, theirs = (_figures(pick.bill, objective) for pick in (self, other))
        if abs(mine[0] - theirs[0]) > SAME * theirs[0]:
            return mine[0] < theirs[0]
        return mine[1] < theirs[1] * (1 - SAME)


def _figures(bill: Bill, objective: Objective) -> tuple[float, float]:
    return (bill.cost, bill.days) if objective == "cost" else (bill.days, bill.cost)


def best_pick(
    market: Market,
    options: Mapping[int, Sequence[Option]],
    caps: Caps,
    *,
    objective: Objective = "cost",
    wanted: Wanted = ANY,
) -> Pick | None:
    """Return the best wanted choice that keeps the caps; None where there is none.

    options holds, for each number of islands that is allowed, what can be had for one of them.
    """
    best: Pick | None = None
    for islands in sorted(options):
        if offered := bundles_of(market, options[islands], islands, shares_limited=caps.supplier_share is not None):
            ups = line_ups(market, offered, islands, wanted)
            best = _best_of(market, offered, ups, caps, objective, best)
    return best


def _best_of(
    market: Market, offered: Offered, ups: LineUps, caps: Caps, objective: Objective, best: Pick | None
) -> Pick | None:
    """Return the best of these line-ups, or the one that is the best already."""
    bound = bounds(market, offered, ups, caps)
    ups = ups.take(bound.possible)
    needed = market.tokens_needed(ups.islands)
    least = needed * bound.least_price if objective == "cost" else needed / bound.most_speed / SECONDS_PER_DAY
    for number in np.argsort(least, kind="stable"):
        if best is not None and least[number] > _figures(best.bill, objective)[0] * (1 + SAME):
            break
        sizes = _Sizes.of(market, offered, ups, int(number))
        pick = sizes.that_may_help(bound, _tightened(caps, objective, best)).best(caps, objective)
        if pick is not None and pick.better_than(best, objective):
            best = pick
    return best


def _tightened(caps: Caps, objective: Objective, best: Pick | None) -> Caps:
    """Return the caps with what the best choice so far asks of a better one."""
    if best is None:
        return caps
    if objective == "cost":
        return replace(caps, cost=min(caps.cost or np.inf, best.bill.cost))
    return replace(caps, days=min(caps.days or np.inf, best.bill.days))


@dataclass(frozen=True, slots=True)
class _Sizes:
    """The islands of one line-up in all their sizes."""

    market: Market
    parts: list[tuple[int, int]]
    chosen: list[Bundles]
    needed: float
    """Tokens that the run needs with so many islands."""
    loss: float
    """Seconds for each token that exchanges take."""
    traffic: float
    """Price of exchanges for each token."""

    @classmethod
    def of(cls, market: Market, offered: Offered, ups: LineUps, number: int) -> "_Sizes":
        parts = ups.parts(number)
        return cls(
            market=market,
            parts=parts,
            chosen=[offered[part] for part in parts],
            needed=market.tokens_needed(ups.islands),
            loss=float(ups.stop_s[number]) / market.tokens_between,
            traffic=float(ups.traffic[number]),
        )

    def that_may_help(self, bound: Bounds, caps: Caps) -> "_Sizes":
        """Leave out sizes with which no choice keeps the caps."""
        most_price = np.inf if caps.cost is None else caps.cost / self.needed - self.traffic
        most_s = np.inf if caps.days is None else caps.days * SECONDS_PER_DAY / self.needed - self.loss
        kept = bound.may_help(self.chosen, self.parts, loss=self.loss, most_price=most_price, most_s=most_s)
        return replace(self, chosen=[one.take(may) for one, may in zip(self.chosen, kept, strict=True)])

    def best(self, caps: Caps, objective: Objective) -> Pick | None:
        """Return the best sizes that keep the caps."""
        if not all(len(bundles.chosen) for bundles in self.chosen):
            return None
        speeds = _grids([bundles.tokens_per_s for bundles in self.chosen])
        raw = _sum(speeds)
        seconds = self.needed * (1 / raw + self.loss)
        cost = _sum(_grids([bundles.money_per_s for bundles in self.chosen])) * seconds + self.traffic * self.needed
        kept = _keeps(self.market, [pool for pool, _ in self.parts], speeds, raw, caps)
        if caps.devices is not None:
            kept &= _sum(_grids([bundles.devices for bundles in self.chosen])) <= caps.devices
        if caps.days is not None:
            kept &= seconds <= caps.days * SECONDS_PER_DAY * SLACK
        if caps.cost is not None:
            kept &= cost <= caps.cost * SLACK
        if not kept.any():
            return None
        first, second = (cost, seconds) if objective == "cost" else (seconds, cost)
        least = first[kept].min()
        ties = kept & (first <= least * (1 + SAME))
        at = np.unravel_index(np.argmin(np.where(ties, second, np.inf)), first.shape)
        islands = _members(self.chosen, at)
        return Pick(islands, bill_of(self.market, islands))


def _members(chosen: Sequence[Bundles], at: Sequence[np.intp]) -> tuple[Option, ...]:
    return tuple(option for bundles, place in zip(chosen, at, strict=True) for option in bundles.members(int(place)))


def _grids(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return each array along an axis of its own, so that they combine to all combinations."""
    return [
        array.reshape([-1 if axis == own else 1 for axis in range(len(arrays))]) for own, array in enumerate(arrays)
    ]


def _sum(grids: Sequence[np.ndarray]) -> np.ndarray:
    return reduce(np.add, grids)


def _keeps(
    market: Market, pools: Sequence[int], speeds: Sequence[np.ndarray], raw: np.ndarray, caps: Caps
) -> np.ndarray:
    """Return for which sizes no pool and no supplier trains more than it may."""
    rules = [market.pools[pool] for pool in pools]
    kept = np.ones(raw.shape, dtype=bool)
    for rule, speed in zip(rules, speeds, strict=True):
        if rule.max_share < 1:
            kept &= speed <= rule.max_share * raw * SLACK
    if caps.supplier_share is not None:
        for supplier in dict.fromkeys(rule.supplier for rule in rules):
            mine = _sum([speed for rule, speed in zip(rules, speeds, strict=True) if rule.supplier == supplier])
            kept &= mine <= caps.supplier_share * raw * SLACK
    return kept
