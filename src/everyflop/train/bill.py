"""What the islands of a run have cost so far: time held, at each island's price."""

from typing import Any

from everyflop.accounting.money import cost
from everyflop.spec.run import RunSpec


def bill(record: dict[str, Any], run: RunSpec) -> dict[str, float | None]:
    """Return each island's cost up to a commit, all of its devices' time held; None without a price."""
    accounts = record["accounts"]
    bills: dict[str, float | None] = {}
    for island in run.island:
        price = island.price_per_device_hour
        price = run.money.price_per_device_hour if price is None else price
        held_s = accounts.get(island.name, {}).get("held_s", 0.0)
        bills[island.name] = None if price is None else cost(held_s * island.devices, price)
    return bills


def total(bills: dict[str, float | None]) -> float | None:
    """Return the sum; None where any price is missing."""
    known = [amount for amount in bills.values() if amount is not None]
    return sum(known) if known and len(known) == len(bills) else None
