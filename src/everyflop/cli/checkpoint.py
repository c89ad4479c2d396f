"""`everyflop checkpoint`: check, list and merge checkpoints."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from everyflop.checkpoint.read import Checkpoint

app = typer.Typer(
    no_args_is_help=True,
    help="List, check and merge checkpoints.\n\neveryflop checkpoint list runs/tiny",
)

_Where = Annotated[
    Path, typer.Argument(metavar="CKPT", help="A run directory, its checkpoints folder, or one step folder.")
]


class Method(StrEnum):
    """The learning-rate decay that a merge stands in for; "mean" is a linear one."""

    one_minus_sqrt = "one-minus-sqrt"
    mean = "mean"


@app.command()
def verify(path: _Where) -> None:
    """Read every byte of checkpoints and compare with their checksums; exit 3 if one is damaged.

    everyflop checkpoint verify runs/tiny
    everyflop checkpoint verify runs/tiny/checkpoints/step-00000100
    """
    from everyflop.base.errors import DamagedFile
    from everyflop.base.progress import progress
    from everyflop.checkpoint.folder import find_all
    from everyflop.checkpoint.manifest import verify as problems_of

    found = {checkpoint: problems_of(checkpoint, progress=progress) for checkpoint in find_all(path)}
    for checkpoint, problems in found.items():
        typer.echo(f"{checkpoint}: {'; '.join(problems) or 'good'}")
    if damaged := [checkpoint.name for checkpoint, problems in found.items() if problems]:
        raise DamagedFile(
            f"{len(damaged)} of {len(found)} damaged: {', '.join(damaged)}. "
            "`everyflop train --resume` skips damaged ones and says so."
        )


@app.command("list")
def list_(path: _Where) -> None:
    """Show the checkpoints of a run, oldest first, each checked in full.

    everyflop checkpoint list runs/tiny
    """
    from rich.table import Table

    from everyflop.base.errors import DamagedFile
    from everyflop.base.progress import progress
    from everyflop.checkpoint.folder import find_all
    from everyflop.checkpoint.read import open_checkpoint
    from everyflop.cli.console import plain_console

    table = Table("checkpoint", "step", "tokens", "size", "saved", "good?")
    for checkpoint in find_all(path):
        try:
            table.add_row(checkpoint.name, *_facts(open_checkpoint(checkpoint, progress=progress)), "yes")
        except DamagedFile as error:
            table.add_row(checkpoint.name, "", "", "", "", f"no: {error}")
    plain_console().print(table)


@app.command()
def merge(
    sources: Annotated[
        list[Path], typer.Argument(metavar="CKPT", help="A run directory, or two and more step folders.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; it must not exist yet.")],
    last: Annotated[int | None, typer.Option(min=2, help="Merge only the newest this many.")] = None,
    method: Annotated[Method, typer.Option(help="The decay that the merge stands in for.")] = Method.one_minus_sqrt,
) -> None:
    """Merge checkpoints of a run with a constant learning rate into the weights that a decay would have given.

    everyflop checkpoint merge runs/tiny merged --last 12
    everyflop checkpoint merge runs/tiny averaged --method mean
    """
    from everyflop.base.errors import UsageError
    from everyflop.base.progress import progress
    from everyflop.checkpoint.folder import find, find_all
    from everyflop.checkpoint.manifest import read_manifest
    from everyflop.checkpoint.merging import merge as merge_checkpoints
    from everyflop.optim.merge import merge_weights

    paths = find_all(sources[0]) if len(sources) == 1 else [find(source) for source in sources]
    if twice := [path for path in paths if [other.resolve() for other in paths].count(path.resolve()) > 1]:
        raise UsageError(f"{twice[0]} is given twice. Name each checkpoint once.")
    steps = {path: read_manifest(path).step for path in paths}
    oldest_first = sorted(steps, key=lambda path: steps[path])[-(last or len(steps)) :]
    if len(oldest_first) < (last or 2):
        found = "1 checkpoint is" if len(oldest_first) == 1 else f"{len(oldest_first)} checkpoints are"
        raise UsageError(
            f"{found} too few to merge {last or 'at least 2'}. "
            "Save more of them: checkpoint.every_steps and checkpoint.keep in the run file."
        )
    weights = merge_weights(len(oldest_first), method=method.value)
    merge_checkpoints(oldest_first, out, weights=weights, progress=progress)
    for path, weight in zip(oldest_first, weights, strict=True):
        typer.echo(f"{weight:.4f} of {path}")
    typer.echo(f"merged into {out}")


def _facts(checkpoint: "Checkpoint") -> list[str]:
    """Return a checkpoint's step, tokens, size and time of saving, as a table shows them."""
    from datetime import datetime

    from everyflop.base.units import GIB, short_count
    from everyflop.checkpoint.manifest import MANIFEST_NAME

    tokens = checkpoint.state.get("tokens")
    saved = datetime.fromtimestamp((checkpoint.path / MANIFEST_NAME).stat().st_mtime)
    return [
        str(checkpoint.step),
        "?" if tokens is None else short_count(tokens),
        f"{sum(info.size_bytes for info in checkpoint.files.values()) / GIB:.3f} GiB",
        f"{saved:%Y-%m-%d %H:%M:%S}",
    ]
