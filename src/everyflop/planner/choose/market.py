"""What a choice of islands costs: options with a speed and a price, the links between pools, and the rules of both.

Everything here is arithmetic on fixed options; where speeds come from is search.py's matter, and which options are
taken is mix.py's. Money is in the plan's currency.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from everyflop.base.units import SECONDS_PER_DAY, SECONDS_PER_HOUR, decimals_of
from everyflop.planner.choose.goodput import WAYS, exchange_s, kept_after_exchanges

SLACK = 1 + 1e-6
"""A limit counts as kept up to this factor: the solver works with floating-point numbers."""


@dataclass(frozen=True, slots=True)
class Option:
    """An island that can be had: this many devices of a pool, in their best layout."""

    pool: int
    """Index into the market's pools."""
    devices: int
    tokens_per_s: float
    """After failures and checkpoints, before exchanges."""
    money_per_hour: float

    @property
    def money_per_token(self) -> float:
        """Price of a token on this island alone."""
        return self.money_per_hour / SECONDS_PER_HOUR / self.tokens_per_s


@dataclass(frozen=True, slots=True)
class PoolRules:
    """What may be taken from a pool."""

    name: str
    supplier: str
    least_devices: int
    """Over all its islands, if any is taken."""
    most_devices: int
    max_share: float = 1.0
    """Of the run's tokens."""


@dataclass(frozen=True, slots=True)
class Market:
    """Pools, the links between them, and the run that they are wanted for."""

    pools: tuple[PoolRules, ...]
    gbit_per_s: np.ndarray
    """(pool, pool): of the link between an island of the one and an island of the other; 0 where there is none."""
    latency_s: np.ndarray
    """Of one message."""
    price_per_gb: np.ndarray
    tokens: float
    """That must count: merging islands needs more of them."""
    batch_tokens: float
    """Of one optimizer step over all islands."""
    steps_between_exchanges: float
    """Optimizer steps for each exchange, as a mean over the run."""
    exchange_gb: float
    """Of gradients or of an update."""
    extra_tokens_share: Mapping[int, float]
    """Number of islands -> tokens needed beyond those of one island, as a share."""

    @property
    def tokens_between(self) -> float:
        """Tokens of all islands together for each exchange, as a mean over the run."""
        return self.batch_tokens * self.steps_between_exchanges

    @property
    def sent_gb_per_token(self) -> float:
        """What an island and the coordinator send each other, for each token trained."""
        return WAYS * self.exchange_gb / self.tokens_between

    def tokens_needed(self, islands: int) -> float:
        """Return the tokens that this many islands must train."""
        return self.tokens * (1 + self.extra_tokens_share.get(islands, 0.0))

    def connected(self, pool: int, other: int) -> bool:
        """Whether islands on these pools can exchange; also of one pool with itself."""
        return bool(self.gbit_per_s[pool, other] > 0)

    def exchanges(self, pools: np.ndarray) -> "Exchanges":
        """Return what exchanges take in N line-ups, (N, M), of islands on pools that can all exchange.

        The coordinator stands beside the island where that is shortest, and among equals where it is cheapest. Islands
        of one pool share the link to it.
        """
        found = Exchanges(*(np.full(len(pools), value) for value in (0, np.inf, np.inf)))
        for hub in range(pools.shape[1]):
            stop_s, price = np.zeros(len(pools)), np.zeros(len(pools))
            for island in range(pools.shape[1]):
                if island != hub:
                    link = pools[:, hub], pools[:, island]
                    size_gb = self.shared_by(pools, island, hub) * self.exchange_gb
                    gbit_per_s, latency_s = self.gbit_per_s[link], self.latency_s[link]
                    stop_s = np.maximum(stop_s, exchange_s(size_gb, gbit_per_s=gbit_per_s, latency_s=latency_s))
                    price = price + self.price_per_gb[link]
            price *= self.sent_gb_per_token
            better = (stop_s < found.stop_s) | ((stop_s == found.stop_s) & (price < found.traffic))
            found.hub[better], found.stop_s[better], found.traffic[better] = hub, stop_s[better], price[better]
        return found

    def shared_by(self, pools: np.ndarray, island: int, hub: int) -> np.ndarray:
        """Return (N,) how many islands of line-ups, (N, M), send over one's link to the coordinator beside the hub."""
        others = [other for other in range(pools.shape[1]) if other != hub]
        return (pools[:, others] == pools[:, [island]]).sum(axis=1)

    def link_price(self, pool: int, other: int) -> float:
        """Return the price, for each token trained, of what an island and the coordinator send each other."""
        return self.sent_gb_per_token * float(self.price_per_gb[pool, other])


