"""The built-in corpus: the standard library of the running interpreter. Real text, nothing to download."""

import os
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from everyflop.base.errors import DataError

_LEFT_OUT = {
    "test", "tests", "idle_test",  # inputs and expectations, not prose or code that teaches
    "encodings", "idlelib", "lib2to3", "pydoc_data",  # tables, and programs hardly like the rest
    "site-packages", "dist-packages", "__pycache__",  # not the standard library
}  # fmt: skip
_SAME_SHARE = 0.8


def stdlib_root() -> Path:
    """Return the folder that holds the standard library."""
    return Path(sysconfig.get_path("stdlib"))


def stdlib_files(root: Path) -> list[Path]:
    """Return the *.py files of a standard library below `root`, sorted by name.

    Raises DataError when there are none.
    """
    names = sorted(_names_below(root))
    if not names:
        raise DataError(
            f"no *.py files of Python's standard library in {root}: this installation comes without its source. "
            "Give data.sources a path to text of your own."
        )
    return [root / name for name in names]


def _names_below(root: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]  # site-packages alone can hold thousands
        yield from (Path(parent, name).relative_to(root).as_posix() for name in names if name.endswith(".py"))


def module_of(name: str) -> str:
    """Return the top-level module that a file belongs to: "json/decoder.py" -> "json", "ast.py" -> "ast"."""
    return name.partition("/")[0].removesuffix(".py")


def near_duplicates(files: Sequence[Path]) -> set[Path]:
    """Return the files whose distinct lines are to 80 % or more found inside one earlier file that is kept.

    Blank lines and indentation do not count. Memory grows with the number of distinct lines.
    """
    kept_with: defaultdict[int, list[int]] = defaultdict(list)  # line -> numbers of the kept files that have it
    dropped: set[Path] = set()
    for number, file in enumerate(files):
        lines = set(_lines(file))
        known = [line for line in lines if line in kept_with]
        if lines and len(known) >= _SAME_SHARE * len(lines):
            shared = Counter(other for line in known for other in kept_with[line])
            if max(shared.values()) >= _SAME_SHARE * len(lines):
                dropped.add(file)
                continue
        for line in lines:
            kept_with[line].append(number)
    return dropped


def _lines(file: Path) -> Iterator[int]:
    # Python's hash of bytes differs from process to process; equality, all that counts here, does not.
    return (hash(line) for raw in file.read_bytes().splitlines() if (line := raw.strip()))
