"""`everyflop explain`: show where each millisecond and GiB of a prediction goes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from everyflop.cli.predict import MeasuredFiles

if TYPE_CHECKING:
    from everyflop.planner.predict.explain import Explanation


T = TypeVar("T")


def explain(
    source: Annotated[Path, typer.Argument(metavar="PLAN.json|ROWS.csv", help="A plan, or a table as predict takes.")],
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="An island of the plan, or an id of the table.")
    ] = None,
    measured: MeasuredFiles = None,
) -> None:
    """Take predictions apart: an optimizer step by component, and the fullest device's memory by component.

    everyflop explain plan.json
    everyflop explain recipes/rows.csv --only h100-ep8
    """
    from everyflop.base.units import short_count
    from everyflop.cli.console import plain_console
    from everyflop.planner.show.breakdown import breakdown

    console = plain_console()
    explanations = _explanations(source, only or [], measured or [])
    if not explanations:
        console.print(f"{source} has a header and no line below it: there is nothing to explain.", soft_wrap=True)
    for found in explanations:
        p10, p50, p90 = (short_count(speed) for speed in found.tokens_per_s)
        console.print(found.title, style="bold")
        console.print(f"predicted {p50} tokens/s (P10 {p10}, P90 {p90})\n")
        console.print(breakdown("An optimizer step", {n: 1000 * s for n, s in found.step_s.items()}, "ms"))
        console.print(
            breakdown(f"\nMemory of the fullest device, of {found.mem_limit_gib:.0f} GiB", found.mem_gib, "GiB")
        )
        for note in found.notes:
            console.print(f"assumed: {note}")
        console.print()


def _explanations(source: Path, only: list[str], measured: list[Path]) -> "list[Explanation]":
    from everyflop.base.errors import UsageError
    from everyflop.cli.predict import known
    from everyflop.planner.predict.explain import explain_island, explain_row
    from everyflop.planner.rows.file import read_rows
    from everyflop.spec.plan_file import read_plan

    ending = source.suffix.lower()
    if ending not in (".csv", ".json", ""):
        raise UsageError(
            f"{source} ends in {source.suffix}, and explain takes a plan, whose name ends in .json, or a table as "
            "`everyflop predict --rows` takes it, whose name ends in .csv. Name one of these."
        )
    if ending == ".csv":
        rows = [(row.get("id") or str(line), row) for line, row in enumerate(read_rows(source), 1)]
        catalog, predictor = known(measured)
        return [explain_row(row, catalog, predictor) for row in _wanted(source, rows, only)]
    islands = [(island.name, island) for island in read_plan(source).islands]
    return [explain_island(island) for island in _wanted(source, islands, only)]


def _wanted(source: Path, found: list[tuple[str, T]], only: list[str]) -> list[T]:
    from everyflop.base.errors import UsageError

    names = [name for name, _ in found]
    if unknown := [name for name in only if name not in names]:
        raise UsageError(f"{source} has no {', '.join(unknown)}: it has {', '.join(names[:20])}.")
    return [one for name, one in found if not only or name in only]
