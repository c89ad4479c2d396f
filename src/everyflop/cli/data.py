"""`everyflop data`: prepare text for training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from everyflop.data.prepared import Prepared

app = typer.Typer(no_args_is_help=True, help="Prepare text for training.\n\neveryflop data prepare run.toml")


@app.callback()  # without it typer would make the only command the whole app
def _data() -> None:
    pass


@app.command()
def prepare(
    run_file: Annotated[Path, typer.Argument(metavar="RUN.toml", help="The run whose text to prepare.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="section.key=value", help="Such as data.vocab_size=8192")
    ] = None,
) -> None:
    """Read the sources, train or load the tokenizer, and write packed shards. Data prepared before is found again.

    everyflop data prepare run.toml
    everyflop data prepare run.toml data.held_out_share=0.02
    """
    from everyflop.base.progress import progress
    from everyflop.cli.console import plain_console
    from everyflop.data.prepare import prepare as prepare_data
    from everyflop.spec.read import read_run

    prepared = prepare_data(read_run(run_file, overrides or ()), progress=progress)
    console = plain_console()
    console.print(_table(prepared))
    console.print(f"Prepared in {prepared.folder}", soft_wrap=True)


def _table(prepared: "Prepared") -> "Table":
    from rich.table import Table

    table = Table("use", "source", title=f"Tokenizer of {prepared.vocab_size:,} tokens")
    for heading in ("documents", "tokens", "windows", "bytes/token"):
        table.add_column(heading, justify="right")
    table.add_column("skipped")
    for name, entry in prepared.manifest["train"].items():
        table.add_row("training", name, *_cells(entry))
    for set_name, entries in prepared.manifest["validation"].items():
        for name, entry in entries.items():
            table.add_row(f"validation: {set_name}", name, *_cells(entry))
    return table


def _cells(entry: dict[str, Any]) -> list[str]:
    counts = [f"{entry[key]:,}" for key in ("documents", "tokens", "windows")]
    skipped = ", ".join(f"{count:,} {reason}" for reason, count in entry["skipped"].items())
    return [*counts, f"{entry['text_bytes'] / entry['tokens']:.2f}", skipped or "none"]
