"""A picture of cost against time: which choices none beats in both, and where the limits lie."""

from everyflop.base.units import scale_of, time_scale_of
from everyflop.planner.show.charts.axes import BELOW_PX, Axis, draw_below, draw_beside, wide_axis
from everyflop.planner.show.charts.labels import point_labels
from everyflop.planner.show.charts.svg import WIDTH_PX, Point, line, marker, path, svg, text, text_width
from everyflop.planner.show.findings import basis_of, kind_of, shown_choices
from everyflop.planner.show.names import name_of
from everyflop.spec.plan import Plan

_TOP, _BOTTOM, _LEFT, _RIGHT = 14.0, 374.0, 72.0, WIDTH_PX - 20.0
_MOST_NAMES = 8
"""More points than this are called by number."""


def front_chart(plan: Plan) -> str:
    """Draw the cost of the whole run against its time; a line joins the choices that none beats in both."""
    choices = shown_choices(plan)
    cost, time = scale_of(c.total.cost.p50 for c in choices), time_scale_of(c.total.days.p50 for c in choices)
    x = wide_axis([c.total.days.p50 / time.size for c in choices], _LEFT, _RIGHT)
    y = wide_axis([c.total.cost.p50 / cost.size for c in choices], _BOTTOM, _TOP)
    points = [(x.at(c.total.days.p50 / time.size), y.at(c.total.cost.p50 / cost.size)) for c in choices]
    stairs = _stairs([point for choice, point in zip(choices, points, strict=True) if choice in plan.front])
    parts = draw_below(x, _TOP, _BOTTOM, f"time, {time.suffix} (predicted P50)")
    parts += draw_beside(y, _LEFT, _RIGHT, f"cost in all, {cost.suffix} {plan.currency} (predicted P50)")
    parts += _deadline(x, plan.limits.deadline_days, time.size)
    parts += _budget(y, plan.limits.budget, cost.size)
    parts += [path(stairs, kind="front")] if stairs else []
    for choice, (px, py) in zip(choices, points, strict=True):
        figures = f"{cost.write(choice.total.cost.p50)} {cost.suffix} {plan.currency}"
        said = f"{name_of(choice)}: {figures}, {time.write(choice.total.days.p50)} {time.suffix}, {basis_of(choice)}"
        parts.append(marker(px, py, basis_of(choice), kind=kind_of(choice, plan), title=said))
    parts += point_labels(_names(plan), points, stairs, (_LEFT, 0, WIDTH_PX, _BOTTOM))
    return svg(_BOTTOM + BELOW_PX, "Predicted cost of the whole run against its predicted time", parts)


def _names(plan: Plan) -> list[str]:
    """Return what the points are called: their names where these are few and short, else their numbers."""
    names = [name_of(choice) for choice in shown_choices(plan)]
    if len(names) <= _MOST_NAMES and max(map(text_width, names)) <= 150:
        return names
    return [str(number) for number in range(1, len(names) + 1)]


def _stairs(on_front: list[Point]) -> list[Point]:
    """Return the border of what can be had: the cheapest at each time."""
    corners = sorted(on_front)[:1]
    for x, y in sorted(on_front)[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    return corners


def _deadline(axis: Axis, days: float | None, unit_days: float) -> list[str]:
    if days is None or not axis.holds(days / unit_days):
        return []
    x = axis.at(days / unit_days)
    words = text(x - 5, _TOP + 12, "deadline", kind="limit", anchor="end")
    return [line((x, _TOP), (x, _BOTTOM), kind="limit"), words]


def _budget(axis: Axis, budget: float | None, unit: float) -> list[str]:
    if budget is None or not axis.holds(budget / unit):
        return []
    y = axis.at(budget / unit)
    return [line((_LEFT, y), (_RIGHT, y), kind="limit"), text(_RIGHT - 4, y - 5, "budget", kind="limit", anchor="end")]
