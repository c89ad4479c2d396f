"""The report of a plan: one HTML page with pictures and every figure, that needs no other file and no script.

findings.py has the words, charts/ the pictures, html_tables.py the tables, html_style.py the looks.
"""

from collections.abc import Callable
from html import escape

from everyflop.base.units import Scale, decimals_of, scale_of, time_scale_of
from everyflop.planner.show.bills import bill_of
from everyflop.planner.show.charts.change import change_chart
from everyflop.planner.show.charts.cost import cost_chart
from everyflop.planner.show.charts.front import front_chart
from everyflop.planner.show.charts.parts import Whole, parts_chart
from everyflop.planner.show.findings import (
    BASES,
    OBJECTIVES,
    chance_line,
    example_lines,
    exchange_lines,
    keeps_limits,
    launch_lines,
    limits_line,
    memory_line,
    recommendation,
    shown_choices,
    workload_line,
    yardstick,
)
from everyflop.planner.show.html_cells import block, bullets, paragraph, picture, section, tile
from everyflop.planner.show.html_style import STYLE
from everyflop.planner.show.html_tables import (
    bills_table,
    choices_table,
    islands_table,
    layouts_table,
    measure_table,
    parts_table,
    what_if_table,
)
from everyflop.planner.show.names import rows_of
from everyflop.spec.plan import Plan, Spread


def html(plan: Plan) -> str:
    """Return the whole page; the same plan gives the same bytes."""
    title = escape(f"{plan.workload.name} on {plan.fleet}")
    body = "\n".join(filter(None, (part(plan) for part in _PARTS)))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>Plan: {title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )


def _answer(plan: Plan) -> str:
    sought = f"Sought: {OBJECTIVES[plan.objective]}, {limits_line(plan.limits, plan.currency)}."
    return "\n".join(
        [
            paragraph(f"{workload_line(plan)}. {sought}", "soft"),
            paragraph(recommendation(plan), "answer" if keeps_limits(plan) else "answer bad"),
            _tiles(plan),
            paragraph(f"Why: {plan.why}"),
            *([paragraph(chance)] if (chance := chance_line(plan)) else []),
        ]
    )


def _tiles(plan: Plan) -> str:
    total = plan.total
    money, each = scale_of([total.cost.p50]), scale_of([total.cost_per_ttoken.p50])
    time, speed = time_scale_of([total.days.p50]), scale_of([total.tokens_per_s.p50])
    tiles = [
        _tile("predicted cost in all", total.cost, money, f"{money.suffix} {plan.currency}"),
        _tile("of 10¹² tokens", total.cost_per_ttoken, each, f"{each.suffix} {plan.currency}"),
        _tile("predicted time", total.days, time, time.suffix),
        _tile("predicted tokens/s", total.tokens_per_s, speed, speed.suffix),
        tile("devices", f"{total.devices:,}", "", f"in {len(plan.islands)} island{'s' * (len(plan.islands) > 1)}"),
    ]
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _tile(label: str, spread: Spread, scale: Scale, unit: str) -> str:
    below = f"P10 {scale.write(spread.p10)}, P90 {scale.write(spread.p90)}"
    return tile(label, scale.write(spread.p50), unit, below)


def _costs(plan: Plan) -> str:
    caption = (
        "Predicted. A mark is P50, its line goes from P10 to P90: one in ten outcomes is expected below, one above. "
        "Marks show where the speed of the least sure chip comes from: disc measured, diamond fitted, ring prior."
    )
    return section(
        "What each way costs",
        picture(cost_chart(plan), caption),
        choices_table(plan, list(plan.alternatives), 1),
        *([bullets(examples)] if (examples := example_lines(plan)) else []),
    )


def _bills(plan: Plan) -> str:
    bills = [(choice.name, bill_of(choice)) for choice in plan.alternatives if choice.kind == "mix"]
    if not bills:
        return ""
    scale = scale_of(sum(parts.values()) for _, parts in bills)
    unit = f"{scale.suffix} {plan.currency}".strip()
    wholes = [
        Whole(name, {part: cost / scale.size for part, cost in parts.items()}, f"{scale.write(sum(parts.values()))}")
        for name, parts in bills
    ]
    chart = parts_chart(wholes, f"cost in all by pool, {unit} (predicted P50)", as_shares=False)
    caption = "Predicted. The hours of each pool's devices, and the traffic between islands where links have a price."
    return section("What the money of each mix is for", picture(chart, caption), bills_table(bills, unit, scale))


