"""What a plan says, in sentences and short figures: the words that the terminal page and the HTML report share."""

from collections.abc import Iterable

from everyflop.base.units import percent, short_count, short_money, time_scale_of
from everyflop.planner.show.names import devices_line
from everyflop.spec.layout import Layout
from everyflop.spec.plan import Basis, Choice, ExchangeAssumption, Limits, Plan, PlannedIsland, WhatIf

OBJECTIVES = {"cost": "lowest cost", "time": "shortest time"}

BASES: dict[Basis, str] = {
    "measured": "this chip was measured on nearly this workload",
    "fitted": "this chip was measured on other workloads",
    "prior": "of this chip only the specification is known",
}
"""What the tags mean, surest first."""

_SAME_BILL_SHARE = 0.0005
"""Bills that differ by less are written with the same figures."""


def workload_line(plan: Plan) -> str:
    """Say what is to be trained."""
    work = plan.workload
    tokens, batch = short_count(work.tokens), short_count(work.batch_tokens)
    return f"{tokens} tokens in steps of {batch}, sequences of {work.seq_len:,}, {work.precision}"


def limits_line(limits: Limits, currency: str) -> str:
    """Say what the user allows."""
    said = {
        short_money(limits.budget or 0, currency): limits.budget,
        f"{limits.deadline_days or 0:g} days": limits.deadline_days,
        f"{limits.max_devices or 0:,} devices": limits.max_devices,
        f"{percent(limits.max_supplier_share or 0)} of the tokens from one supplier": limits.max_supplier_share,
        "1 island" if limits.max_islands == 1 else f"{limits.max_islands} islands": limits.max_islands,
    }
    return "at most " + ", ".join(text for text, limit in said.items() if limit is not None)


def is_recommended(choice: Choice, plan: Plan) -> bool:
    """Say whether a choice is the recommended one; on the front, its name may stand for other numbers of devices."""
    return choice.name == plan.recommended and choice.total == plan.total


def keeps_limits(plan: Plan) -> bool:
    """Say whether the recommended choice keeps the limits."""
    return all(choice.meets_limits for choice in plan.alternatives if choice.name == plan.recommended)


def recommendation(plan: Plan) -> str:
    """Say in one sentence what to train on, and what that is predicted to cost and to take, from P10 to P90."""
    cost, days = plan.total.cost, plan.total.days
    advice = "Train on" if keeps_limits(plan) else "No choice keeps the limits; nearest comes"
    time = time_scale_of([days.p50])
    return (
        f"{advice} {plan.recommended}, {devices_line(plan.islands)}: "
        f"predicted to cost {short_money(cost.p50, plan.currency)} "
        f"({short_count(cost.p10)} to {short_count(cost.p90)}{price_note(plan.islands)}) "
        f"and to take {time.write(days.p50)} {time.suffix} ({time.write(days.p10)} to {time.write(days.p90)})."
    )


def price_note(islands: Iterable[PlannedIsland]) -> str:
    """Say so where a bill rests on a price that the fleet gives as an example."""
    return ", at example prices" if any(island.example_price for island in islands) else ""


def broken_lines(plan: Plan) -> list[str]:
    """Return, for each choice that breaks limits, which."""
    return [f"{c.name}: {'; '.join(c.broken_limits)}" for c in plan.alternatives if not c.meets_limits]


def example_lines(plan: Plan) -> list[str]:
    """Name the pools whose prices are examples; nothing where there are none."""
    pools = dict.fromkeys(i.pool for choice in plan.alternatives for i in choice.islands if i.example_price)
    return [f"example prices, not quotes: {', '.join(pools)}"] if pools else []


def chance_line(plan: Plan) -> str | None:
    """Say how probable it is that mixing pays; None where the limits leave nothing to choose between."""
    if plan.mix_cheaper_probability is None:
        return None
    chance = percent(plan.mix_cheaper_probability)
    return f"Probability that the best mix costs less than the best single pool: {chance} (predicted)."


def shown_choices(plan: Plan) -> list[Choice]:
    """Return the alternatives, and what of the front is not among them."""
    return [*plan.alternatives, *(choice for choice in plan.front if choice not in plan.alternatives)]


def basis_of(choice: Choice) -> Basis:
    """Return the least sure basis of a choice's islands."""
    order = list(BASES)
    return max((island.basis for island in choice.islands), key=order.index)


def kind_of(choice: Choice, plan: Plan) -> str:
    """Return how a choice is drawn: as the best, as out of the question, or plainly."""
    return "best" if is_recommended(choice, plan) else "" if choice.meets_limits else "out"


def memory_line(island: PlannedIsland) -> str:
    """Write the peak of the fullest device and its limit, both in GiB."""
    used, limit = sum(island.mem_gib.values()), island.mem_limit_gib
    decimals = 1 if limit >= 10 else 2
    return f"{used:.{decimals}f} of {limit:.{decimals}f}"


