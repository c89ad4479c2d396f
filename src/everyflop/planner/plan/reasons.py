"""Why a plan recommends what it does, in one sentence."""

from collections.abc import Sequence
from itertools import combinations

from everyflop.base.units import percent
from everyflop.planner.choose.settle import Settled
from everyflop.planner.plan.desk import Desk


def why(desk: Desk, best: Settled, alone: Sequence[Settled], mixed: Sequence[Settled], unusable: dict[str, str]) -> str:
    """Return the reason for the best choice among pools alone and mixes."""
    name = desk.name(best)
    if len(best.pools) > 1:
        return _why_mix(desk, best, name, alone)
    if not mixed:
        if len(alone) > 1:
            return f"do not mix: {_why_none(desk)}, and {name} is the {_most(desk)} pool alone that keeps the limits"
        return f"{name} is the only pool that can train this model" if unusable else f"{name} is the only pool"
    rival = next((choice for choice in desk.better(mixed) if not desk.broken(choice)), None)
    if rival is None:
        return f"do not mix: no mix keeps the limits, and {name} is the {_most(desk)} pool alone that does"
    more = f"{percent(_figure(desk, rival) / _figure(desk, best) - 1)} more {_what(desk)}"
    return (
        f"do not mix: {name} alone is {_more(desk)} than every mix; the best of them, {desk.name(rival)}, takes {more}"
    )


def _why_none(desk: Desk) -> str:
    """Say why there is no mix at all."""
    if max(desk.options) == 1:
        alone = desk.supply.workload.batch_seqs == 1
        return "a batch of one sequence is for one island" if alone else "only one island is allowed"
    pools = {option.pool for offered in desk.options.values() for option in offered}
    if any(desk.market.connected(*pair) for pair in combinations(sorted(pools), 2)):
        return "no mix keeps to what pools and suppliers may train"
    return "no two pools can exchange with each other"


def _why_mix(desk: Desk, best: Settled, name: str, alone: Sequence[Settled]) -> str:
    able = [choice for choice in desk.better(alone) if not desk.broken(choice)]
    if able:
        less = 1 - _figure(desk, best) / _figure(desk, able[0])
        return f"mix: {name} takes {percent(less)} less {_what(desk)} than {desk.name(able[0])}, the best pool alone"
    nearest = desk.better(alone)[0] if alone else None
    if nearest is None:
        return f"mix: no pool alone can train this model, and {name} is the {_most(desk)} mix"
    broken = "; ".join(desk.broken(nearest))
    return f"mix: no pool alone keeps the limits (on {desk.name(nearest)} {broken}); {name} is the {_most(desk)} mix"


def _figure(desk: Desk, choice: Settled) -> float:
    return choice.bill.cost if desk.objective == "cost" else choice.bill.days


def _what(desk: Desk) -> str:
    return "money" if desk.objective == "cost" else "time"


def _more(desk: Desk) -> str:
    return "cheaper" if desk.objective == "cost" else "faster"


def _most(desk: Desk) -> str:
    return "cheapest" if desk.objective == "cost" else "fastest"
