"""What is really to be had of a choice: each island's part of the batch is proportional to its speed.

The part decides the best layout and with it the speed, so both are sought together; a few rounds are enough, since a
layout's speed hardly depends on its batch. What a choice turns out to be corrects the options that it is made of, and
the question is asked again until the answer is what its options say.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from everyflop.base.units import SECONDS_PER_DAY
from everyflop.planner.choose.line_ups import ANY, Wanted
from everyflop.planner.choose.market import SLACK, Bill, Caps, Market, Option, bill_of, broken_caps
from everyflop.planner.choose.mix import Objective, Pick, best_pick
from everyflop.planner.choose.search import Found
from everyflop.planner.choose.split import split_batch
from everyflop.planner.choose.supply import Supply

ROUNDS = 8
"""Of shares and layouts, until no sequence moves; and of questions, until an answer holds."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Islands with the layouts and parts of the batch that they really get."""

    islands: tuple[Option, ...]
    found: tuple[Found, ...]
    bill: Bill

    @property
    def pools(self) -> tuple[int, ...]:
        """Indices of the pools taken, without repeats."""
        return tuple(sorted({island.pool for island in self.islands}))

    def figure(self, objective: Objective) -> float:
        """Return what is to be lowest."""
        return self.bill.cost if objective == "cost" else self.bill.days


def best_settled(
    supply: Supply,
    market: Market,
    options: Mapping[int, Sequence[Option]],
    caps: Caps,
    *,
    objective: Objective = "cost",
    wanted: Wanted = ANY,
) -> Settled | None:
    """Return the best wanted choice that keeps the caps at the speeds it really has; None where none is found.

    At the edge of what is possible, options that promise a little too much or too little hide the choice that just
    keeps the caps: then the fastest and the cheapest are held against them.
    """
    trials: list[tuple[Caps, Objective]] = [
        (caps, objective),
        (replace(caps, days=None), "time"),
        (replace(caps, cost=None), "cost"),
        (replace(caps, cost=None, days=None), "time"),
    ]
    for looser, goal in trials if caps.days or caps.cost else trials[:1]:
        found = _settled(supply, market, options, looser, goal, wanted)
        if found is not None and not any(broken_caps(market, found.islands, caps)):
            return found
    return None


def _settled(
    supply: Supply,
    market: Market,
    options: Mapping[int, Sequence[Option]],
    caps: Caps,
    objective: Objective,
    wanted: Wanted,
) -> Settled | None:
    """Return the best of the choices that keep the caps, asking again with corrected options until they are true."""
    corrected = {islands: list(offered) for islands, offered in options.items()}
    best = _best_alike(supply, market, options, caps, objective, wanted)
    for _ in range(ROUNDS):
        pick = best_pick(market, corrected, caps, objective=objective, wanted=wanted)
        if pick is None:
            break
        settled = settle(supply, market, pick)
        if settled is not None and not any(broken_caps(market, settled.islands, caps)):
            best = _better(settled, best, objective)
        if settled is not None and settled.islands == pick.islands:
            break
        _correct(corrected, pick, settled)
    return best


def _best_alike(
    supply: Supply,
    market: Market,
    options: Mapping[int, Sequence[Option]],
    caps: Caps,
    objective: Objective,
    wanted: Wanted,
) -> Settled | None:
    """Return the best choice of islands that are all the same.

    They get the even parts that options are made for, so that theirs are true, and what unlike islands turn out to be
    must not correct them.
    """
    best: Settled | None = None
    for least, islands in sorted(_alike(market, options, caps, objective, wanted), key=lambda one: one[0]):
        if best is not None and least > best.figure(objective):
            break
        if any(broken_caps(market, islands, caps)):
            continue
        settled = settle(supply, market, Pick(islands, bill_of(market, islands)))
        if settled is not None and settled.islands == islands:
            best = _better(settled, best, objective)
    return best


def _better(one: Settled, best: Settled | None, objective: Objective) -> Settled:
    return one if best is None or one.figure(objective) < best.figure(objective) else best


def _alike(
    market: Market, options: Mapping[int, Sequence[Option]], caps: Caps, objective: Objective, wanted: Wanted
) -> Iterator[tuple[float, tuple[Option, ...]]]:
    """Yield wanted choices of islands that are all the same, each with the least that its figure can be: exchanges come
    on top. Left out is most of what breaks the caps without them.
    """
    for n, offered in options.items():
        needed = market.tokens_needed(n)
        for option in offered:
            on_offer = option.devices * n <= market.pools[option.pool].most_devices
            if wanted.least_pools > 1 or wanted.member not in (None, option.pool) or not on_offer:
                continue
            if n > 1 and not market.connected(option.pool, option.pool):
                continue
            cost, days = needed * option.money_per_token, needed / (n * option.tokens_per_s) / SECONDS_PER_DAY
            if cost <= (caps.cost or inf) * SLACK and days <= (caps.days or inf) * SLACK:
                yield (cost if objective == "cost" else days), (option,) * n


def settle(supply: Supply, market: Market, pick: Pick) -> Settled | None:
    """Return a choice as it would run; None where the part of an island is too small for any of its layouts.

    Where a layout comes and goes with a part that moves by a few sequences, parts never come to rest: the shortest step
    counts then, which is where they fit the speeds best.
    """
    islands, parts = pick.islands, (0,) * len(pick.islands)
    tried: list[tuple[float, Settled]] = []
    for _ in range(ROUNDS):
        before, parts = parts, split_batch(supply.workload.batch_seqs, [i.tokens_per_s for i in islands])
        if parts == before:
            return tried[-1][1]
        looked_at = [supply.found(i.pool, i.devices, part) for i, part in zip(islands, parts, strict=True)]
        found = [one for one in looked_at if one is not None]
        if len(found) < len(islands):
            return None
        islands = tuple(supply.option(i.pool, i.devices, one) for i, one in zip(islands, found, strict=True))
        step = max(part / island.tokens_per_s for part, island in zip(parts, islands, strict=True))
        tried.append((step, Settled(islands, tuple(found), bill_of(market, islands))))
    return min(tried, key=lambda one: one[0])[1]


def _correct(options: dict[int, list[Option]], pick: Pick, settled: Settled | None) -> None:
    """Give the options that were picked the speeds that they turned out to have; without layouts they are gone."""
    islands = len(pick.islands)
    true_speed = {(i.pool, i.devices): i.tokens_per_s for i in settled.islands} if settled else {}
    picked = {(i.pool, i.devices) for i in pick.islands}
    options[islands] = [
        replace(option, tokens_per_s=true_speed.get(key, option.tokens_per_s))
        for option in options[islands]
        if (key := (option.pool, option.devices)) not in picked or key in true_speed
    ]
