"""The report of a run: one HTML page with pictures and tables that needs no other file and no script.

report.py has the figures, report_pictures.py the pictures, report_html.py the pieces of a page.
"""

from collections.abc import Callable
from html import escape

from everyflop.base.units import SECONDS_PER_HOUR, money, percent, short_count, short_time
from everyflop.spec.run import RunSpec
from everyflop.train.predicted import comparison_rows, doubt
from everyflop.train.report import IslandSums, Report
from everyflop.train.report_against import Comparison, against_section
from everyflop.train.report_html import document, paragraph, picture, section, table, tiles
from everyflop.train.report_pictures import Pictures, bytes_unit

MOST_DECISIONS = 100
"""Of the guards, on the page; all are in the run directory."""


def report_page(report: Report, pictures: Pictures, against: Comparison | None = None) -> str:
    """Return the whole page; with a comparison, that at its end."""
    parts = [part(report, pictures) for part in _PARTS]
    return document(f"Run {report.run.run.name}", [*parts, *([against_section(against)] if against else [])])


def _answer(report: Report, pictures: Pictures) -> str:
    summary, files = report.files.summary, report.files
    if summary:
        state = "Finished."
    elif report.commits:
        state = f"Under way: this is how it stood after round {report.commits[-1].round}, step {files.steps}."
    else:
        state = f"Under way: this is how it stood after step {files.steps}." if files.steps else "Just begun."
    return "\n".join([paragraph(f"{state} {_origin(report)}", "soft"), tiles(_tiles(report))])


def _origin(report: Report) -> str:
    """Say what kind of numbers these are."""
    if not report.simulated:
        return "All figures are measured; what is predicted says so."
    names = ", ".join(report.simulated)
    stands = "stands in for another device" if len(report.simulated) == 1 else "stand in for other devices"
    return (
        f"{names} {stands} by waiting or by other sums (slowdown, link or numerics in the run file): time, speed and "
        "money there are simulated, and so is what sums over all islands. Loss and bytes are measured."
    )


def _tiles(report: Report) -> list[tuple[str, str, str]]:
    files, currency = report.files, report.run.money.currency
    kind = "a part simulated" if report.simulated else "measured"
    entries: list[tuple[str, str, str]] = []
    if files.summary:
        for name, result in files.summary["validation"].items():
            below = f"loss {result['loss']:.4f} nats a token, measured"
            entries.append((f"validation, {name}", f"{result['bits_per_byte']:.4f} bits a byte", below))
    of = f"of {short_count(report.run.train.tokens)}, in {files.steps:,} steps"
    entries.append(("tokens", short_count(files.tokens), of))
    speed = f"{short_count(files.tokens / report.seconds)} tokens/s over all of it" if report.seconds else ""
    entries.append(("time with a device", short_time(report.seconds), f"{speed}, {kind}" if speed else kind))
    prices = "at example prices, " if report.run.money.example else ""
    paid = "no price given" if report.cost is None else money(report.cost, currency)
    entries.append(("cost", paid, "" if report.cost is None else f"{prices}{kind}"))
    return entries


def _facts(report: Report, pictures: Pictures) -> str:
    run, files, summary = report.run, report.files, report.files.summary
    rows = [("model", _model(report)), ("tokens", f"{files.tokens:,} of {run.train.tokens:,}")]
    rows.append(("steps", f"{files.steps:,}"))
    if run.island:
        names = (f"{i.name} ({_devices(i)})" for i in report.islands)
        synchronous = sum(record["exchange"] == "gradients" for record in files.rounds)
        rows += [
            ("islands", ", ".join(names)),
            ("rounds", f"{len(files.rounds):,}: {synchronous:,} exchanged gradients, the others weights"),
            ("exchange", _exchange(run)),
        ]
    kind = "measured" if not report.simulated else "simulated where an island is"
    rows.append(("time with a device", f"{short_time(report.seconds)} ({report.seconds:,.1f} s, {kind})"))
    if report.waiting_share is not None:
        why = "exchange, waiting for others, " if run.island else ""
        what = f"{percent(report.waiting_share)} ({why}saving, validation, steps done again; {kind})"
        rows.append(("time held and not training", what))
    if summary:
        rows += [("device", f"{summary['device']}, {summary['precision']}"), *_weights(summary)]
    return section("Facts", table(("what", ""), rows, words=(0, 1)))


