"""Where a command may write: never over a file that it reads, and never twice to one."""

from pathlib import Path

from everyflop.base.errors import UsageError


def refuse_to_overwrite(out: Path, *read: Path, option: str = "--out") -> None:
    """Raise UsageError where `out` is one of the files that the same command reads or writes."""
    if any(out.resolve() == path.resolve() for path in read):
        raise UsageError(f"{option} {out} would overwrite a file that this command needs. Choose another name.")