@dataclass(frozen=True, slots=True)
class Exchanges:
    """Of N line-ups, each (N,)."""

    hub: np.ndarray
    """Which island the coordinator stands beside."""
    stop_s: np.ndarray
    """Seconds of one exchange."""
    traffic: np.ndarray
    """Price of exchanges for each token trained."""


@dataclass(frozen=True, slots=True)
class Caps:
    """What a choice must keep; None where there is no limit."""

    cost: float | None = None
    days: float | None = None
    supplier_share: float | None = None
    """Of the run's tokens, for the devices of one supplier."""
    devices: int | None = None


@dataclass(frozen=True, slots=True)
class Bill:
    """What a choice delivers and costs."""

    tokens_per_s: float
    """Of all islands together, failures and exchanges taken off."""
    kept_share: float
    """What exchanges leave of the time."""
    days: float
    cost: float
    devices: int
    shares: tuple[float, ...]
    """Of the run's tokens, for each island."""
    hub: int
    """The island that the coordinator stands beside."""

    def share_of(self, chosen: Sequence[bool]) -> float:
        """Return the share of some of the islands together."""
        return sum(share for share, one_of_them in zip(self.shares, chosen, strict=True) if one_of_them)


def bill_of(market: Market, islands: Sequence[Option]) -> Bill:
    """Return the bill of islands that can all exchange with each other."""
    raw = sum(island.tokens_per_s for island in islands)
    exchanges = market.exchanges(np.array([[island.pool for island in islands]]))
    kept = kept_after_exchanges(raw, exchange_s=float(exchanges.stop_s[0]), tokens_between=market.tokens_between)
    needed = market.tokens_needed(len(islands))
    seconds = needed / (raw * kept)
    rent = sum(island.money_per_hour for island in islands) * seconds / SECONDS_PER_HOUR
    traffic = needed * float(exchanges.traffic[0])
    return Bill(
        tokens_per_s=raw * kept,
        kept_share=kept,
        days=seconds / SECONDS_PER_DAY,
        cost=rent + traffic,
        devices=sum(island.devices for island in islands),
        shares=tuple(island.tokens_per_s / raw for island in islands),
        hub=int(exchanges.hub[0]),
    )


def broken_caps(market: Market, islands: Sequence[Option], caps: Caps) -> Iterator[str]:
    """Yield in words which caps and rules of pools a choice breaks."""
    bill = bill_of(market, islands)
    if caps.cost is not None and bill.cost > caps.cost * SLACK:
        n = decimals_of(bill.cost)
        yield f"it costs {bill.cost:,.{n}f} and the budget is {caps.cost:,.{n}f}"
    if caps.days is not None and bill.days > caps.days * SLACK:
        yield f"it takes {bill.days:,.{decimals_of(bill.days)}f} days and the deadline is {caps.days:g}"
    if caps.devices is not None and bill.devices > caps.devices:
        yield f"it takes {bill.devices:,} devices and at most {caps.devices:,} are allowed"
    rules = [market.pools[island.pool] for island in islands]
    for supplier in dict.fromkeys(rule.supplier for rule in rules):
        share = bill.share_of([rule.supplier == supplier for rule in rules])
        if caps.supplier_share is not None and share > caps.supplier_share * SLACK:
            yield f"{supplier} trains {share:.0%} of the tokens and one supplier may train {caps.supplier_share:.0%}"
    for rule in dict.fromkeys(rules):
        share = bill.share_of([one is rule for one in rules])
        if share > rule.max_share * SLACK:
            yield f"pool {rule.name} trains {share:.0%} of the tokens and its max_share is {rule.max_share:.0%}"
        devices = sum(island.devices for island, one in zip(islands, rules, strict=True) if one is rule)
        if not rule.least_devices <= devices <= rule.most_devices:
            count = f"{rule.least_devices:,} to {rule.most_devices:,}"
            yield f"it takes {devices:,} devices of pool {rule.name}, and {count} are on offer"