def _weights(summary: dict[str, str]) -> list[tuple[str, str]]:
    return [("hash of the weights", summary["weights_sha256"])] if "weights_sha256" in summary else []


def _exchange(run: RunSpec) -> str:
    """Say when the islands meet, as the run file has it, and what they exchange then."""
    how = run.islands
    gradients = f"gradients at every step as {how.compress}"
    if how.steps == 1:
        return gradients
    if how.steps == "auto":
        every = "as often as pays"
    else:
        by_time = how.rounds == "clock" and how.round_s is not None
        every = f"every {how.round_s:g} s" if by_time else f"every {how.steps} steps on average"
    weights = f"weights {every} as {how.compress}, rounds by the {how.rounds.replace('steps', 'step')}"
    first = f"{gradients} over the first {percent(how.sync_share)} of the tokens, then "
    return first + weights if how.sync_share else weights


def _model(report: Report) -> str:
    model, n = report.run.model, report.parameters
    size = f"{short_count(n)} parameters" if n is not None else f"weights of {report.run.init_from}"
    if model is None:
        return size
    experts = f", {model.n_experts} experts, {model.experts_per_token} chosen a token" if model.n_experts else ""
    return f"{model.family}, {size}, {model.n_layers} layers{experts}"


def _devices(island: IslandSums) -> str:
    devices = "1 device" if island.devices == 1 else f"{island.devices:,} devices"
    return f"{devices}, simulated" if island.simulated else devices


def _loss(report: Report, pictures: Pictures) -> str:
    caption = "Loss is measured. The black line is the mean of neighbouring steps, weighted by their tokens."
    if report.run.island:
        caption += (
            " Time is that in which at least one island was connected; the steps of a round are spread evenly over it."
        )
    return section("Loss", picture(pictures["loss"], "loss against tokens, time and money", caption))


def _speed(report: Report, pictures: Pictures) -> str:
    caption = "A dot is a step, a line the mean of neighbouring ones. Black: tokens over all the time with a device."
    caption += f" Simulated: {', '.join(report.simulated)}." if report.simulated else " Measured."
    return section("Speed", picture(pictures["speed"], "tokens per second over time", caption))


def _timeline(report: Report, pictures: Pictures) -> str:
    if report.run.island:
        caption = (
            "For each round a commit says how long an island trained and how long it was held; training is drawn at "
            "the round's beginning, or at its end where the island joined in it. White: not connected, or work that "
            "was lost."
        )
    else:
        caption = "Each step at its time. White: no process trained, or its steps were lost and done again."
    caption += " Where what happened is shorter than a dot, the heights of the colours are their shares."
    return section("Time line", picture(pictures["timeline"], "what each island did and when", caption))


def _traffic(report: Report, pictures: Pictures) -> str:
    if not report.run.island:
        return section("Traffic", paragraph("A run without islands exchanges nothing."))
    n, m, steps = report.parameters, len(report.islands), report.files.steps
    exact = report.all_reduce_bytes
    rows = [
        (
            _name(i),
            _bytes(i.account.sent_bytes),
            _bytes(i.account.received_bytes),
            _bytes(exact),
            _times(exact, i.account.sent_bytes),
        )
        for i in report.islands
    ]
    headings = ("island", "sent", "received", "sent by all-reduce", "all-reduce over sent")
    formula = "" if n is None or exact is None else (
        "An fp32 all-reduce of the gradients at every step would have sent, from each island, parameters x 4 bytes x "
        f"2 (M-1)/M x steps = {n:,} x 4 x 2 x {m - 1}/{m} x {steps:,} = {_bytes(exact)} (computed, M islands)."
    )  # fmt: skip
    counted = "Counted is all that travels: updates, signs of life, and the state that an island gets when it joins."
    return section(
        "Traffic",
        picture(pictures["traffic"], "bytes sent and received by island", f"Measured. {counted}"),
        paragraph(formula),
        table(headings, rows),
    )


