"""Hold what came out of a run against what its plan predicted."""

import statistics
from typing import TYPE_CHECKING, Any

from everyflop.backend.others import is_disturbed
from everyflop.base.units import money, percent, short_count
from everyflop.spec.plan import Plan

if TYPE_CHECKING:
    from everyflop.train.plan import Planned

Figure = dict[str, Any]
"""One figure of the plan: `predicted` (p10, p50, p90), `measured`, and `ratio`, measured over predicted p50."""


def plan_line(planned: "Planned") -> str:
    """Say before the run what the plan predicts and what it sets."""
    island, currency = planned.island, planned.plan.currency
    price = f"{island.price_per_device_hour:g} {currency} an hour" + (" (an example)" if island.example_price else "")
    return (
        f"{planned.path}, {planned.plan.recommended}: predicted {_speeds(island.tokens_per_s.model_dump())} and "
        f"{_costs(planned.plan.total.cost.model_dump(), currency)} in all; it sets a micro-batch of "
        f"{island.micro_batch}, {island.layout.recompute} recompute, {price}"
    )


def plan_facts(plan: Plan) -> dict[str, Any]:
    """Return what the plan says of the run, for the record."""
    island = plan.islands[0]
    return {
        "choice": plan.recommended,
        "device": island.device,
        "basis": island.basis,
        "micro_batch": island.micro_batch,
        "recompute": island.layout.recompute,
        "price_per_device_hour": island.price_per_device_hour,
        "currency": plan.currency,
        "tokens_per_s": {"predicted": island.tokens_per_s.model_dump()},
        "cost": {"predicted": plan.total.cost.model_dump()},
    }


def compare(
    plan: Plan,
    metrics: list[dict[str, Any]],
    *,
    tokens: int,
    cost: float | None,
    others_share: float | None = None,
) -> dict[str, Any]:
    """Return the plan's facts with what was measured beside them.

    The measured speed is the median over the run's steps, as a plan means it: without validation and checkpoints. The
    measured cost is that of all the time the device was held, and the predicted one is that of the tokens which were
    trained: whole steps may be fewer than planned. Both say little where others used the processor too.
    """
    facts = plan_facts(plan)
    speed = statistics.median(line["tokens_per_s"] for line in metrics) if metrics else None
    planned_tokens = plan.workload.tokens
    trained_share = tokens / planned_tokens  # divided first: a whole run's prediction keeps its bits
    predicted = {key: value * trained_share for key, value in facts["cost"]["predicted"].items()}
    figures = {
        "tokens_per_s": _measured(facts["tokens_per_s"], speed),
        "cost": _measured({"predicted": predicted}, cost),
        "tokens": {"planned": planned_tokens, "trained": tokens},
    }
    return {**facts, **figures, "others_share": others_share}


def _measured(figure: Figure, measured: float | None) -> Figure:
    middle = figure["predicted"]["p50"]
    ratio = measured / middle if measured is not None and middle > 0 else None
    return {**figure, "measured": measured, "ratio": ratio}


def comparison_rows(plan: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return a compared plan as texts: what, predicted, measured, measured over predicted."""
    speed, cost = plan["tokens_per_s"], plan["cost"]
    measured = [
        "none" if speed["measured"] is None else f"{short_count(speed['measured'])} tokens/s",
        "none" if cost["measured"] is None else money(cost["measured"], plan["currency"]),
    ]
    ratios = ["no" if figure["ratio"] is None else f"{figure['ratio']:.2f}" for figure in (speed, cost)]
    return [
        ("speed", _speeds(speed["predicted"]), measured[0], ratios[0]),
        (f"cost{_of_some(**plan['tokens'])}", _costs(cost["predicted"], plan["currency"]), measured[1], ratios[1]),
    ]


def doubt(plan: dict[str, Any]) -> str:
    """Return why a comparison says little; empty where nothing speaks against it."""
    share = plan["others_share"]
    return f"others used {percent(share)} of the processor meanwhile" if is_disturbed(share) else ""


def _of_some(*, planned: int, trained: int) -> str:
    return "" if trained == planned else f" of {trained:,} tokens, where {planned:,} were planned"


def _speeds(predicted: dict[str, float]) -> str:
    low, middle, high = (short_count(predicted[key]) for key in ("p10", "p50", "p90"))
    return f"{middle} tokens/s ({low} to {high})"


def _costs(predicted: dict[str, float], currency: str) -> str:
    low, middle, high = (money(predicted[key], currency) for key in ("p10", "p50", "p90"))
    return f"{middle} ({low} to {high})"
