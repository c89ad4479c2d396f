"""The tables of the HTML report: every figure that a plan holds."""

from collections.abc import Iterable, Mapping

from everyflop.base.units import Scale, decimals_of, percent, scale_of, short_count, short_money, time_scale_of
from everyflop.planner.show.findings import (
    break_even_line,
    change_line,
    gbit,
    is_recommended,
    memory_line,
)
from everyflop.planner.show.html_cells import Cell, code, figure, row, table, tag, words
from everyflop.planner.show.names import kind_words, rows_of
from everyflop.spec.plan import Choice, Plan, PlannedIsland, Spread


def choices_table(plan: Plan, choices: list[Choice], first_number: int) -> str:
    """Show what each choice costs, takes and delivers; numbers are those of the points in the picture."""
    each = scale_of(c.total.cost_per_ttoken.p50 for c in choices)
    whole, time = scale_of(c.total.cost.p50 for c in choices), time_scale_of(c.total.days.p50 for c in choices)
    headings = (
        figure("#"),
        words("choice"),
        figure(f"{each.suffix} {plan.currency} per 10¹² tokens", "P10-P90"),
        figure(f"{whole.suffix} {plan.currency} in all", "P10-P90"),
        figure(time.suffix, "P10-P90"),
        figure("devices"),
        figure("tokens/s", "P10-P90"),
        figure("token efficiency"),
        words("limits"),
    )
    rows = (
        row(
            figure(str(number)),
            words(choice.name, kind_words(choice)),
            _spread(choice.total.cost_per_ttoken, each),
            _spread(choice.total.cost, whole),
            _spread(choice.total.days, time),
            figure(f"{choice.total.devices:,}"),
            _speed(choice.total.tokens_per_s),
            figure(f"{choice.total.token_efficiency:.3f}"),
            words("kept") if choice.meets_limits else words("broken", "; ".join(choice.broken_limits)),
            best=is_recommended(choice, plan),
        )
        for number, choice in enumerate(choices, first_number)
    )
    return table(headings, rows)


def bills_table(bills: Iterable[tuple[str, Mapping[str, float]]], unit: str, scale: Scale) -> str:
    """Show what each part of each bill costs, and its share."""
    headings = (words("choice"), words("for"), figure(f"{unit} in all"), figure("share"))
    rows = (
        row(words(name), words(part), figure(scale.write(cost)), figure(percent(cost / sum(parts.values()))))
        for name, parts in bills
        for part, cost in parts.items()
    )
    return table(headings, rows)


def layouts_table(choices: Iterable[Choice]) -> str:
    """Show the devices of each island of each choice, and how a replica lies on them."""
    headings = (words("island"), words("devices"), words("layout"), figure("sequences a step"))
    rows = (
        row(
            words(name, f"pool {island.pool}"),
            words(
                f"{island.devices:,} x {island.title or island.device}",
                ", ".join(filter(None, (island.device, island.vendor, island.torch_device))),
            ),
            words(str(island.layout)),
            figure(f"{island.batch_seqs:,}"),
        )
        for name, island in rows_of(choices)
    )
    return table(headings, rows)


def islands_table(choices: Iterable[Choice], currency: str) -> str:
    """Show what each island of each choice would do and cost."""
    rows = rows_of(choices)
    each = scale_of(island.cost_per_ttoken.p50 for _, island in rows)
    headings = (
        words("island"),
        words("speed is"),
        figure("tokens/s", "P10-P90"),
        figure("share of tokens", "goodput"),
        figure(f"{each.suffix} {currency} per 10¹² tokens", "P10-P90"),
        figure("cost in all", "P10-P90"),
        figure(f"{currency} per device and hour"),
        figure("MFU", "break-even"),
        figure("GiB of limit"),
        figure("link needs, Gbit/s"),
    )
    return table(headings, (_island_row(name, island, each, currency) for name, island in rows))


def _island_row(name: str, island: PlannedIsland, each: Scale, currency: str) -> str:
    cost = island.cost
    return row(
        words(name),
        tag(island.basis),
        _speed(island.tokens_per_s),
        figure(percent(island.share), percent(island.goodput_share)),
        _spread(island.cost_per_ttoken, each),
        figure(short_money(cost.p50, currency), f"{short_count(cost.p10)}-{short_count(cost.p90)}"),
        figure(f"{island.price_per_device_hour:g}", "example" if island.example_price else ""),
        figure(percent(island.mfu), break_even_line(island)),
        figure(memory_line(island)),
        _link(island),
    )


def _link(island: PlannedIsland) -> Cell:
    least, has = island.least_link_gbit_per_s, island.link_gbit_per_s
    if least is None and has is None:
        return figure("-")
    return figure("less latency" if least is None else gbit(least), "" if has is None else f"has {gbit(has)}")


def parts_table(choices: Iterable[Choice], kind: str, unit: str) -> str:
    """Show the parts of each island's step_s or mem_gib, and their total; parts of nothing everywhere are left out."""
    wholes: list[tuple[str, Mapping[str, float]]] = [(name, getattr(i, kind)) for name, i in rows_of(choices)]
    names = list(dict.fromkeys(part for _, parts in wholes for part, value in parts.items() if value))
    headings = (words("island"), *map(figure, names), figure(f"total, {unit}"))
    rows = []
    for name, parts in wholes:
        total = sum(parts.values())
        decimals = decimals_of(total)
        figures = [f"{parts[part]:,.{decimals}f}" if parts.get(part) else "-" for part in names]
        rows.append(row(words(name), *map(figure, figures), figure(f"{total:,.{decimals}f}")))
    return table(headings, rows)


def what_if_table(plan: Plan) -> str:
    """Show every change that was tried."""
    whole = scale_of([plan.total.cost.p50, *(w.cost for w in plan.what_if if w.cost is not None)])
    time = time_scale_of(w.days for w in plan.what_if if w.days is not None)
    headings = (
        words("what changes"),
        words("pool"),
        figure(f"{whole.suffix} {plan.currency} in all"),
        figure("bill"),
        figure(time.suffix),
        words("then best"),
    )
    rows = (
        row(
            words(w.change),
            words(w.pool),
            figure("-" if w.cost is None else whole.write(w.cost)),
            figure(change_line(w, plan.total.cost.p50)),
            figure("-" if w.days is None else time.write(w.days)),
            words(w.best),
        )
        for w in plan.what_if
    )
    return table(headings, rows)


def measure_table(plan: Plan) -> str:
    """Show the measurements that would narrow the interval of the cost."""
    headings = (words("command"), words("device"), figure("P90 / P10 now"), figure("then"))
    rows = (
        row(code(m.command), words(m.device), figure(f"{m.width_now:.2f}"), figure(f"{m.width_after:.2f}"))
        for m in plan.measure_next
    )
    return table(headings, rows)


def _spread(spread: Spread, scale: Scale) -> Cell:
    return figure(scale.write(spread.p50), f"{scale.write(spread.p10)}-{scale.write(spread.p90)}")


def _speed(tokens_per_s: Spread) -> Cell:
    low, high = short_count(tokens_per_s.p10), short_count(tokens_per_s.p90)
    return figure(short_count(tokens_per_s.p50), f"{low}-{high}")
