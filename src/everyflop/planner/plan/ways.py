"""Which way islands exchange: of those that were measured, the one with which several are best."""

from dataclasses import replace

from everyflop.planner.choose.settle import Settled
from everyflop.planner.choose.supply import market_of
from everyflop.planner.plan.alternatives import mixes
from everyflop.planner.plan.desk import Desk
from everyflop.spec.exchange import ExchangeSpec
from everyflop.spec.fleet import Fleet
from everyflop.spec.workload import Workload

LEAST_EXCHANGES = 10
"""In a run of several islands."""


def possible_ways(workload: Workload, how: ExchangeSpec) -> list[ExchangeSpec]:
    """Return the ways whose cost in learning is known in such a run, for two islands or more."""
    longest = max(1, workload.tokens // workload.batch_tokens // LEAST_EXCHANGES)
    return [way for way in how.ways if way.steps_between_exchanges <= longest and way.known_islands > 1]


def with_best_way(desk: Desk, fleet: Fleet) -> Desk:
    """Return the desk with the way to exchange with which several islands are best, on pools that differ if that goes.

    It is the first possible way among equals.
    """
    if desk.supply.max_islands == 1:
        return desk
    desks = [_exchanging(desk, fleet, way) for way in possible_ways(desk.supply.workload, fleet.islands)]
    found = [(one, several[0]) for one in desks if (several := one.better(mixes(one) or _on_one_pool(one)))]
    best = min(found, key=lambda pair: (bool(pair[0].broken(pair[1])), pair[1].figure(desk.objective)), default=None)
    return best[0] if best else next(iter(desks), desk)


def how_chosen(workload: Workload, how: ExchangeSpec) -> list[str]:
    """Say that the way was chosen, where it was."""
    n = len(possible_ways(workload, how))
    if n < 2 or how.max_islands == 1:
        return []
    return [
        f"Of {n} ways to exchange whose cost in learning was measured, islands take the one with which several of "
        "them are best; [islands] in the fleet file fixes it."
    ]


def _on_one_pool(desk: Desk) -> list[Settled]:
    """Return the best choice of several islands, wherever they are."""
    several = replace(desk, options={islands: offered for islands, offered in desk.options.items() if islands > 1})
    found = several.best()
    return [found] if found else []


def _exchanging(desk: Desk, fleet: Fleet, way: ExchangeSpec) -> Desk:
    """Return the desk with that way, and no more islands than its cost in learning is known for."""
    most = min(desk.supply.max_islands, way.known_islands)
    way = way.model_copy(update={"max_islands": most})
    market = market_of(fleet.model_copy(update={"islands": way}), desk.supply)
    return Desk.of(desk.supply, market, desk.caps, desk.objective, way)
