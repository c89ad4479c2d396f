"""Which way islands exchange: of those that were measured, the one with which mixing is best."""

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
    """Return the desk with the way to exchange with which the best mix is best.

    It is the usual way among equals, and where nothing can be mixed.
    """
    desks = [_exchanging(desk, fleet, way) for way in possible_ways(desk.supply.workload, fleet.islands)]
    mixed = [(one, kept[0]) for one in desks if len(desks) > 1 and (kept := one.better(mixes(one)))]
    best = min(mixed, key=lambda pair: (bool(pair[0].broken(pair[1])), pair[1].figure(desk.objective)), default=None)
    return best[0] if best else desk


def how_chosen(workload: Workload, how: ExchangeSpec) -> list[str]:
    """Say that the way was chosen, where it was."""
    n = len(possible_ways(workload, how))
    if n < 2 or how.max_islands == 1:
        return []
    return [
        f"Of {n} ways to exchange whose cost in learning was measured, islands take the one with which the best mix is "
        "best; [islands] in the fleet file fixes it."
    ]


def _exchanging(desk: Desk, fleet: Fleet, way: ExchangeSpec) -> Desk:
    """Return the desk with that way, and no more islands than its cost in learning is known for."""
    most = min(desk.supply.max_islands, way.known_islands)
    way = way.model_copy(update={"max_islands": most})
    market = market_of(fleet.model_copy(update={"islands": way}), desk.supply)
    return Desk.of(desk.supply, market, desk.caps, desk.objective, way)
