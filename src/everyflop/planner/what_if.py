"""How the bill changes if a pool vanishes or its price moves."""

from collections.abc import Iterator

from everyflop.planner.desk import Desk
from everyflop.planner.settle import Settled
from everyflop.spec.plan import WhatIf

PRICE_MOVES = (0.3, -0.3)


def what_if(desk: Desk, best: Settled) -> Iterator[WhatIf]:
    """Yield the best choice after each change; best is the one before."""
    for pool, rule in enumerate(desk.market.pools):
        used = pool in best.pools
        after = desk.without(pool).best() if used else best
        yield _told(desk, f"pool {rule.name} vanishes", rule.name, after)
        for move in PRICE_MOVES:
            # Where a pool that is not used gets dearer, what was best still is.
            after = best if move > 0 and not used else desk.at_price(pool, 1 + move).best()
            yield _told(desk, f"price of {rule.name} {move:+.0%}".replace("%", " %"), rule.name, after)


def _told(desk: Desk, change: str, pool: str, after: Settled | None) -> WhatIf:
    if after is None:
        return WhatIf(change=change, pool=pool, cost=None, days=None, best="no plan keeps the limits")
    return WhatIf(change=change, pool=pool, cost=after.bill.cost, days=after.bill.days, best=desk.name(after))
