"""Why no plan fits, and the nearest that would: each limit loosened alone, as little as is enough."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from everyflop.base.errors import ExpectedNo
from everyflop.base.units import percent, short_money
from everyflop.planner.desk import Desk
from everyflop.planner.settle import Settled

PRECISION_SHARE = 0.01
"""To this share of the whole, limits on suppliers and devices are sought."""


@dataclass(frozen=True, slots=True)
class Way:
    """A limit that stands in the way, and a choice that keeps all others."""

    limit: str
    """What would have to be allowed, such as "a budget of 5.1 M CNY"."""
    desk: Desk
    """With that limit, and no other change."""
    choice: Settled


def no_plan(desk: Desk, currency: str) -> ExpectedNo:
    """Return the "no" that says which limits bind, and what would do instead."""
    ways = list(ways_out(desk, currency))
    lines = [f"  - {way.limit}: {_line(desk, way.choice, currency)}" for way in ways]
    if ways:
        return ExpectedNo("\n".join(["no plan fits. With one limit changed, the nearest that does:", *lines]))
    free = desk.under(replace(desk.caps, cost=None, days=None, supplier_share=None, devices=None))
    choice = free.best() or _without_shares(free).best()
    if choice is None:
        return ExpectedNo("no plan fits, whatever is spent: no pool, and no mix of linked pools, can train this model.")
    broken = "; ".join(desk.broken(choice))
    return ExpectedNo(
        "no plan fits, and no change of one limit alone would do. Without any, the best is "
        f"{_line(desk, choice, currency)}. But {broken}. Change these limits together."
    )


def ways_out(desk: Desk, currency: str) -> Iterator[Way]:
    """Yield for each limit that binds the least that it would have to be."""
    caps = desk.caps
    if caps.cost is not None and (choice := desk.under(replace(caps, cost=None), "cost").best()):
        at = replace(caps, cost=choice.bill.cost)
        yield Way(f"a budget of {short_money(choice.bill.cost, currency)}", desk.under(at), choice)
    if caps.days is not None and (choice := desk.under(replace(caps, days=None), "time").best()):
        at = replace(caps, days=choice.bill.days)
        yield Way(f"a deadline of {choice.bill.days:,.1f} days", desk.under(at), choice)
    yield from _suppliers(desk)
    yield from _devices(desk)
    if any(rule.max_share < 1 for rule in desk.market.pools) and (choice := _without_shares(desk).best()):
        pools = " and ".join(
            f"{percent(share)} of the tokens for pool {rule.name}" for rule, share in _above(desk, choice)
        )
        yield Way(f"a max_share of {pools}", _without_shares(desk), choice)


def _suppliers(desk: Desk) -> Iterator[Way]:
    if desk.caps.supplier_share is not None:

        def under(share: float) -> Desk:
            return desk.under(replace(desk.caps, supplier_share=share))

        if (share := _least(under, desk.caps.supplier_share, 1.0)) and (choice := under(share).best()):
            yield Way(f"{percent(share)} of the tokens from one supplier", under(share), choice)


def _devices(desk: Desk) -> Iterator[Way]:
    if desk.caps.devices is not None:

        def under(devices: float) -> Desk:
            return desk.under(replace(desk.caps, devices=int(devices)))

        most = sum(rule.most_devices for rule in desk.market.pools)
        if (devices := _least(under, desk.caps.devices, most)) and (choice := under(devices).best()):
            yield Way(f"{choice.bill.devices:,} devices", under(choice.bill.devices), choice)


def _least(under: Callable[[float], Desk], low: float, high: float) -> float | None:
    """Return about the least limit between a bad one and one that may be good; None where that is bad too."""
    if under(high).best() is None:
        return None
    step = PRECISION_SHARE * high
    while high - low > step:
        middle = (low + high) / 2
        low, high = (middle, high) if under(middle).best() is None else (low, middle)
    return high


def _without_shares(desk: Desk) -> Desk:
    rules = tuple(replace(rule, max_share=1.0) for rule in desk.market.pools)
    return replace(desk, market=replace(desk.market, pools=rules))


def _above(desk: Desk, choice: Settled) -> Iterator[tuple]:
    for pool in choice.pools:
        rule = desk.market.pools[pool]
        share = choice.bill.share_of([island.pool == pool for island in choice.islands])
        if share > rule.max_share:
            yield rule, share


def _line(desk: Desk, choice: Settled, currency: str) -> str:
    bill = choice.bill
    cost = short_money(bill.cost, currency)
    return f"{desk.name(choice)} on {bill.devices:,} devices, {cost} and {bill.days:,.1f} days (predicted)"
