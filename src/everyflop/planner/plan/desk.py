"""Answers questions about one fleet and one run: the best choice under these limits, without that pool, at that price.

A question is a market with limits; options are made once, and speeds are settled for what is chosen.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from everyflop.planner.choose.line_ups import ANY, Wanted
from everyflop.planner.choose.market import Caps, Market, Option, broken_caps
from everyflop.planner.choose.mix import Objective
from everyflop.planner.choose.settle import Settled, best_settled
from everyflop.planner.choose.supply import Supply
from everyflop.spec.exchange import ExchangeSpec


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that a question needs."""

    supply: Supply
    market: Market
    caps: Caps
    objective: Objective
    way: ExchangeSpec
    """How islands exchange."""
    options: dict[int, list[Option]]
    """By number of islands."""

    @classmethod
    def of(cls, supply: Supply, market: Market, caps: Caps, objective: Objective, way: ExchangeSpec) -> "Desk":
        """Make the options of a supply, for as many islands as the market knows the cost in learning of."""
        options = {islands: supply.options(islands) for islands in market.extra_tokens_share}
        return cls(supply, market, caps, objective, way, options)

    def best(self, wanted: Wanted = ANY) -> Settled | None:
        """Return the best choice of all that are wanted."""
        return best_settled(self.supply, self.market, self.options, self.caps, objective=self.objective, wanted=wanted)

    def best_mix(self, islands: int) -> Settled | None:
        """Return the best choice of so many islands on at least two pools."""
        return replace(self, options={islands: self.options[islands]}).best(Wanted(least_pools=2))

    def alone(self, pool: int) -> "Desk":
        """Return the desk with one pool only, whose own share of the tokens is no question then."""
        rules = tuple(replace(rule, max_share=1.0) for rule in self.market.pools)
        kept = self.only(lambda option: option.pool == pool)
        return replace(kept, market=replace(self.market, pools=rules), caps=replace(self.caps, supplier_share=None))

    def without(self, pool: int) -> "Desk":
        """Return the desk without one pool."""
        return self.only(lambda option: option.pool != pool)

    def at_price(self, pool: int, factor: float) -> "Desk":
        """Return the desk with another price for one pool."""
        return self.of(self.supply.at_price(pool, factor), self.market, self.caps, self.objective, self.way)

    def under(self, caps: Caps, objective: Objective | None = None) -> "Desk":
        """Return the desk with other limits, and another objective."""
        return replace(self, caps=caps, objective=objective or self.objective)

    def only(self, wanted: Callable[[Option], bool]) -> "Desk":
        """Return the desk with some of the options."""
        kept = {islands: [option for option in offered if wanted(option)] for islands, offered in self.options.items()}
        return replace(self, options=kept)

    def broken(self, choice: Settled) -> list[str]:
        """Return in words which limits a choice breaks."""
        return list(broken_caps(self.market, choice.islands, self.caps))

    def name(self, choice: Settled) -> str:
        """Return what a choice is called: "a", "2 x a", or "a + 2 x b" for one island on a and two on b."""
        pools = [island.pool for island in choice.islands]
        counted = [(self.market.pools[pool].name, pools.count(pool)) for pool in choice.pools]
        return " + ".join(name if count == 1 else f"{count} x {name}" for name, count in counted)

    def better(self, choices: Iterable[Settled]) -> list[Settled]:
        """Return choices in the order of the objective, best first; equals keep their order."""
        return sorted(choices, key=lambda choice: choice.figure(self.objective))


def loosened(desk: Desk) -> Iterator[Desk]:
    """Yield desks with looser limits each time: as they are, without the budget, without the deadline but near it, and
    at last with any number of devices.
    """
    caps = desk.caps
    yield desk
    yield desk.under(replace(caps, cost=None))
    yield desk.under(replace(caps, days=None), "time")
    yield desk.under(replace(caps, cost=None, days=None), "time")
    yield desk.under(replace(caps, cost=None, days=None, devices=None))
