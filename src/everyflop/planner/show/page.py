"""One terminal page of a plan: what to do, what each way costs, how sure that is, what would change it.

Everything comes from the plan; nothing is computed anew but the figures' last digits. Readable from 80 columns.
"""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from everyflop.planner.show.bills import traffic_lines
from everyflop.planner.show.findings import (
    BASES,
    OBJECTIVES,
    broken_lines,
    chance_line,
    example_lines,
    exchange_lines,
    is_recommended,
    keeps_limits,
    launch_lines,
    limits_line,
    link_lines,
    recommendation,
    workload_line,
    yardstick,
)
from everyflop.planner.show.page_tables import (
    choices_table,
    front_table,
    islands_table,
    measure_table,
    what_if_table,
)
from everyflop.spec.plan import Choice, Plan


def page(plan: Plan) -> RenderableType:
    """Return the page; print it with a rich Console."""
    return Group(
        *_answer(plan),
        *_section("What each way costs, for 1T (10^12) tokens and in all (predicted)", choices_table(plan)),
        *_lines([*broken_lines(plan), *example_lines(plan)], "!"),
        *_front(plan),
        *_islands(plan),
        *_unusable(plan),
        *_what_if(plan),
        *_measure(plan),
        *_section("Assumed", *_lines([*plan.assumptions, *exchange_lines(plan.exchange)], "-")),
        *_section("Launch", Text(f"  {plan.launch}", style="bold"), *_lines(launch_lines(plan), "!")),
    )


def _answer(plan: Plan) -> list[RenderableType]:
    title = f"{plan.workload.name} on {plan.fleet}, {OBJECTIVES[plan.objective]}"
    lines = [
        Text(title, style="bold underline"),
        Text(workload_line(plan)),
        Text(f"Limits: {limits_line(plan.limits, plan.currency)}", style="dim"),
        Text(""),
        Text(recommendation(plan), style="bold green" if keeps_limits(plan) else "bold red"),
        Text(f"Why: {plan.why}"),
    ]
    return [*lines, *([Text(chance)] if (chance := chance_line(plan)) else [])]


def _section(title: str, *parts: RenderableType) -> list[RenderableType]:
    return [Text(""), Text(title, style="bold"), *parts]


def _lines(lines: list[str], mark: str) -> list[RenderableType]:
    """Return lines with a mark before each; what does not fit the width goes on below, set in."""
    table = Table.grid(padding=(0, 1))
    for line in lines:
        table.add_row(mark, Text(line))
    return [table] if lines else []


def _front(plan: Plan) -> list[RenderableType]:
    if len(plan.front) < 2:
        return []
    return _section("Cheaper or faster: no choice beats these in both (predicted)", front_table(plan))


def _islands(plan: Plan) -> list[RenderableType]:
    """Show each pool alone, the best mix and the recommended choice: what other mixes run differs little from them."""
    best_mix = next((choice for choice in plan.alternatives if choice.kind == "mix"), None)
    shown = [c for c in plan.alternatives if c.kind == "single" or c is best_mix or c.name == plan.recommended]
    exchanging = [c for c in shown if c is best_mix or is_recommended(c, plan)]
    links = [f"the link of {line}" for c in exchanging for line in link_lines(c)]
    traffic = [line for c in exchanging for line in traffic_lines(c, c.name, plan.currency)]
    return [
        *_section("How each would run (predicted)", islands_table(shown), _legend(shown, plan)),
        *_lines([*links, *traffic], "-"),
    ]


def _legend(choices: Iterable[Choice], plan: Plan) -> RenderableType:
    used = {island.basis for choice in choices for island in choice.islands}
    said = [f"{basis}: {meaning}" for basis, meaning in BASES.items() if basis in used]
    said.append(f"break even: the MFU at which an island costs as much per token as {yardstick(plan)}")
    said.append("layout: parallel degrees, sharding, what is recomputed, micro-batch (mb)")
    return Text("; ".join(said), style="dim")


def _unusable(plan: Plan) -> list[RenderableType]:
    lines = [f"{pool}: {cause}" for pool, cause in plan.unusable.items()]
    return _section("Pools that cannot be used", *_lines(lines, "!")) if lines else []


def _what_if(plan: Plan) -> list[RenderableType]:
    return _section("What if (predicted)", *what_if_table(plan)) if plan.what_if else []


def _measure(plan: Plan) -> list[RenderableType]:
    return _section("What to measure to be surer", measure_table(plan)) if plan.measure_next else []
