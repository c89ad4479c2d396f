"""Where results go, looked at before the work starts: what cannot be written, and what would destroy what is read."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from everyflop.base.errors import InvalidFile, Problem


def check_outputs(outputs: Mapping[str, Path | None], *, inputs: Iterable[Path] = ()) -> None:
    """Raise InvalidFile, with every problem, where results cannot go where they are asked to.

    outputs are paths by the option that gives each; None is no output. inputs are files that the work reads.
    """
    paths = {option: path for option, path in outputs.items() if path is not None}
    if problems := [*_unwritable(paths), *_in_the_way(paths, [*inputs])]:
        raise InvalidFile("where results go", problems)


def _unwritable(paths: Mapping[str, Path]) -> Iterator[Problem]:
    for option, path in paths.items():
        folder = path.parent
        if path.is_dir():
            yield Problem(option, f"'{path}' is a folder", f"add the name of a file: {path / 'NAME'}")
        elif not folder.is_dir():
            yield Problem(option, f"there is no folder '{folder}'", "create it first, or choose another")
        elif not os.access(path if _is_special(path) else folder, os.W_OK):
            yield Problem(option, f"'{path}' may not be written", "choose a folder that you may write to")


def _in_the_way(paths: Mapping[str, Path], inputs: list[Path]) -> Iterator[Problem]:
    """Yield a problem for each output that is an input, or an earlier output: the later one would be all that is left.

    A device or a pipe takes any number of outputs and keeps nothing that could be destroyed.
    """
    earlier: dict[str, Path] = {}
    for option, path in paths.items():
        if _is_special(path):
            continue
        if any(read.exists() and _same(path, read) for read in inputs):
            yield Problem(option, f"'{path}' is read, and would be overwritten", "give another name")
        elif taken := next((other for other, one in earlier.items() if _same(path, one)), None):
            yield Problem(option, f"'{path}' is where {taken} goes already", "give each a name of its own")
        earlier[option] = path


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _same(path: Path, other: Path) -> bool:
    """Whether two names are of one file, be it through links."""
    if path.exists() and other.exists():
        return path.samefile(other)
    return os.path.realpath(path) == os.path.realpath(other)
