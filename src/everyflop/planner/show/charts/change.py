"""A picture of what would change the bill: one bar for each what-if, from this plan's bill to the new one."""

from everyflop.base.units import Scale, scale_of
from everyflop.planner.show.charts.axes import BELOW_PX, Axis, draw_below, linear_axis
from everyflop.planner.show.charts.svg import ROW_PX, WIDTH_PX, label_width, line, rect, row_label, svg, text
from everyflop.planner.show.findings import change_line, changes
from everyflop.spec.plan import Plan, WhatIf

MOST_BARS = 20
"""Smaller changes are in the table below the picture alone."""

_TOP_PX = 22
_BESIDE_PX = 120
"""Room for the figures beside a bar."""


def change_chart(plan: Plan) -> str | None:
    """Draw the changes that move the bill, largest first; None where none does."""
    moved = changes(plan)[:MOST_BARS]
    if not moved:
        return None
    now = plan.total.cost.p50
    costs = [now, *(w.cost for w in moved if w.cost is not None)]
    scale = scale_of(costs)
    label_px = label_width((w.change for w in moved), 280)
    left, right = label_px + 14 + _BESIDE_PX, WIDTH_PX - _BESIDE_PX
    axis = linear_axis(min(costs) / scale.size, max(costs) / scale.size, left, right)
    bottom = _TOP_PX + ROW_PX * len(moved)
    unit = f"{scale.suffix} {plan.currency}".strip()
    parts = draw_below(axis, _TOP_PX, bottom, f"cost in all, {unit} (predicted P50)")
    for row, what_if in enumerate(moved):
        y = _TOP_PX + ROW_PX * row + 4
        parts += [row_label(what_if.change, y + 13, label_px), *_bar(what_if, now, axis, scale, y)]
    middle = axis.at(now / scale.size)
    parts.append(line((middle, _TOP_PX - 4), (middle, bottom), kind="now"))
    parts.append(text(middle, _TOP_PX - 9, f"this plan: {scale.write(now)}", kind="tick", anchor="middle"))
    return svg(bottom + BELOW_PX, "Predicted cost of the whole run after each change", parts)


def _bar(what_if: WhatIf, now: float, axis: Axis, scale: Scale, y: float) -> list[str]:
    middle = axis.at(now / scale.size)
    if what_if.cost is None:
        return [text(middle + 8, y + 13, "no plan fits", kind="limit")]
    end = axis.at(what_if.cost / scale.size)
    figures = f"{scale.write(what_if.cost)} ({change_line(what_if, now)})"
    title = f"{what_if.change}: {figures}"
    if what_if.cost > now:
        bar = rect(middle, y, end - middle, ROW_PX - 8, kind="dearer", title=title)
        return [bar, text(end + 6, y + 13, figures, kind="figure")]
    bar = rect(end, y, middle - end, ROW_PX - 8, kind="cheaper", title=title)
    return [bar, text(end - 6, y + 13, figures, kind="figure", anchor="end")]
