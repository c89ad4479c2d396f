"""What to train for a budget, on a terminal: the shape, how far it gets, what to doubt, what it saves."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from everyflop.accounting.laws import (
    CHECKED_FLOP,
    LARGEST_LEVERAGE,
    fitted_leverage,
    law_note,
    optimal_dense_allocation,
)
from everyflop.accounting.parameters import count_parameters
from everyflop.base.units import percent, short_count, short_money, time_scale_of
from everyflop.planner.shape.plan_shape import ShapedPlan
from everyflop.planner.shape.reshape import Reshaped
from everyflop.planner.shape.shape import FLOPS_PER_PARAMETER, Shape, activation_of, attention_share, granularity_of
from everyflop.planner.show.findings import price_note
from everyflop.spec.plan import Plan

_SPENT_SHARE = 0.97
"""Of the budget; steps between shapes leave up to about 2 %."""


def shape_page(made: ShapedPlan) -> RenderableType:
    """Return the page that goes before the plan's; print it with a rich Console."""
    plan = made.plan
    budget = short_money(plan.limits.budget or 0, plan.currency)
    return Group(
        Text(f"What to train for {budget} on {plan.fleet}, by scaling laws", style="bold underline"),
        _rows([*shape_rows(made.shape), bill_row(plan), *risk_rows(plan)]),
        Text(""),
        Text("What to doubt", style="bold"),
        _rows([("-", line) for line in [*unspent_lines(plan), *caveats(made.shape)]]),
        *_saving(made.reshaped, plan.currency),
        Text(""),
    )


def _saving(same: Reshaped | None, currency: str) -> list[RenderableType]:
    if same is None:
        return []
    title = Text(f"What reshaping {same.name} would save (implied by the law, not measured)", style="bold")
    return [Text(""), title, _rows([("-", line) for line in saving_lines(same, currency)])]


def shape_rows(shape: Shape) -> list[tuple[str, str]]:
    """Return what the shape is, as names and values."""
    model = shape.model
    total = count_parameters(model).total
    activation = percent(activation_of(model))
    return [
        ("parameters", f"{short_count(total)}, of which a token meets {short_count(shape.active)}"),
        ("layers", f"{model.n_layers}, the first {len(model.dense_layers)} dense of width {model.dense_width:,}"),
        ("hidden", f"{model.hidden:,}; {model.n_heads} heads of {model.head_dim}, {model.n_kv_heads} for keys, values"),
        ("attention", f"{percent(attention_share(model, shape.seq_len))} of the FLOPs of the layers"),
        (
            "experts",
            f"{model.n_experts} of width {model.expert_width:,}, {model.experts_per_token} chosen and "
            f"{model.n_shared_experts} shared: {activation} active, granularity {granularity_of(model):g}",
        ),
        ("tokens", short_count(shape.tokens)),
        ("batch", f"{short_count(shape.batch_tokens)} tokens: {shape.batch_tokens // shape.seq_len:,} sequences"),
        ("learning rate", f"{shape.lr:.2e} at its peak, AdamW"),
        ("compute", f"{shape.compute:.2e} FLOP"),
        ("as good as", f"{_dense(shape)}: {shape.leverage:.1f} times the compute"),
    ]


def _dense(shape: Shape) -> str:
    best = optimal_dense_allocation(shape.dense_equivalent)
    parameters = best.flops_per_token / FLOPS_PER_PARAMETER
    return f"a dense model of {short_count(parameters)} parameters on {short_count(best.tokens)} tokens"


def bill_row(plan: Plan) -> tuple[str, str]:
    """Return what the run is predicted to cost and to take."""
    cost, time = plan.total.cost, time_scale_of([plan.total.days.p50])
    days = f"{time.write(plan.total.days.p50)} {time.suffix}"
    spread = f"P10 to P90 {short_count(cost.p10)} to {short_count(cost.p90)}"
    return "predicted", f"{short_money(cost.p50, plan.currency)} ({spread}{price_note(plan.islands)}) in {days}"


def risk_rows(plan: Plan) -> list[tuple[str, str]]:
    """Return how easily the run costs more than the budget, and which budget would hold P90; nothing where it does."""
    cost, budget = plan.total.cost, plan.limits.budget
    if budget is None or cost.p90 <= budget:
        return []
    odds = "even odds" if cost.p50 >= _SPENT_SHARE * budget else "more than one chance in ten"
    held = budget * cost.p50 / cost.p90
    return [
        (
            "risk",
            f"{odds} to cost more than the budget: P90 is {short_money(cost.p90, plan.currency)}. "
            f"To keep P90 inside, give about {short_money(held, plan.currency)} as --budget",
        )
    ]


def unspent_lines(plan: Plan) -> list[str]:
    """Say so where something else than the budget ends the run."""
    spent = plan.total.cost.p50 / (plan.limits.budget or plan.total.cost.p50)
    if spent >= _SPENT_SHARE:
        return []
    return [
        f"Only {percent(spent)} of the budget is spent: a larger run breaks another limit, or fits no pool's memory. "
        "Offer more devices, or name a --model and train it longer."
    ]


def caveats(shape: Shape) -> list[str]:
    """Say how far the figures can be trusted."""
    model = shape.model
    fitted = fitted_leverage(activation_of(model), granularity_of(model), shape.compute)
    capped = (
        f"The leverage law says {fitted:.1f} here and is cut at {LARGEST_LEVERAGE:g}, the largest checked at scale."
    )
    return [
        law_note(shape.compute),
        *([capped] if fitted > LARGEST_LEVERAGE else []),
        "Size and tokens are best for the training bill alone: a model that serves much is better smaller, on more.",
        "Laws of one study (arXiv 2507.17702), on its data and a vocabulary of 126,464; yours may differ.",
        "Layers, heads and expert widths are cut as in Ling 2.0, and 4 numbers of experts are compared.",
    ]


def saving_lines(same: Reshaped, currency: str) -> list[str]:
    """Say what the better shape would save of a published run."""
    shape, model = same.shape, same.shape.model
    costs = f"{short_money(same.cost, currency)} and {short_money(same.shape_cost, currency)}"
    saves = "less" if same.cost_saved_share >= 0 else "more"
    return [
        f"{same.name} on {short_count(same.tokens)} tokens: {same.compute:.2e} FLOP, {same.leverage:.1f} times a dense "
        f"model's worth by the law.",
        f"The same loss from {model.n_experts} experts, {short_count(shape.active)} active, "
        f"{short_count(shape.tokens)} tokens, {shape.leverage:.1f} times: "
        f"{shape.compute:.2e} FLOP, {percent(same.compute_saved_share)} less.",
        f"On this fleet: {costs} predicted, {percent(abs(same.cost_saved_share))} {saves}.",
        f"With both leverages as at {CHECKED_FLOP:.0e} FLOP, where the law was checked, it would be "
        f"{percent(same.checked_saved_share)} less. The makers of Ling saw more than 3.5 at 1e24 FLOP for a shape like "
        "Ling-Plus, where the law says 6.0.",
    ]


def _rows(rows: list[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 1))
    for name, value in rows:
        table.add_row(name, Text(value))
    return table
