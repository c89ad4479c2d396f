"""The fleet file: what accelerators are on offer, at which prices, and what connects them.

A pool is like devices at one price. Where pools are linked, a plan may train islands in several of them together.
Prices are the user's alone: the catalogue's quotes are shown and never used.
"""

from collections import Counter
from difflib import get_close_matches
from typing import Annotated, Self

from pydantic import Field

from everyflop.base.errors import UsageError
from everyflop.spec.base import Misfit, Spec
from everyflop.spec.device import DeviceSpec
from everyflop.spec.exchange import ExchangeSpec
from everyflop.spec.measured import MeasuredSpeed
from everyflop.spec.pool import Currency, Link, Pool

SCHEMA = 1
"""Version of the fleet file. A file without one is of this version; a newer one is refused."""


class FleetMoney(Spec):
    """The [money] table: the currency of plans, and what other currencies are worth in it."""

    currency: Currency | None = None
    """By default the one that all pools share."""
    rates: dict[Currency, Annotated[float, Field(gt=0, strict=True)]] = Field(default_factory=dict)
    """Currency -> how many units of `currency` one unit of it is."""


class Fleet(Spec):
    """All of a fleet file. Build it in code by the file's keys: Fleet(pool=..., link=...)."""

    name: str = ""
    """Shown on pages; by default the file's name."""
    pools: tuple[Pool, ...] = Field(alias="pool", min_length=1)
    links: tuple[Link, ...] = Field(alias="link", default=())
    devices: tuple[DeviceSpec, ...] = Field(alias="device", default=())
    """Devices of one's own, and what is to be changed about those of the catalogue."""
    measured: tuple[MeasuredSpeed, ...] = ()
    money: FleetMoney = FleetMoney()
    islands: ExchangeSpec = ExchangeSpec()

    @property
    def currency(self) -> str:
        """The currency of plans."""
        return self.money.currency or next(pool.currency for pool in self.pools if pool.currency)

    def price_per_device_hour(self, pool: Pool) -> float:
        """Return a pool's price in the fleet's currency."""
        return pool.price_per_device_hour * self._rate(pool.currency or self.currency)

    def link_between(self, pool: str, other: str) -> Link | None:
        """Return what connects two pools, or one with itself; None where the file says nothing."""
        return next((link for link in self.links if set(link.between) == {pool, other}), None)

    def in_currency(self, currency: str) -> Self:
        """Return the same fleet with another currency for plans. Raises UsageError where its rate is missing."""
        old, rate = self.currency, self._rate(currency)
        rates = {name: value / rate for name, value in {**self.money.rates, old: 1.0}.items()}
        links = [link.model_copy(update={"price_per_gb": link.price_per_gb / rate}) for link in self.links]
        pools = [pool.model_copy(update={"currency": pool.currency or old}) for pool in self.pools]
        money = FleetMoney(currency=currency, rates=rates)
        return self.model_copy(update={"money": money, "links": tuple(links), "pools": tuple(pools)})

    def _rate(self, currency: str) -> float:
        if currency == self.currency:
            return 1.0
        if currency not in self.money.rates:
            raise UsageError(
                f"the fleet has no rate for {currency}, and rates are never invented: add {currency} = ... to "
                f"[money.rates], how many {self.currency} one {currency} is."
            )
        return self.money.rates[currency]

    def misfits(self) -> list[Misfit]:
        """Return what does not fit together among pools, links and currencies."""
        return [
            *_names_used_twice("pool", [pool.name for pool in self.pools]),
            *_names_of_islands([pool.name for pool in self.pools]),
            *_names_used_twice("device", [device.name for device in self.devices]),
            *self._link_misfits(),
            *self._unreachable(),
            *self._currency_misfits(),
        ]

    def _link_misfits(self) -> list[Misfit]:
        found: list[Misfit] = []
        pools = {pool.name: pool for pool in self.pools}
        pairs: list[frozenset[str]] = []
        for number, link in enumerate(self.links):
            key, pair = f"link[{number}].between", frozenset(link.between)
            for name in sorted(pair - set(pools)):
                near = get_close_matches(name, pools, n=1)
                known = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(pools)}"
                found.append((key, f"names '{name}', which is no pool.name: {known}"))
            if pair in pairs:
                found.append((key, f"is the same as link[{pairs.index(pair)}].between: keep one of them"))
            if len(pair) > 1:
                lonely = sorted(name for name in pair & set(pools) if pools[name].alone)
                found += [(key, f"names '{name}', whose pool.alone is true: remove one of the two") for name in lonely]
            pairs.append(pair)
        return found

    def _unreachable(self) -> list[Misfit]:
        """Return pools without a link to any other, in a fleet that has links between others."""
        linked = {name for link in self.links if len(set(link.between)) > 1 for name in link.between}
        return [
            (
                f"pool[{number}].name",
                f"'{pool.name}' cannot be reached: it stands in no link.between, and other pools do. "
                "Add a [[link]] between it and another, or set alone = true",
            )
            for number, pool in enumerate(self.pools)
            if linked and pool.name not in linked and not pool.alone
        ]

    def _currency_misfits(self) -> list[Misfit]:
        if self.money.currency is None:
            priced_in = sorted({pool.currency for pool in self.pools if pool.currency})
            if len(priced_in) > 1:
                return [("money.currency", f"is needed, for pool.currency is one of {', '.join(priced_in)}")]
            if not priced_in:
                return [("money.currency", "is missing, and no pool.currency is given: a price needs its currency")]
        currency = self.currency
        found: list[Misfit] = []
        if self.money.rates.get(currency, 1.0) != 1.0:
            found.append(
                (f"money.rates.{currency}", f"must be 1 or left out: {currency} is the fleet's currency itself")
            )
        return found + [
            (
                f"pool[{number}].currency",
                f"{pool.currency} has no rate, and rates are never invented: set money.rates.{pool.currency}, "
                f"how many {currency} one {pool.currency} is",
            )
            for number, pool in enumerate(self.pools)
            if (pool.currency or currency) not in {currency, *self.money.rates}
        ]


def _names_of_islands(pools: list[str]) -> list[Misfit]:
    """Several islands on a pool have its name and a number."""
    parts = [name.rpartition("-") for name in pools]
    return [
        (
            f"pool[{number}].name",
            f"'{pools[number]}' is also what an island of pool '{base}' may be called: name it otherwise",
        )
        for number, (base, _, digits) in enumerate(parts)
        if digits.isdecimal() and base in pools
    ]


def _names_used_twice(table: str, names: list[str]) -> list[Misfit]:
    counted = Counter(names)
    return [
        (f"{table}[{number}].name", f"'{name}' is {table}[{names.index(name)}].name already: names tell them apart")
        for number, name in enumerate(names)
        if counted[name] > 1 and names.index(name) < number
    ]