def break_even_line(island: PlannedIsland) -> str:
    """Write the MFU at which an island costs as much per token as the cheapest single pool, which has none itself."""
    return "-" if island.break_even_mfu is None else percent(island.break_even_mfu)


def yardstick(plan: Plan) -> str:
    """Name the cheapest pool alone, which break-even figures are measured against."""
    cheapest = next(
        (c for c in plan.alternatives if c.kind == "single" and all(i.break_even_mfu is None for i in c.islands)), None
    )
    if cheapest is None:
        return "the cheapest pool alone"
    broken = "" if cheapest.meets_limits else ", which breaks the limits"
    return f"the cheapest pool alone ({cheapest.islands[0].pool}{broken})"


def link_lines(choice: Choice) -> list[str]:
    """Say for each island that exchanges what its slowest link must carry at least, and what it does carry."""
    return [
        f"{island.name} in {choice.name} needs {_link_needed(island)}"
        for island in choice.islands
        if (island.link_gbit_per_s, island.least_link_gbit_per_s) != (None, None)
    ]


def _link_needed(island: PlannedIsland) -> str:
    least, has = island.least_link_gbit_per_s, island.link_gbit_per_s
    if least is None:
        return "less latency than its link has, whatever the Gbit/s"
    return f"{gbit(least)} Gbit/s" + ("" if has is None else f", has {gbit(has)}")


def gbit(speed: float) -> str:
    """Write Gbit/s with three digits, and without an exponent: "37", "1.83", "1,990"."""
    return f"{float(f'{speed:.3g}'):,g}"


def changes(plan: Plan) -> list[WhatIf]:
    """Return the what-ifs that change the bill, by how much, largest first; those that leave no plan come before."""
    now = plan.total.cost.p50
    moved = [w for w in plan.what_if if w.cost is None or not _same_bill(w.cost, now)]
    return sorted(moved, key=lambda w: (0.0, 0.0) if w.cost is None else (1.0, -abs(w.cost - now)))


def change_line(what_if: WhatIf, now: float) -> str:
    """Write how much a change moves the bill: "+34.0 %"."""
    if what_if.cost is None:
        return "no plan"
    if _same_bill(what_if.cost, now):
        return "same"
    return f"{(what_if.cost / now - 1) * 100:+.1f} %" if now else "more"


def _same_bill(cost: float, now: float) -> bool:
    return abs(cost - now) <= _SAME_BILL_SHARE * abs(now)


def exchange_lines(exchange: ExchangeAssumption) -> list[str]:
    """Say how islands are assumed to meet, and what that costs in learning."""
    lines = [f"Islands exchange {_what_they_exchange(exchange)}."]
    extra = [
        f"{percent(share)} with {count} islands" for count, share in exchange.extra_tokens_share.items() if count != "1"
    ]
    if extra:
        lines.append(f"Extra tokens for the same loss: {', '.join(extra)} ({exchange.source}).")
    return lines


def _what_they_exchange(exchange: ExchangeAssumption) -> str:
    n_bytes = exchange.bytes_per_parameter
    size = f"{n_bytes:g} {'byte' if n_bytes == 1 else 'bytes'} a parameter"
    if exchange.steps_between == 1:
        return f"gradients at every step, {size}"
    start = f" at every step of the first {percent(exchange.sync_share)}, and then" if exchange.sync_share else ""
    return f"{size}{start} every {exchange.steps_between:,} steps on average"


def launch_lines(plan: Plan) -> list[str]:
    """Say so where the launch command would be refused, or where it trains, and how islands start elsewhere."""
    if all(island.devices == 1 for island in plan.islands):
        return _where_islands_start(plan) if len(plan.islands) > 1 else []
    return [
        "An island of more than one device is not built yet, and `everyflop train` refuses this plan: it is for "
        "deciding what to get, and for another trainer."
    ]


def _where_islands_start(plan: Plan) -> list[str]:
    what = plan.launch.removeprefix("everyflop train ")
    return [
        "That starts all islands on the machine that it runs on. On several, with one secret file everywhere, start "
        f"`everyflop coordinator {what} --host 0.0.0.0 --secret key.txt` on one, and each island where its device is: "
        f"`everyflop train {what} --island {plan.islands[0].name} --coordinator HOST:7700 --secret key.txt`."
    ]


def short_layout(layout: Layout) -> str:
    """Write a layout for a narrow column: "tp2 pp8 ep8 dp4 zero1 full mb1"."""
    degrees = {name: getattr(layout, name) for name in ("tp", "pp", "vpp", "cp", "ep", "etp", "dp")}
    recompute = [] if layout.recompute == "none" else [layout.recompute]
    split = [f"{name}{degree}" for name, degree in degrees.items() if degree > 1]
    return " ".join([*split, layout.sharding, *recompute, f"mb{layout.micro_batch}"])
