"""`everyflop predict`: predict the speed and memory of training configurations."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from everyflop.catalog.catalog import Catalog
    from everyflop.planner.predict.predictor import Predictor
    from everyflop.planner.rows.cells import Row

MOST_WARNINGS = 20

MeasuredFiles = Annotated[
    list[Path] | None,
    typer.Option("--measured", metavar="FILE.toml", help="What `everyflop measure` wrote; it sharpens predictions."),
]


def predict(
    rows: Annotated[Path, typer.Option("--rows", metavar="IN.csv", help="A table: one configuration in each line.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="OUT.csv", help="Where the predictions go.")] = None,
    measured: MeasuredFiles = None,
) -> None:
    """Predict tokens/s with its interval, step time, MFU and peak memory of every line of a table.

    everyflop predict --rows recipes/rows.csv
    everyflop predict --rows recipes/rows.csv --out predicted.csv
    everyflop predict --rows recipes/rows.csv --measured measured.toml
    """
    from everyflop.base.outputs import check_outputs
    from everyflop.cli.console import plain_console
    from everyflop.planner.predict.predict_rows import COLUMNS, predict_rows
    from everyflop.planner.rows.file import read_rows, write_rows

    check_outputs({"--out": out}, inputs=[rows, *(measured or ())])
    asked = read_rows(rows)
    predictions = predict_rows(asked, *known(measured or ()))
    console = plain_console(soft_wrap=True)
    _warn(asked)
    if out is None:
        console.print(_table(asked, predictions))
    else:
        write_rows(out, predictions, COLUMNS)
        console.print(f"{len(predictions)} predictions in {out}")


def _warn(asked: "Sequence[Row]") -> None:
    """Name the cells that count as blank because nobody can tell what they mean; an answer stands all the same."""
    from everyflop.planner.rows.cells import problems_of

    odd = [problem for line, row in enumerate(asked, 2) for problem in problems_of(row, line)]
    if odd:
        typer.echo(f"{len(odd)} cells cannot be understood and count as blank; `note` names them:", err=True)
    for problem in odd[:MOST_WARNINGS]:
        typer.echo(f"  - {problem}", err=True)
    if len(odd) > MOST_WARNINGS:
        typer.echo(f"  - and {len(odd) - MOST_WARNINGS} more", err=True)


def known(measured: Iterable[Path]) -> "tuple[Catalog, Predictor]":
    """Return the catalogue and the predictor, with a user's files of measurements added."""
    from everyflop.catalog.load import load_catalog
    from everyflop.planner.predict.doubts import doubts
    from everyflop.planner.predict.impossible import refuse_impossible
    from everyflop.planner.predict.predictor import load_predictor
    from everyflop.spec.measured_file import newest, read_measured

    catalog, speeds = load_catalog(), []
    for file in measured:
        found = read_measured(file, catalog=catalog)
        refuse_impossible(file, found, catalog)
        catalog = catalog.with_devices(found.devices)
        speeds += found.measured
    speeds = newest(speeds)
    for _, sentence in doubts(speeds, catalog):
        typer.echo(sentence, err=True)
    return catalog, load_predictor().with_measured(speeds, catalog)


def _table(rows: Sequence[Mapping[str, str]], predictions: Sequence[Mapping[str, str]]) -> "Table":
    from rich.table import Table

    table = Table("id", "model", "device", title="Predicted, for each device")
    for heading in ("tokens/s", "P10 to P90", "MFU %", "GiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("basis")
    for row, found in zip(rows, predictions, strict=True):
        interval = f"{float(found['tokens_per_s_p10']):,.0f} to {float(found['tokens_per_s_p90']):,.0f}"
        speed, memory = f"{float(found['tokens_per_s_per_device']):,.0f}", float(found["peak_mem_gib"])
        too_much = "" if found["fits"] == "yes" else ", too much"
        names = (found["id"], row.get("model", ""), row["accelerator"])
        table.add_row(*names, speed, interval, found["mfu_pct"], f"{memory:,.0f}{too_much}", found["basis"])
    return table
