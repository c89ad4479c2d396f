"""`everyflop plan`: the cheapest way to train a model on what is on offer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from everyflop.cli.predict import MeasuredFiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from everyflop.spec.plan import Plan
    from everyflop.spec.workload import Precision


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
    seq_len: Annotated[int | None, typer.Option(min=1, help="Tokens of a sequence; by default 4096.")] = None,
    batch_tokens: Annotated[
        str | None, typer.Option(metavar="COUNT", help="Of a step; by default the MoE law's.")
    ] = None,
    precision: Annotated[Literal["bf16", "fp8"], typer.Option(help="Of the large matmuls.")] = "bf16",
    objective: Annotated[Literal["cost", "time"], typer.Option(help="What is to be lowest.")] = "cost",
    budget: Annotated[str | None, typer.Option(metavar="MONEY", help="For the whole run, such as 5M.")] = None,
    currency: Annotated[str | None, typer.Option(help="Of the budget and the plan, such as CNY.")] = None,
    deadline_days: Annotated[float | None, typer.Option(min=0, help="The run takes no longer.")] = None,
    max_supplier_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of the tokens, for devices of one supplier.")
    ] = None,
    max_devices: Annotated[int | None, typer.Option(min=1, help="In the whole plan.")] = None,
    max_islands: Annotated[int | None, typer.Option(min=1, help="In the whole plan; 1 mixes nothing.")] = None,
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
    read = [fleet, *(measured or ()), *([Path(model)] if model and model.endswith(".toml") else [])]
    _check_outputs(out, html, read)
    kept = _limits(budget, deadline_days, max_supplier_share, max_devices, max_islands)
    known = {"precision": precision, "currency": currency, "measured": measured or ()}
    if model is None:
        _refuse_a_size(budget, tokens, seq_len, batch_tokens, objective)
        _check_outputs(out, html, read, run_file=out.with_suffix(".toml"))
        made = _shaped(fleet, out, limits=kept, **known)
    else:
        made = _planned(fleet, out, model, tokens, seq_len, batch_tokens, objective, **kept, **known)
    _hand_out(made, out, html)


def _check_outputs(out: Path, html: Path | None, read: "list[Path]", *, run_file: Path | None = None) -> None:
    from everyflop.base.outputs import check_outputs

    check_outputs({"--out": out, "--html": html, "the run file beside --out": run_file}, inputs=read)


def _limits(
    budget: str | None, days: float | None, share: float | None, devices: int | None, islands: int | None
) -> dict[str, Any]:
    names = ("budget", "deadline_days", "max_supplier_share", "max_devices", "max_islands")
    return dict(zip(names, (_count("--budget", budget), days, share, devices, islands), strict=True))


def _refuse_a_size(budget: str | None, *sizes: object) -> None:
    """Refuse what a run without a named model cannot take, or lacks."""
    from everyflop.base.errors import UsageError

    if budget is None or any(size not in (None, "cost") for size in sizes):
        raise UsageError(
            "without --model, scaling laws choose it, the tokens and the batch for the lowest cost: give --budget, "
            "and neither --tokens, --seq-len, --batch-tokens nor --objective time. Or name a --model."
        )


def _planned(
    fleet: Path,
    out: Path,
    model: str,
    tokens: str | None,
    seq_len: int | None,
    batch_tokens: str | None,
    objective: Literal["cost", "time"],
    **given: Any,
) -> "Plan":
    from everyflop.planner.plan.plan import plan as make

    return make(
        fleet,
        model=model,
        tokens=_count("--tokens", tokens),
        seq_len=seq_len,
        batch_tokens=_count("--batch-tokens", batch_tokens),
        objective=objective,
        plan_file=str(out),
        **given,
    )


def _shaped(
    fleet: Path,
    out: Path,
    *,
    precision: "Precision",
    measured: "Sequence[Path]",
    currency: str | None,
    limits: "dict[str, float | int | None]",
) -> "Plan":
    """Choose what to train, write it as a run file beside the plan, print it, and return the plan."""
    from rich.console import Console

    from everyflop.base.files import write_atomic
    from everyflop.catalog.load import load_catalog
    from everyflop.planner.plan.plan import fleet_of, limits_of
    from everyflop.planner.shape.plan_shape import plan_shape
    from everyflop.planner.shape.shape_file import refuse_to_overwrite, run_text
    from everyflop.planner.shape.shape_page import shape_page

    catalog, run_file = load_catalog(), out.with_suffix(".toml")
    refuse_to_overwrite(run_file)
    known = fleet_of(fleet, catalog, measured=measured, currency=currency)
    kept = limits_of(**{**limits, "max_islands": limits["max_islands"] or known.islands.max_islands})
    made = plan_shape(
        known,
        kept.budget or 0,
        catalog=catalog,
        precision=precision,
        limits=kept,
        run_file=str(run_file),
        plan_file=str(out),
    )
    write_atomic(run_file, run_text(made.shape, name=out.stem))
    console = Console(highlight=False)
    console.print(shape_page(made))
    console.print(f"Wrote {run_file}, the run.\n", markup=False)
    return made.plan


def _hand_out(plan: "Plan", out: Path, html: Path | None) -> None:
    """Write plan.json and the report, and print the page."""
    from rich.console import Console

    from everyflop.base.files import write_atomic
    from everyflop.planner.show.html import html as report
    from everyflop.planner.show.page import page
    from everyflop.spec.plan_file import write_plan

    write_plan(out, plan)
    if html is not None:
        write_atomic(html, report(plan))
    console = Console(highlight=False)
    console.print(page(plan))
    console.print(f"\nWrote {out}" + (f" and {html}" if html else "") + ".", markup=False)


def _count(option: str, text: str | None) -> int | None:
    from everyflop.base.errors import UsageError
    from everyflop.base.units import parse_count

    try:
        return None if text is None else parse_count(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}.") from None
