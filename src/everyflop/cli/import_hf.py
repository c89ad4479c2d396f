"""`everyflop import`: turn a Hugging Face folder into a checkpoint."""

from pathlib import Path
from typing import Annotated

import typer


def import_hf(
    hf_dir: Annotated[Path, typer.Argument(metavar="HF_DIR", help="A folder with config.json and safetensors files.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The checkpoint folder to write; it must not exist yet.")],
) -> None:
    """Turn a Hugging Face model into a checkpoint that training can start from.

    everyflop import Ling-mini-base-2.0 ling-mini
    """
    from everyflop.base.progress import progress
    from everyflop.base.units import short_count
    from everyflop.export.import_hf import import_hf as convert

    done = convert(hf_dir, out, progress=progress)
    typer.echo(
        f"{done.spec.family}: {short_count(done.parameters)} parameters in {done.tensors} tensors, "
        f"{done.dtype}, written to {done.path}"
    )
    typer.echo(
        f'Train from it with [model] init_from = "{done.path}", or export it again: everyflop export {done.path} OUT'
    )
