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

    try:
        if path.exists():
            raise UsageError(f"{path} exists already. Choose another name, or remove it first.")
        if path.parent.is_file():
            raise UsageError(f"{path.parent} is a file, and a folder is needed to write into.")
        if not path.parent.is_dir():
            raise UsageError(f"the folder {path.parent} does not exist. Create it first.")
        write_atomic(path, files("everyflop.cli").joinpath("init.toml").read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}. Choose another name or folder.") from None
    print(f"Wrote {path}. Train it with: everyflop train {path}")