def _guards(report: Report, pictures: Pictures) -> str:
    title, decisions = "What the guards decided", report.decisions
    if not decisions:
        return section(title, paragraph("Nothing was rejected, clipped or skipped."))
    rows = [(one.where, one.island, one.verdict, one.why) for one in decisions[:MOST_DECISIONS]]
    left = len(decisions) - len(rows)
    more = f"And {left:,} more, in rounds.jsonl, metrics.jsonl and events.jsonl." if left else ""
    headings = ("where", "island", "verdict", "why")
    return section(title, table(headings, rows, words=(0, 1, 2, 3)), paragraph(more, "soft"))


def _bill(report: Report, pictures: Pictures) -> str:
    tokens, cost = sum(i.account.tokens for i in report.islands), report.cost
    rows = [_bill_row(island, report, tokens, cost) for island in report.islands]
    if len(rows) > 1:
        held_h = sum(i.account.held_s * i.devices for i in report.islands) / SECONDS_PER_HOUR
        paid = "" if cost is None else money(cost, report.run.money.currency)
        rows.append(("all", "", f"{held_h:.3g}", _share(report.waiting_share), paid, "", f"{tokens:,}", "", "", ""))
    headings = (
        *("island", "price of a device-hour", "device-hours held", "of them not training", "cost", "of the money"),
        *("tokens", "of the tokens", "joined, times", "rejected updates"),
    )
    said = "Cost is time held times price, training or not." if cost is not None else "No price is given for some."
    said += " Prices are examples." if report.run.money.example else ""
    said += " What says simulated has its hours, and so its cost, from an island that waits." * bool(report.simulated)
    return section("The bill", table(headings, rows), paragraph(said))


def _bill_row(island: IslandSums, report: Report, tokens: int, cost: float | None) -> tuple[str, ...]:
    price, currency = island.price_per_device_hour, report.run.money.currency
    example = " (example)" if report.run.money.example else ""
    paid = "" if island.cost is None else money(island.cost, currency)
    return (
        _name(island),
        "none" if price is None else f"{price:g} {currency}{example}",
        f"{island.account.held_s * island.devices / SECONDS_PER_HOUR:.3g}",
        _share(island.waiting_share),
        paid,
        _share(island.cost / cost if cost and island.cost is not None else None),
        f"{island.account.tokens:,}",
        _share(island.account.tokens / tokens if tokens else None),
        f"{island.account.joins:,}" if report.run.island else "",
        f"{island.account.rejected:,}" if report.run.island else "",
    )


def _plan(report: Report, pictures: Pictures) -> str:
    if report.plan is None:
        return ""
    so_far = "" if report.files.summary else "So far; the run is under way."
    headings = ("what", "predicted (P10 to P90)", "measured", "measured / predicted")
    but = f"But {doubt(report.plan)}." if doubt(report.plan) else ""
    choice = f"The plan's choice: {report.plan['choice']}." if "choice" in report.plan else ""
    return section(
        "Plan and run",
        paragraph(" ".join(filter(None, (choice, so_far, but)))),
        table(headings, comparison_rows(report.plan), words=(0, 1)),
    )


def _sample(report: Report, pictures: Pictures) -> str:
    if not report.files.summary:
        return ""
    given, text = (escape(str(report.files.summary["sample"].get(key, ""))) for key in ("prompt", "text"))
    return section("Generated text", f"<pre>{given}<b>{text}</b></pre>", paragraph("The prompt is held-out text."))


def _name(island: IslandSums) -> str:
    return f"{island.name} (simulated)" if island.simulated else island.name


def _share(share: float | None) -> str:
    return "" if share is None else percent(share)


def _bytes(n_bytes: float | None) -> str:
    if n_bytes is None:
        return "unknown"
    size, unit = bytes_unit(n_bytes)
    return f"{n_bytes / size:,.3g} {unit}" if n_bytes < 1000 * size else f"{n_bytes / size:,.0f} {unit}"


def _times(exact: float | None, sent: int) -> str:
    return f"{exact / sent:.2f}" if exact and sent else ""


_PARTS: tuple[Callable[[Report, Pictures], str], ...] = (
    *(_answer, _facts, _loss, _speed, _timeline, _traffic, _guards, _bill, _plan, _sample),
)
