"""Why no plan fits, and the nearest that would: each limit loosened alone, as little as is enough."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import ceil, floor, log10

from everyflop.base.errors import ExpectedNo
from everyflop.base.units import decimals_of, percent, short_money
from everyflop.planner.choose.market import PoolRules
from everyflop.planner.choose.settle import Settled
from everyflop.planner.plan.desk import Desk

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


def no_plan(desk: Desk, currency: str, *, wider: Iterable[Desk] = ()) -> ExpectedNo:
    """Return the "no" that says which limits bind, and what would do instead; wider desks allow more islands."""
    ways = [*ways_out(desk, currency), *_islands(wider)]
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
        cost = rounded_up(choice.bill.cost)
        yield Way(f"a budget of {short_money(cost, currency)}", desk.under(replace(caps, cost=cost)), choice)
    if caps.days is not None and (choice := desk.under(replace(caps, days=None), "time").best()):
        days = rounded_up(choice.bill.days)
        yield Way(f"a deadline of {days:g} days", desk.under(replace(caps, days=days)), choice)
    yield from _suppliers(desk)
    yield from _devices(desk)
    if any(rule.max_share < 1 for rule in desk.market.pools) and (choice := _without_shares(desk).best()):
        pools = " and ".join(
            f"{_percent_up(share)} of the tokens for pool {rule.name}" for rule, share in _above(desk, choice)
        )
        yield Way(f"a max_share of {pools}", _without_shares(desk), choice)


def rounded_up(value: float) -> float:
    """Return the least number of three figures that is not below this one, so that what is printed is enough."""
    unit = 10.0 ** (floor(log10(value)) - 2)
    return float(f"{ceil(value / unit * (1 - 1e-12)) * unit:.3g}")


def _percent_up(share: float) -> str:
    return percent(ceil(100 * share * (1 - 1e-9)) / 100)


def _islands(wider: Iterable[Desk]) -> Iterator[Way]:
    for desk in wider:
        if choice := desk.best():
            yield Way(f"{desk.supply.max_islands} islands", desk, choice)
            return


def _suppliers(desk: Desk) -> Iterator[Way]:
    if desk.caps.supplier_share is not None:

        def under(share: float) -> Desk:
            return desk.under(replace(desk.caps, supplier_share=share))

        if (share := _least(under, desk.caps.supplier_share, 1.0)) is None:
            return
        share = ceil(100 * share) / 100
        if choice := under(share).best():
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


def _above(desk: Desk, choice: Settled) -> Iterator[tuple[PoolRules, float]]:
    for pool in choice.pools:
        rule = desk.market.pools[pool]
        share = choice.bill.share_of([island.pool == pool for island in choice.islands])
        if share > rule.max_share:
            yield rule, share


def _line(desk: Desk, choice: Settled, currency: str) -> str:
    bill = choice.bill
    cost, days = short_money(bill.cost, currency), f"{bill.days:,.{decimals_of(bill.days)}f} days"
    return f"{desk.name(choice)} on {bill.devices:,} devices, {cost} and {days} (predicted)"
