"""`everyflop init`: write a commented run file."""

from pathlib import Path
from typing import Annotated

import typer


def init(
    path: Annotated[Path, typer.Argument(metavar="RUN.toml", help="The file to write.")] = Path("run.toml"),
) -> None:
    """Write a commented run file to start from. It trains as it is; an existing file is left alone.

    everyflop init my_run.toml
    everyflop train my_run.toml
    """
    from importlib.resources import files

    from everyflop.base.errors import UsageError
    from everyflop.base.files import write_atomic

    if path.exists():
        raise UsageError(f"{path} exists already. Choose another name, or remove it first.")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist. Create it first.")
    write_atomic(path, files("everyflop.cli").joinpath("init.toml").read_bytes())
    print(f"Wrote {path}. Train it with: everyflop train {path}")
