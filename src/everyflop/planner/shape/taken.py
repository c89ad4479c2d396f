"""What a run takes on a fleet: of its limits, and in money. What spend.py and reshape.py ask of the planner."""

from dataclasses import dataclass, replace

from everyflop.base.errors import ExpectedNo
from everyflop.base.units import SECONDS_PER_DAY
from everyflop.catalog.catalog import Catalog
from everyflop.planner.plan.desk import Desk
from everyflop.planner.plan.make_plan import desk_of
from everyflop.spec.fleet import Fleet
from everyflop.spec.plan import Limits
from everyflop.spec.workload import Workload


@dataclass(frozen=True, slots=True)
class Asked:
    """A fleet and the limits on it, a budget among them."""

    fleet: Fleet
    catalog: Catalog
    limits: Limits
    budget: float

    def alone(self, work: Workload) -> float | None:
        """Return the share of budget and deadline that a run takes on the best single pool; None where none can do it.

        Quick, and enough to compare runs: what suppliers and pools may train at most is left to `mixed`.
        """
        desk = self._desk(work, self.limits.model_copy(update={"max_islands": 1, "max_supplier_share": None}))
        most = self.limits.max_devices
        options = [o for o in desk.options[1] if most is None or o.devices <= most] if desk else []
        takes = (
            self._share(o.money_per_token * work.tokens, work.tokens / o.tokens_per_s / SECONDS_PER_DAY)
            for o in options
        )
        return min(takes, default=None)

    def mixed(self, work: Workload) -> float | None:
        """Return the share of the budget that the best plan takes within all other limits.

        Where none keeps the deadline: the share of the deadline that the fastest within the budget takes.
        """
        desk = self._desk(work, self.limits)
        if desk is None:
            return None
        if choice := desk.under(replace(desk.caps, cost=None), "cost").best():
            return choice.bill.cost / self.budget
        fastest = desk.under(replace(desk.caps, days=None), "time").best()
        return self._share(0.0, fastest.bill.days) if fastest else None

    def cost(self, work: Workload) -> float | None:
        """Return what a run costs on the cheapest pool without any limit; None where none can do it."""
        desk = self._desk(work, Limits(max_islands=1))
        costs = [option.money_per_token * work.tokens for option in desk.options[1]] if desk else []
        return min(costs, default=None)

    def _share(self, cost: float, days: float) -> float:
        return max(cost / self.budget, days / (self.limits.deadline_days or float("inf")))

    def _desk(self, work: Workload, limits: Limits) -> Desk | None:
        try:
            return desk_of(work, self.fleet, self.catalog, limits, "cost")[0]
        except ExpectedNo:  # no pool can train it
            return None
