"""Hold what came out of a run against what its plan predicted."""

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from everyflop.backend.others import is_disturbed
from everyflop.base.units import money, percent, short_count
from everyflop.spec.plan import Plan, PlannedIsland

if TYPE_CHECKING:
    from everyflop.train.plan import Planned

Figure = dict[str, Any]
"""One figure of the plan: `predicted` (p10, p50, p90), `measured`, and `ratio`, measured over predicted p50."""


def plan_line(planned: "Planned") -> str:
    """Say before the run what the plan predicts and what it sets."""
    plan, currency = planned.plan, planned.plan.currency
    speed = plan.islands[0].tokens_per_s if len(plan.islands) == 1 else plan.total.tokens_per_s
    predicted = f"{_speeds(speed.model_dump())} and {_costs(plan.total.cost.model_dump(), currency)} in all"
    return f"{planned.path}, {plan.recommended}: predicted {predicted}; it sets {', '.join(_what_it_sets(plan))}"


def _what_it_sets(plan: Plan) -> list[str]:
    if len(plan.islands) == 1:
        (island,) = plan.islands
        return [f"a micro-batch of {island.micro_batch}", f"{island.layout.recompute} recompute", _price(plan, island)]
    tokens = f"{short_count(plan.trained_tokens)} tokens for the loss that one island has of "
    return [
        *(f"{island.name} at {_price(plan, island)}" for island in plan.islands),
        _exchanges(plan),
        tokens + short_count(plan.workload.tokens),
    ]


def _exchanges(plan: Plan) -> str:
    steps = plan.exchange.steps_between
    return "gradients at every step" if steps == 1 else f"exchanges every {steps} steps as {plan.compress}"


def _price(plan: Plan, island: PlannedIsland) -> str:
    price = f"{island.price_per_device_hour:g} {plan.currency} an hour"
    return price + (" (an example)" if island.example_price else "")


def plan_facts(plan: Plan) -> dict[str, Any]:
    """Return what the plan says of the run, for the record."""
    facts = {"choice": plan.recommended, "currency": plan.currency, "cost": {"predicted": plan.total.cost.model_dump()}}
    if len(plan.islands) == 1:
        return _island_facts(plan.islands[0]) | facts
    islands = {
        island.name: {**_island_facts(island), "cost": {"predicted": island.cost.model_dump()}}
        for island in plan.islands
    }
    return {**facts, "tokens_per_s": {"predicted": plan.total.tokens_per_s.model_dump()}, "islands": islands}


def _island_facts(island: PlannedIsland) -> dict[str, Any]:
    return {
        "device": island.device,
        "basis": island.basis,
        "micro_batch": island.micro_batch,
        "recompute": island.layout.recompute,
        "price_per_device_hour": island.price_per_device_hour,
        "tokens_per_s": {"predicted": island.tokens_per_s.model_dump()},
    }


def compare(
    plan: Plan,
    metrics: Sequence[Mapping[str, Any]],
    *,
    tokens: int,
    seconds: float | None = None,
    cost: float | None,
    costs: Mapping[str, float | None] | None = None,
    others_share: float | None = None,
    simulated: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the plan's facts with what was measured beside them; `costs` are those of each island.

    The measured speed is the median over steps, as a plan means it: without validation and checkpoints. That of several
    islands together is over all the run's `seconds`, exchanges and waiting included, as a plan means that. The measured
    cost is that of all the time devices were held, and the predicted one is that of the tokens which were trained:
    whole steps may be fewer than planned. All say little where others used the processor too.
    """
    facts, planned_tokens = plan_facts(plan), plan.trained_tokens
    trained_share = tokens / planned_tokens  # divided first: a whole run's prediction keeps its bits
    figures = {
        "cost": _measured(_of_share(facts["cost"], trained_share), cost),
        "tokens": {"planned": planned_tokens, "trained": tokens},
    }
    if islands := facts.get("islands"):
        speed = tokens / seconds if seconds else None
        figures["islands"] = {
            name: {
                **island,
                "tokens_per_s": _measured(island["tokens_per_s"], _median_speed(metrics, island=name)),
                "cost": _measured(_of_share(island["cost"], trained_share), (costs or {}).get(name)),
            }
            for name, island in islands.items()
        }
    else:
        speed = _median_speed(metrics)
    return {
        **facts,
        **figures,
        "tokens_per_s": _measured(facts["tokens_per_s"], speed),
        "others_share": others_share,
        "simulated": [*simulated],
    }


def _median_speed(metrics: Sequence[Mapping[str, Any]], *, island: str | None = None) -> float | None:
    """Return the median over steps, of an island or of all; None where there was none."""
    speeds = [line["tokens_per_s"] for line in metrics if island is None or line["island"] == island]
    return statistics.median(speeds) if speeds else None


def _of_share(figure: Figure, share: float) -> Figure:
    return {"predicted": {key: value * share for key, value in figure["predicted"].items()}}


def _measured(figure: Figure, measured: float | None) -> Figure:
    middle = figure["predicted"]["p50"]
    ratio = measured / middle if measured is not None and middle > 0 else None
    return {**figure, "measured": measured, "ratio": ratio}


def comparison_rows(plan: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return a compared plan as texts: what, predicted, measured, measured over predicted."""
    islands, currency = plan.get("islands", {}), plan["currency"]
    whole = "speed, exchanges and waiting included" if islands else "speed"
    return [
        *(_speed_row(f"speed of {name}", island) for name, island in islands.items()),
        _speed_row(whole, plan),
        *(_cost_row(f"cost of {name}", island, currency) for name, island in islands.items()),
        _cost_row(f"cost{_of_some(**plan['tokens'])}", plan, currency),
    ]


def _speed_row(what: str, facts: dict[str, Any]) -> tuple[str, str, str, str]:
    speed = facts["tokens_per_s"]
    measured = "none" if speed["measured"] is None else f"{short_count(speed['measured'])} tokens/s"
    return what, _speeds(speed["predicted"]), measured, _ratio(speed)


def _cost_row(what: str, facts: dict[str, Any], currency: str) -> tuple[str, str, str, str]:
    cost = facts["cost"]
    measured = "none" if cost["measured"] is None else money(cost["measured"], currency)
    return what, _costs(cost["predicted"], currency), measured, _ratio(cost)


def _ratio(figure: Figure) -> str:
    return "no" if figure["ratio"] is None else f"{figure['ratio']:.2f}"


def doubt(plan: dict[str, Any]) -> str:
    """Return why a comparison says little; empty where nothing speaks against it."""
    share, simulated = plan["others_share"], plan.get("simulated")
    return "; ".join(
        [
            *([f"others used {percent(share)} of the processor meanwhile"] if is_disturbed(share) else []),
            *([f"simulated: {' and '.join(simulated)}"] if simulated else []),
        ]
    )


def _of_some(*, planned: int, trained: int) -> str:
    return "" if trained == planned else f" of {trained:,} tokens, where {planned:,} were planned"


def _speeds(predicted: dict[str, float]) -> str:
    low, middle, high = (short_count(predicted[key]) for key in ("p10", "p50", "p90"))
    return f"{middle} tokens/s ({low} to {high})"


def _costs(predicted: dict[str, float], currency: str) -> str:
    low, middle, high = (money(predicted[key], currency) for key in ("p10", "p50", "p90"))
    return f"{middle} ({low} to {high})"
