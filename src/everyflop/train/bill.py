"""What the islands of a run have cost so far: time held, at each island's price."""

from typing import Any

from everyflop.accounting.money import cost
from everyflop.spec.islands import IslandSpec
from everyflop.spec.run import RunSpec


def price_of(island: IslandSpec, run: RunSpec) -> float | None:
    """Return the price of a device's hour: the island's, or the run's."""
    own = island.price_per_device_hour
    return run.money.price_per_device_hour if own is None else own


def bill(record: dict[str, Any], run: RunSpec) -> dict[str, float | None]:
    """Return each island's cost up to a commit, also of those that have left the run; None without a price."""
    accounts, islands = record["accounts"], {island.name: island for island in run.island}
    return {name: _paid(accounts.get(name, {}), islands.get(name), run) for name in {**islands, **accounts}}


def _paid(account: dict[str, Any], island: IslandSpec | None, run: RunSpec) -> float | None:
    """Return what an account says was paid; of one from before accounts had it, the time held at today's price."""
    if island is None or account.get("cost") is not None:
        return account.get("cost")
    price = price_of(island, run)
    return None if price is None else cost(account.get("held_s", 0.0) * island.devices, price)


def total(bills: dict[str, float | None]) -> float | None:
    """Return the sum; None where any price is missing."""
    known = [amount for amount in bills.values() if amount is not None]
    return sum(known) if known and len(known) == len(bills) else None
