"""A settled choice as plan.json has it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from everyflop.base.units import TERA
from everyflop.planner.choose.goodput import least_link_gbit_per_s
from everyflop.planner.choose.settle import Settled
from everyflop.planner.plan.desk import Desk
from everyflop.planner.plan.uncertainty import Chances, log_spread, spread
from everyflop.spec.plan import Choice, PlannedIsland, Spread, Total


@dataclass(frozen=True, slots=True)
class Yardstick:
    """The cheapest pool alone: what every other island's break-even is measured against."""

    pool: int
    cost_per_ttoken: float
    """Of 10**12 tokens that count."""

    @classmethod
    def of(cls, desk: Desk, singles: Sequence[Settled]) -> "Yardstick | None":
        """Return that of the cheapest; None without any."""
        ranked = sorted((choice.bill.cost, choice.islands[0].pool) for choice in singles)
        return cls(ranked[0][1], ranked[0][0] / desk.market.tokens * TERA) if ranked else None


def write_choice(desk: Desk, chances: Chances, number: int, yardstick: Yardstick | None) -> Choice:
    """Return the choice of this number among those that chances were drawn for."""
    choice = chances.choices[number]
    broken = tuple(desk.broken(choice))
    return Choice(
        name=desk.name(choice),
        kind="single" if len(choice.pools) == 1 else "mix",
        islands=tuple(_island(desk, chances, number, island, yardstick) for island in range(len(choice.islands))),
        total=_total(desk, chances, number),
        meets_limits=not broken,
        broken_limits=broken,
    )


def _total(desk: Desk, chances: Chances, number: int) -> Total:
    choice, days, costs = chances.choices[number], chances.days[number], chances.costs[number]
    bill, market = choice.bill, desk.market
    per_ttoken = TERA / market.tokens
    return Total(
        tokens_per_s=spread(bill.tokens_per_s, bill.tokens_per_s * bill.days / days),
        days=spread(bill.days, days),
        cost=spread(bill.cost, costs),
        cost_per_ttoken=spread(bill.cost * per_ttoken, costs * per_ttoken),
        devices=bill.devices,
        token_efficiency=market.tokens / market.tokens_needed(len(choice.islands)),
    )


def _island(desk: Desk, chances: Chances, number: int, place: int, yardstick: Yardstick | None) -> PlannedIsland:
    choice, days = chances.choices[number], chances.days[number]
    option, found, bill = choice.islands[place], choice.found[place], choice.bill
    offer = desk.supply.offers[option.pool]
    device = offer.hardware.device
    cost = _cost(desk, choice, place, days)
    per_ttoken = cost.p50 / (bill.shares[place] * desk.market.tokens) * TERA
    link, least_link = _links(desk, choice, place)
    others = None if yardstick is None or option.pool == yardstick.pool else yardstick.cost_per_ttoken
    return PlannedIsland(
        name=island_name(desk, choice, place),
        pool=offer.pool.name,
        device=device.name,
        title=device.title,
        vendor=device.vendor,
        torch_device=device.torch_device,
        devices=option.devices,
        layout=found.layout,
        micro_batch=found.layout.micro_batch,
        batch_seqs=found.batch_seqs,
        tokens_per_s=log_spread(found.tokens_per_s, found.log_sd),
        goodput_share=option.tokens_per_s / found.tokens_per_s * bill.kept_share,
        share=bill.shares[place],
        price_per_device_hour=offer.price_per_device_hour,
        example_price=offer.pool.example,
        cost=cost,
        cost_per_ttoken=log_spread(per_ttoken, found.log_sd),
        mfu=found.mfu,
        break_even_mfu=None if others is None else found.mfu * per_ttoken / others,
        mem_gib=found.mem_gib,
        mem_limit_gib=found.mem_limit_gib,
        step_s=found.step_s,
        basis=found.basis,
        link_gbit_per_s=link,
        least_link_gbit_per_s=least_link,
    )


def _cost(desk: Desk, choice: Settled, place: int, days: np.ndarray) -> Spread:
    """Return what an island costs in the whole run: its devices' hours and half of the traffic on each of its links."""
    option, bill = choice.islands[place], choice.bill
    prices = [desk.market.link_price(option.pool, choice.islands[other].pool) for other in _linked(choice, place)]
    traffic = sum(prices) / 2 * desk.market.tokens_needed(len(choice.islands))
    daily = 24 * option.money_per_hour
    return spread(daily * bill.days + traffic, daily * days + traffic)


def _links(desk: Desk, choice: Settled, place: int) -> tuple[float | None, float | None]:
    """Return the link that an island's exchanges cross and the least that would do, in Gbit/s.

    That is its link to the coordinator, which it may share; beside the coordinator the one that is nearest to too thin.
    None of the one alone, and of the other where none would do, however fast.
    """
    market, bill, pools = desk.market, choice.bill, np.array([[island.pool for island in choice.islands]])
    round_s = market.tokens_between / bill.tokens_per_s * bill.kept_share
    found: list[tuple[float, float | None]] = []
    for other in _linked(choice, place):
        link, far = pools[0, [place, other]], other if place == bill.hub else place
        size_gb = float(market.shared_by(pools, far, bill.hub)[0]) * market.exchange_gb
        least = least_link_gbit_per_s(size_gb, round_s=round_s, latency_s=float(market.latency_s[*link]))
        found.append((float(market.gbit_per_s[*link]), least))
    return max(found, key=lambda one: inf if one[1] is None else one[1] / one[0], default=(None, None))


def _linked(choice: Settled, place: int) -> list[int]:
    """Return which islands this one sends to: the one beside the coordinator, or from there all others."""
    return [other for other in range(len(choice.islands)) if other != place and choice.bill.hub in (place, other)]


def island_name(desk: Desk, choice: Settled, place: int) -> str:
    """Return an island's name: its pool's, with a number where there are several on it."""
    pools = [island.pool for island in choice.islands]
    name = desk.market.pools[pools[place]].name
    return name if pools.count(pools[place]) == 1 else f"{name}-{pools[: place + 1].count(pools[place])}"
