"""The choices that a plan compares: each pool alone and the best mix of each number of islands; and the front of all.

Where nothing of a kind keeps the limits, the best that breaks them is shown.
"""

from collections.abc import Sequence
from dataclasses import replace

from everyflop.planner.choose.settle import Settled
from everyflop.planner.plan.desk import Desk, loosened

POINTS = 7
"""Deadlines tried for the front, from the fastest choice to the cheapest."""


def singles(desk: Desk) -> list[Settled]:
    """Return the best choice on each pool alone, for pools that can train the model."""
    found = [_best_of(desk.alone(pool)) for pool in range(len(desk.market.pools))]
    return [choice for choice in found if choice is not None]


def mixes(desk: Desk) -> list[Settled]:
    """Return the best mix of each number of islands."""
    for looser in loosened(desk):
        found = [looser.best_mix(islands) for islands in desk.options if islands > 1]
        if kept := [choice for choice in found if choice is not None]:
            return kept
    return []


def front(desk: Desk, found: Sequence[Settled]) -> list[Settled]:
    """Return choices that no other one beats in both cost and time, cheapest first: of those found already that keep
    all limits but the budget and the deadline, and of more between the cheapest and the fastest.
    """
    free = replace(desk.caps, cost=None, days=None)
    cheapest, fastest = desk.under(free, "cost").best(), desk.under(free, "time").best()
    if cheapest is None or fastest is None:
        return []
    slow, fast = cheapest.bill.days, fastest.bill.days
    deadlines = [fast * (slow / fast) ** (point / (POINTS - 1)) for point in range(1, POINTS - 1)]
    between = [desk.under(replace(free, days=days), "cost").best() for days in deadlines] if slow > fast * 1.01 else []
    able = [choice for choice in found if not desk.under(free).broken(choice)]
    return _unbeaten([choice for choice in (*able, cheapest, *between, fastest) if choice is not None])


def _best_of(desk: Desk) -> Settled | None:
    return next((choice for looser in loosened(desk) if (choice := looser.best())), None)


def _unbeaten(points: list[Settled]) -> list[Settled]:
    kept: list[Settled] = []
    for choice in sorted(points, key=lambda one: (one.bill.cost, one.bill.days)):
        if not kept or choice.bill.days < kept[-1].bill.days * (1 - 1e-6):
            kept.append(choice)
    return kept
