"""Where a command may write: looked at before the work, so that no result is lost, and nothing that the work needs."""

from pathlib import Path

from everyflop.base.errors import UsageError
from everyflop.base.files import try_to_write


def check_output(out: Path, *read: Path, option: str = "--out") -> None:
    """Raise UsageError where `out` cannot be written, or is one of the files that the same command reads or writes."""
    if any(out.resolve() == path.resolve() for path in read):
        raise UsageError(f"{option} {out} would overwrite a file that this command needs. Choose another name.")
    if why := _why_not(out):
        raise UsageError(f"{option} {out} cannot be written: {why}. Choose another name or folder.")


def _why_not(out: Path) -> str:
    """Return what keeps a file from being written; nothing where it can be."""
    try:
        if out.exists() and not out.is_file():
            return "it is a folder" if out.is_dir() else "it is no ordinary file"
        if not out.parent.exists():
            return f"the folder {out.parent} does not exist"
        try_to_write(out)
    except OSError as error:
        return error.strerror or str(error)
    return ""
