"""`everyflop plan`: the cheapest way to train a model on what is on offer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from everyflop.cli.predict import MeasuredFiles

if TYPE_CHECKING:
    from everyflop.planner.plan.request import Request
    from everyflop.spec.plan import Plan


def plan(
    fleet: Annotated[
        Path, typer.Argument(metavar="FLEET.toml", help="What is on offer; recipes/fleets/ has examples.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="NAME|RUN.toml", help="A published model, or a run file; without, a budget's best."
        ),
    ] = None,
    tokens: Annotated[str | None, typer.Option(metavar="COUNT", help="To train on, such as 1T.")] = None,
    seq_len: Annotated[
        int | None, typer.Option(help="Tokens of a sequence; by default the run file's, else 4096.")
    ] = None,
    batch_tokens: Annotated[
        str | None, typer.Option(metavar="COUNT", help="Of a step; by default the run file's, else the MoE law's.")
    ] = None,
    precision: Annotated[Literal["bf16", "fp8"], typer.Option(help="Of the large matmuls.")] = "bf16",
    objective: Annotated[Literal["cost", "time"], typer.Option(help="What is to be lowest.")] = "cost",
    budget: Annotated[str | None, typer.Option(metavar="MONEY", help="For the whole run, such as 5M.")] = None,
    currency: Annotated[str | None, typer.Option(help="Of the budget and the plan, such as CNY.")] = None,
    deadline_days: Annotated[float | None, typer.Option(help="The run takes no longer.")] = None,
    max_supplier_share: Annotated[
        float | None, typer.Option(help="Of the tokens, for devices of one supplier.")
    ] = None,
    max_devices: Annotated[int | None, typer.Option(help="In the whole plan.")] = None,
    max_islands: Annotated[int | None, typer.Option(help="In the whole plan; 1 mixes nothing.")] = None,
    measured: MeasuredFiles = None,
    out: Annotated[Path, typer.Option(metavar="PLAN.json", help="Where the plan goes.")] = Path("plan.json"),
    html: Annotated[Path | None, typer.Option(metavar="PLAN.html", help="Where a report with pictures goes.")] = None,
) -> None:
    """Find the cheapest way to train a model: which pools, how many devices, in which layout, and how sure that is.

    everyflop plan recipes/fleets/ling_table.toml --model ling-plus --tokens 1T
    everyflop plan recipes/fleets/ling_table.toml --model ling-lite --budget 5M
    everyflop plan recipes/fleets/ling_table.toml --model ling-lite --html p.html
    everyflop plan recipes/fleets/ling_table.toml --budget 5M --currency CNY
    """
    from everyflop.planner.plan.request import request_of

    asked = request_of(
        spelled=_option,
        fleet=fleet,
        model=model,
        tokens=tokens,
        seq_len=seq_len,
        batch_tokens=batch_tokens,
        precision=precision,
        objective=objective,
        budget=budget,
        currency=currency,
        deadline_days=deadline_days,
        max_supplier_share=max_supplier_share,
        max_devices=max_devices,
        max_islands=max_islands,
        measured=measured or (),
        plan_file=out,
    )
    _make(asked, out, html)


def _option(name: str) -> str:
    """Return how the command line writes a name of a request."""
    return "FLEET.toml" if name == "fleet" else f"--{name.replace('_', '-')}"


def _make(asked: "Request", out: Path, html: Path | None) -> None:
    from everyflop.planner.plan.plan import answer

    _check_outputs(asked, out, html)
    if asked.model is None:
        _refuse_a_size(asked)
        _check_outputs(asked, out, html, run_file=out.with_suffix(".toml"))
        made = _shaped(asked, out)
    else:
        made = answer(asked)
    _hand_out(made, out, html)


def _check_outputs(asked: "Request", out: Path, html: Path | None, *, run_file: Path | None = None) -> None:
    from everyflop.base.outputs import check_outputs

    read = [*asked.measured, *(Path(file) for file in (asked.fleet, asked.model) if isinstance(file, str | Path))]
    check_outputs({"--out": out, "--html": html, "the run file beside --out": run_file}, inputs=read)


def _refuse_a_size(asked: "Request") -> None:
    """Refuse what a run without a named model cannot take, or lacks."""
    from everyflop.base.errors import UsageError

    if asked.budget is None or asked.tokens or asked.seq_len or asked.batch_tokens or asked.objective != "cost":
        raise UsageError(
            "without --model, scaling laws choose it, the tokens and the batch for the lowest cost: give --budget, "
            "and neither --tokens, --seq-len, --batch-tokens nor --objective time. Or name a --model."
        )


def _shaped(asked: "Request", out: Path) -> "Plan":
    """Choose what to train, write it as a run file beside the plan, print it, and return the plan."""
    from everyflop.base.files import write_atomic
    from everyflop.catalog.load import load_catalog
    from everyflop.cli.console import plain_console
    from everyflop.planner.plan.plan import fleet_of
    from everyflop.planner.shape.plan_shape import plan_shape
    from everyflop.planner.shape.shape_file import refuse_to_overwrite, run_text
    from everyflop.planner.shape.shape_page import shape_page

    catalog, run_file = load_catalog(), out.with_suffix(".toml")
    refuse_to_overwrite(run_file)
    fleet = fleet_of(asked, catalog)
    made = plan_shape(
        fleet,
        asked.budget or 0,
        catalog=catalog,
        precision=asked.precision,
        limits=asked.limits(fleet),
        run_file=str(run_file),
        plan_file=str(out),
    )
    write_atomic(run_file, run_text(made.shape, name=out.stem))
    console = plain_console()
    console.print(shape_page(made))
    console.print(f"Wrote {run_file}, the run.\n")
    return made.plan


def _hand_out(plan: "Plan", out: Path, html: Path | None) -> None:
    """Write plan.json and the report, and print the page."""
    from everyflop.base.files import write_atomic
    from everyflop.cli.console import plain_console
    from everyflop.planner.show.html import html as report
    from everyflop.planner.show.page import page
    from everyflop.spec.plan_file import write_plan

    write_plan(out, plan)
    if html is not None:
        write_atomic(html, report(plan))
    console = plain_console()
    console.print(page(plan))
    console.print(f"\nWrote {out}" + (f" and {html}" if html else "") + ".")
