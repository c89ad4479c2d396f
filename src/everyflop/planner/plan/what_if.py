"""How the bill changes if a pool vanishes or its price moves."""

from collections.abc import Iterator

from everyflop.planner.choose.line_ups import Wanted
from everyflop.planner.choose.settle import Settled
from everyflop.planner.plan.desk import Desk
from everyflop.spec.plan import WhatIf

PRICE_MOVES = (0.3, -0.3)


def what_if(desk: Desk, best: Settled) -> Iterator[WhatIf]:
    """Yield the best choice after each change; best is the one before."""
    for pool, rule in enumerate(desk.market.pools):
        after = desk.without(pool).best() if pool in best.pools else best
        yield _told(desk, f"pool {rule.name} vanishes", rule.name, after)
        for move in PRICE_MOVES:
            after = _at_price(desk, best, pool, 1 + move)
            yield _told(desk, f"price of {rule.name} {move:+.0%}".replace("%", " %"), rule.name, after)


def _at_price(desk: Desk, best: Settled, pool: int, factor: float) -> Settled | None:
    """Return the best choice at another price of a pool; only choices with that pool change."""
    if pool in best.pools:
        return desk.at_price(pool, factor).best()
    if factor > 1:
        return best
    rival = desk.at_price(pool, factor).best(Wanted(member=pool))
    return desk.better([best] if rival is None else [best, rival])[0]


def _told(desk: Desk, change: str, pool: str, after: Settled | None) -> WhatIf:
    if after is None:
        return WhatIf(change=change, pool=pool, cost=None, days=None, best="no plan keeps the limits")
    return WhatIf(change=change, pool=pool, cost=after.bill.cost, days=after.bill.days, best=desk.name(after))
