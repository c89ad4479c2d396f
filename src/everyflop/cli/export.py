"""`everyflop export`: turn a checkpoint into a Hugging Face folder."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Dtype(StrEnum):
    """Types that weights can be written in."""

    bf16 = "bf16"
    fp32 = "fp32"


def export(
    ckpt: Annotated[
        Path, typer.Argument(metavar="CKPT", help="A run directory, its checkpoints folder, or one checkpoint.")
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="The Hugging Face folder to write; it must not exist yet.")
    ],
    dtype: Annotated[
        Dtype | None,
        typer.Option(help="Type of the weights; by default as trained, or as imported if they are unchanged."),
    ] = None,
) -> None:
    """Write a model as a Hugging Face folder, which transformers and others load, with its tokenizer.

    everyflop export runs/tiny tiny-hf --dtype bf16
    """
    import torch

    from everyflop.base.progress import progress
    from everyflop.base.units import short_count
    from everyflop.export.export_hf import export_checkpoint

    torch_dtype = {None: None, Dtype.bf16: torch.bfloat16, Dtype.fp32: torch.float32}[dtype]
    done = export_checkpoint(ckpt, out, dtype=torch_dtype, progress=progress)
    typer.echo(
        f"{done.spec.family}: {short_count(done.parameters)} parameters in {done.tensors} tensors, "
        f"{done.dtype}, written to {done.path}"
    )
