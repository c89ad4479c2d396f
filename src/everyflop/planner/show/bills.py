"""What the bill of a choice consists of: the hours of each pool's devices, and what islands send each other."""

from everyflop.base.units import percent, short_money
from everyflop.spec.plan import Choice

TRAFFIC = "traffic between islands"

_NOTHING_SHARE = 1e-6
"""Of a bill: smaller amounts are rounding."""


def bill_of(choice: Choice) -> dict[str, float]:
    """Return what each pool costs in the whole run, and the traffic where it costs anything; P50."""
    hours = 24 * choice.total.days.p50
    parts: dict[str, float] = {}
    for island in choice.islands:
        parts[island.pool] = parts.get(island.pool, 0.0) + island.devices * island.price_per_device_hour * hours
    traffic = choice.total.cost.p50 - sum(parts.values())
    return parts | ({TRAFFIC: traffic} if traffic > _NOTHING_SHARE * choice.total.cost.p50 else {})


def traffic_lines(choice: Choice, name: str, currency: str) -> list[str]:
    """Say what the traffic of a choice costs; nothing where it is free."""
    bill = bill_of(choice)
    if TRAFFIC not in bill:
        return []
    share = percent(bill[TRAFFIC] / sum(bill.values()))
    return [f"the {TRAFFIC} in {name} costs {short_money(bill[TRAFFIC], currency)}, {share} of its bill"]