def _front(plan: Plan) -> str:
    choices = shown_choices(plan)
    if len(choices) < 2:
        return ""
    more = choices[len(plan.alternatives) :]
    caption = (
        "Predicted P50 of each choice, by name or by its number in the tables. "
        "The line joins those that no other choice beats in both cost and time. Marks as above."
    )
    extra = [choices_table(plan, more, len(plan.alternatives) + 1)] if more else []
    return section("Cost against time", picture(front_chart(plan), caption), *extra)


def _islands(plan: Plan) -> str:
    tags = "; ".join(f"{basis}: {meaning}" for basis, meaning in BASES.items())
    explained = (
        f"Break-even is the MFU at which an island costs as much per token as {yardstick(plan)}. Goodput is what "
        "failures, checkpoints and exchanges leave of the speed. Where an island exchanges, its link is given beside "
        f"the least that keeps exchanges below 5 % of the time. Predicted; {tags}."
    )
    choices = shown_choices(plan)
    tables = (layouts_table(choices), islands_table(choices, plan.currency))
    return section("How each would run", *tables, paragraph(explained, "soft"))


def _unusable(plan: Plan) -> str:
    lines = [f"{pool}: {cause}" for pool, cause in plan.unusable.items()]
    return section("Pools that cannot be used", bullets(lines)) if lines else ""


def _time(plan: Plan) -> str:
    rows = rows_of(plan.alternatives)
    wholes = [Whole(name, i.step_s, f"{_seconds(sum(i.step_s.values()))}, {i.basis}") for name, i in rows]
    chart = parts_chart(wholes, "share of one optimizer step, % (predicted)", as_shares=True)
    caption = "Predicted. Behind each bar: seconds of one optimizer step, and where the speed comes from."
    return section(
        "Where the time of a step goes", picture(chart, caption), parts_table(plan.alternatives, "step_s", "s")
    )


def _seconds(seconds: float) -> str:
    return f"{seconds:,.{decimals_of(seconds)}f} s"


def _memory(plan: Plan) -> str:
    rows = rows_of(plan.alternatives)
    wholes = [Whole(name, i.mem_gib, f"{memory_line(i)} GiB", i.mem_limit_gib) for name, i in rows]
    chart = parts_chart(wholes, "peak memory of the fullest device, GiB (predicted)", as_shares=False)
    caption = "Predicted. The upright mark is what a device can hold."
    return section("Where the memory goes", picture(chart, caption), parts_table(plan.alternatives, "mem_gib", "GiB"))


def _what_if(plan: Plan) -> str:
    if not plan.what_if:
        return ""
    chart = change_chart(plan)
    caption = "Predicted P50 of the best plan after one change, beside this plan's; what changes nothing is left out."
    pictures = [picture(chart, caption)] if chart else [paragraph("None of these changes moves the bill.")]
    return section("What if", *pictures, what_if_table(plan))


def _measure(plan: Plan) -> str:
    if not plan.measure_next:
        return ""
    words = "Run on the device named, these narrow the interval of the plan's cost most; predicted widths."
    return section("What to measure to be surer", paragraph(words), measure_table(plan))


def _assumed(plan: Plan) -> str:
    return section("Assumed", bullets([*plan.assumptions, *exchange_lines(plan.exchange)]))


def _launch(plan: Plan) -> str:
    return section("Launch", block(plan.launch), *map(paragraph, launch_lines(plan)), paragraph(_origin(plan), "soft"))


def _origin(plan: Plan) -> str:
    made = f"Made by everyflop {plan.everyflop or '(version unknown)'} from the fleet {plan.fleet}"
    catalogue = f", with the catalogue {plan.catalogue_sha256}" if plan.catalogue_sha256 else ""
    return f"{made}{catalogue}; plan schema {plan.schema_version}."


_PARTS: tuple[Callable[[Plan], str], ...] = (
    _answer,
    _costs,
    _bills,
    _front,
    _islands,
    _unusable,
    _time,
    _memory,
    _what_if,
    _measure,
    _assumed,
    _launch,
)
