"""Which islands together are cheapest, or fastest: exact over fixed options, up to the solver's gap.

Cost per token is price over speed. Dinkelbach's method minimises such a ratio: minimise price - q x speed, take the
ratio of what came out as the next q, until nothing is below 0. It is fast because each q is a real choice's ratio.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from everyflop.planner.market import SLACK, Bill, Caps, Market, Option, bill_of, broken_caps
from everyflop.planner.mix_model import MixModel

Objective = Literal["cost", "time"]

CLOSE = 1e-6
"""Differences below this share are none: the solver's own tolerance."""


@dataclass(frozen=True, slots=True)
class Pick:
    """Options taken, one for each island."""

    islands: tuple[Option, ...]
    bill: Bill

    @property
    def pools(self) -> tuple[int, ...]:
        """Indices of the pools taken, without repeats."""
        return tuple(sorted({island.pool for island in self.islands}))

    def better_than(self, other: "Pick | None", objective: Objective) -> bool:
        """Whether this is the one to take; the first of equals stays."""
        if other is None:
            return True
        mine, theirs = (pick.bill.cost if objective == "cost" else pick.bill.days for pick in (self, other))
        return mine < theirs * (1 - CLOSE)


def best_pick(
    market: Market,
    options: Mapping[int, Sequence[Option]],
    caps: Caps,
    *,
    objective: Objective = "cost",
    least_pools: int = 1,
) -> Pick | None:
    """Return the best choice that keeps the caps; None where there is none.

    options holds, for each number of islands that is allowed, what can be had for one of them.
    """
    best: Pick | None = None
    for islands in sorted(options):
        if (
            islands < least_pools
            or not options[islands]
            or _hopeless(market, options[islands], islands, best, objective)
        ):
            continue
        pick = _of_size(market, options[islands], islands, caps, objective, least_pools)
        if pick is not None and pick.better_than(best, objective):
            best = pick
    return best


def _hopeless(market: Market, options: Sequence[Option], islands: int, best: Pick | None, objective: Objective) -> bool:
    """Whether even the cheapest option's price per token, without exchanges, is above that of the best choice."""
    if best is None or objective == "time":
        return False
    return min(o.money_per_token for o in options) * market.tokens_needed(islands) >= best.bill.cost * (1 - CLOSE)


def _of_size(
    market: Market, options: Sequence[Option], islands: int, caps: Caps, objective: Objective, least_pools: int
) -> Pick | None:
    if islands == 1:
        return _single(market, options, caps, objective)
    model = MixModel(market, options, islands, caps, least_pools)
    return _cheapest(model) if objective == "cost" else _fastest(model)


def _single(market: Market, options: Sequence[Option], caps: Caps, objective: Objective) -> Pick | None:
    """Return the best of single islands; each is its own bill, so that no solver is needed."""
    best: Pick | None = None
    for option in options:
        pick = Pick((option,), bill_of(market, [option]))
        if pick.better_than(best, objective) and not any(broken_caps(market, [option], caps)):
            best = pick
    return best


def _cheapest(model: MixModel) -> Pick | None:
    """Return the cheapest choice that keeps the deadline; None where there is none, or it exceeds the budget."""
    best: Pick | None = None
    objective: dict[int, float] = {model.y: -1.0}  # any choice will do to start with; a fast one bounds well
    while (found := _solve(model, objective)) is not None:
        pick, value, exact = found
        if exact and pick.better_than(best, "cost"):
            best = pick
        elif best is not None and (exact or value >= -CLOSE):
            break
        if best is not None:
            objective = _below(model, best)
    budget = model.caps.cost
    return None if best is None or (budget is not None and best.bill.cost > budget * SLACK) else best


def _below(model: MixModel, best: Pick) -> dict[int, float]:
    """Return the objective that is below 0 for whatever is cheaper per token, as a share of the best choice's price."""
    hourly = best.bill.cost / (best.bill.days * 24) / model.money_unit
    speed = best.bill.tokens_per_s / model.speed_unit
    return {column: weight / hourly for column, weight in model.money().items()} | {model.y: -1 / speed}


def _fastest(model: MixModel) -> Pick | None:
    """Return the fastest choice that keeps the budget, and the cheapest of those."""
    budget = [] if model.caps.cost is None else [model.budget_row(model.caps.cost)]
    fastest = _until_exact(lambda: _solve(model, {model.y: -1.0}, budget))
    if fastest is None:
        return None
    as_fast = ({model.y: 1.0}, fastest.bill.tokens_per_s / model.speed_unit * (1 - CLOSE), float("inf"))
    return _until_exact(lambda: _solve(model, model.money(), [*budget, as_fast])) or fastest


_LOOSE = 1e-5
"""Whatever the solver takes for whole numbers may be off by 1e-6, and a tangent that is switched off by that much."""

_Found = tuple[Pick, float, bool]
"""A choice, the objective that the model gives it, and whether the model knows its true speed."""


def _until_exact(solve: Callable[[], _Found | None]) -> Pick | None:
    while (found := solve()) is not None:
        pick, _, exact = found
        if exact:
            return pick
    return None


def _solve(model: MixModel, objective: dict[int, float], extra: Sequence = ()) -> _Found | None:
    """Solve once; where the model takes the choice for faster than it is, add what it did not know."""
    columns = model.solve(objective, extra)
    if columns is None:
        return None
    islands = [model.options[j] for j in model.chosen(columns)]
    pick = Pick(tuple(islands), bill_of(model.market, islands))
    exact = bool(columns[model.y] <= pick.bill.tokens_per_s / model.speed_unit * (1 + _LOOSE) + CLOSE)
    if not exact:
        model.add_tangent(sum(island.tokens_per_s for island in islands), model.level(columns))
    value = sum(weight * columns[column] for column, weight in objective.items())
    return pick, value, exact
