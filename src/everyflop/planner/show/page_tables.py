"""The tables of a plan's terminal page: figures short, aligned, of one scale in each column."""

from collections.abc import Iterable

from rich import box
from rich.table import Table
from rich.text import Text

from everyflop.base.units import Scale, percent, scale_of, time_scale_of
from everyflop.planner.show.findings import (
    break_even_line,
    change_line,
    changes,
    is_recommended,
    memory_line,
    short_layout,
)
from everyflop.planner.show.names import rows_of
from everyflop.spec.plan import Choice, Plan, Spread

MOST_CHANGES = 12
"""What-ifs shown; a fleet of twenty pools has sixty."""


def choices_table(plan: Plan) -> Table:
    """Show what each way to train costs, best first by the objective, the recommended one marked."""
    totals = [choice.total for choice in plan.alternatives]
    each, whole = scale_of(t.cost_per_ttoken.p50 for t in totals), scale_of(t.cost.p50 for t in totals)
    time = time_scale_of(t.days.p50 for t in totals)
    table = _table("", "\nchoice")
    for heading in (
        f"{_unit(each, plan)}\nper 1T",
        "\nP10-P90",
        f"{_unit(whole, plan)}\nin all",
        "\nP10-P90",
        f"\n{time.suffix}",
        "\ndevices",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("\nlimits", no_wrap=True)
    for choice in plan.alternatives:
        best = is_recommended(choice, plan)
        table.add_row(
            Text(">" if best else ""),
            Text(choice.name),
            each.write(choice.total.cost_per_ttoken.p50),
            _range(choice.total.cost_per_ttoken, each),
            whole.write(choice.total.cost.p50),
            _range(choice.total.cost, whole),
            time.write(choice.total.days.p50),
            f"{choice.total.devices:,}",
            "kept" if choice.meets_limits else "broken",
            style="bold green" if best else "" if choice.meets_limits else "dim",
        )
    return table


def front_table(plan: Plan) -> Table:
    """Show the choices that no other beats in both cost and time."""
    whole = scale_of(choice.total.cost.p50 for choice in plan.front)
    time = time_scale_of(choice.total.days.p50 for choice in plan.front)
    table = _table("choice")
    for heading in (f"{_unit(whole, plan)} in all", "P10-P90", time.suffix, "devices"):
        table.add_column(heading, justify="right", no_wrap=True)
    for choice in plan.front:
        cost, days, devices = choice.total.cost, choice.total.days.p50, f"{choice.total.devices:,}"
        table.add_row(Text(choice.name), whole.write(cost.p50), _range(cost, whole), time.write(days), devices)
    return table


def islands_table(choices: Iterable[Choice]) -> Table:
    """Show how each island of some choices would run."""
    table = _table("\nisland", "\ndevices: layout")
    for heading in ("\nMFU", "break\neven", "GiB used\nof limit"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("speed\nis", no_wrap=True)
    for name, island in rows_of(choices):
        table.add_row(
            Text(name),
            Text(f"{island.devices:,}: {short_layout(island.layout)}"),
            percent(island.mfu),
            break_even_line(island),
            memory_line(island),
            island.basis,
        )
    return table


def what_if_table(plan: Plan) -> Iterable[Table | Text]:
    """Show the changes that move the bill, and say how many do not."""
    moved = changes(plan)
    whole = scale_of([plan.total.cost.p50, *(w.cost for w in moved if w.cost is not None)])
    time = time_scale_of(w.days for w in moved if w.days is not None)
    table = _table("what changes")
    for heading in (f"{_unit(whole, plan)} in all", "bill", time.suffix):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("then best", overflow="fold")
    for what_if in moved[:MOST_CHANGES]:
        table.add_row(
            Text(what_if.change),
            "-" if what_if.cost is None else whole.write(what_if.cost),
            change_line(what_if, plan.total.cost.p50),
            "-" if what_if.days is None else time.write(what_if.days),
            Text(what_if.best),
        )
    if moved:
        yield table
    if smaller := len(moved[MOST_CHANGES:]):
        yield Text(
            f"{smaller} changes move the bill by less; the plan file and the HTML report have them.", style="dim"
        )
    if same := len(plan.what_if) - len(moved):
        yield Text(f"{same} of {len(plan.what_if)} changes tried leave the bill as it is.", style="dim")


def measure_table(plan: Plan) -> Table:
    """Show which measurements would narrow the interval of the cost, and by how much."""
    table = _table("command", "device")
    for heading in ("P90/P10 now", "then"):
        table.add_column(heading, justify="right", no_wrap=True)
    for m in plan.measure_next:
        table.add_row(Text(m.command), Text(m.device), f"{m.width_now:.2f}", f"{m.width_after:.2f}")
    return table


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", vertical="top")
    return table


def _unit(scale: Scale, plan: Plan) -> str:
    return f"{scale.suffix} {plan.currency}".strip()


def _range(spread: Spread, scale: Scale) -> str:
    return f"{scale.write(spread.p10)}-{scale.write(spread.p90)}"
