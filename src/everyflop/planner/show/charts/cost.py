"""A picture of what each choice costs, and how sure that is."""

from everyflop.base.units import Scale, scale_of
from everyflop.planner.show.charts.axes import BELOW_PX, Axis, draw_below, linear_axis
from everyflop.planner.show.charts.svg import ROW_PX, WIDTH_PX, label_width, line, marker, row_label, svg, text
from everyflop.planner.show.findings import basis_of, kind_of
from everyflop.planner.show.names import name_of
from everyflop.spec.plan import Choice, Plan

_FIGURES_PX = 160
_TOP_PX = 4


def cost_chart(plan: Plan) -> str:
    """Draw the cost of 10**12 tokens on each choice: P50 as the mark of its basis, P10 to P90 as a line."""
    costs = [choice.total.cost_per_ttoken for choice in plan.alternatives]
    scale = scale_of(cost.p50 for cost in costs)
    label_px = label_width((name_of(choice) for choice in plan.alternatives), 240)
    largest = max(cost.p90 for cost in costs) / scale.size
    axis = linear_axis(0.0, largest, label_px + 14, WIDTH_PX - _FIGURES_PX)
    bottom = _TOP_PX + ROW_PX * len(costs)
    unit = f"{scale.suffix} {plan.currency}".strip()
    parts = draw_below(axis, _TOP_PX, bottom, f"cost of 10¹² tokens, {unit} (predicted P10, P50, P90)")
    for row, choice in enumerate(plan.alternatives):
        y = _TOP_PX + ROW_PX * (row + 0.5)
        parts.append(row_label(name_of(choice), y + 4, label_px, kind=kind_of(choice, plan)))
        parts += _interval(choice, axis, scale, y, kind_of(choice, plan))
    return svg(bottom + BELOW_PX, "Predicted cost of 10^12 tokens on each choice, with P10 and P90", parts)


def _interval(choice: Choice, axis: Axis, scale: Scale, y: float, kind: str) -> list[str]:
    cost = choice.total.cost_per_ttoken
    low, middle, high = (axis.at(value / scale.size) for value in (cost.p10, cost.p50, cost.p90))
    figures = f"{scale.write(cost.p50)} ({scale.write(cost.p10)}-{scale.write(cost.p90)})"
    return [
        line((low, y), (high, y), kind=f"whisker {kind}"),
        *(line((end, y - 5), (end, y + 5), kind=f"whisker {kind}") for end in (low, high)),
        marker(middle, y, basis_of(choice), kind=kind, title=f"{name_of(choice)}: {figures}, {basis_of(choice)}"),
        text(WIDTH_PX, y + 4, figures, kind=f"figure {kind}", anchor="end"),
    ]
