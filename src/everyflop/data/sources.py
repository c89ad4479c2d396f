"""Find the files behind each source of a run and hash them, with every problem of every source named at once."""

import contextlib
import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from everyflop.base.errors import DataError
from everyflop.base.progress import Bar, OpenProgress
from everyflop.data.hashes import FileHashes
from everyflop.data.stdlib import module_of, near_duplicates, stdlib_files, stdlib_root
from everyflop.spec.data import PYTHON_STDLIB, SourceSpec


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source. Its name is relative to the source, so that moving a corpus changes nothing."""

    path: Path
    name: str
    group: str
    """What is held out as a whole: the file, or the module that it belongs to."""
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Source:
    """A corpus with its files found."""

    name: str
    text_key: str
    licence: str
    files: tuple[SourceFile, ...]
    near_duplicates: int = 0
    """Files left out because another one holds nearly the same (python-stdlib only)."""


def source_name(spec: SourceSpec) -> str:
    """Return the name in reports: the one given, or the last part of the path."""
    return spec.name or Path(spec.path).name or spec.path


def shard_name(source: str) -> str:
    """Return the file name, without ending, of a source's shard."""
    return re.sub(r"[^\w.-]", "_", source).lstrip(".") or "_"


def find_sources(specs: Sequence[SourceSpec], *, hashes: FileHashes, progress: OpenProgress) -> list[Source]:
    """Return each source with its files and their hashes, in the order of the specs.

    Raises DataError that lists every missing, empty or unreadable source and every name used twice.
    """
    names = [shard_name(source_name(spec)) for spec in specs]
    problems = [
        f"two sources are named '{name}': set `name` to tell them apart"
        for name in sorted(set(names))
        if names.count(name) > 1
    ]
    found: list[list[Path]] = []
    for spec in specs:
        with collected(problems):
            found.append(_find_files(spec))
    refuse(problems)
    sources: list[Source] = []
    with progress("Checking files", total=sum(map(len, found)), unit="files") as bar:
        for spec, files in zip(specs, found, strict=True):
            with collected(problems), _readable(spec.path):
                sources.append(_hashed(spec, files, hashes, bar))
    refuse(problems)
    return sources


@contextlib.contextmanager
def collected(problems: list[str], *, where: str = "") -> Iterator[None]:
    """Add a DataError of the block to the problems, so that the next source is looked at too."""
    try:
        yield
    except DataError as error:
        problems.append(f"{where}{error}")


def refuse(problems: Sequence[str]) -> None:
    """Raise one DataError with all problems, if there are any."""
    if problems:
        raise DataError("\n  - ".join(["the data cannot be used:", *problems]) if problems[1:] else problems[0])


def _find_files(spec: SourceSpec) -> list[Path]:
    if spec.path == PYTHON_STDLIB:
        return stdlib_files(stdlib_root())
    path = Path(os.path.expanduser(spec.path))
    with _readable(spec.path):
        return _matches(path)


def _matches(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if path.is_dir():
        files = sorted(_files_below(path))
        if not files:
            raise DataError(f"the folder {path} holds no files. Put text, .jsonl or .parquet files into it.")
        return files
    files = sorted(Path(match) for match in glob.glob(str(path), recursive=True) if Path(match).is_file())
    if not files:
        what = "no file matches" if glob.has_magic(str(path)) else "there is no file or folder"
        raise DataError(f"{what} {path}, looked for from {Path.cwd()}. Correct data.sources.")
    return files


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield all files that are not hidden. Path.rglob would pass over folders that cannot be read without a word.

    Raises DataError for a link that leads to a folder or nowhere: what is behind it would be left out unnoticed.
    """

    def refuse_it(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=refuse_it):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(parent, name) for name in [*folders, *names] if not name.startswith(".")):
            if path.is_symlink() and not path.is_file():
                where = "a folder" if path.is_dir() else "nothing"
                raise DataError(f"{path} is a link to {where}, and is not followed. Name its target as a source.")
        yield from (path for name in names if not name.startswith(".") and (path := Path(parent, name)).is_file())


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    """Turn what the system refuses within the block into a DataError that names the file."""
    try:
        yield
    except OSError as error:
        what = error.filename or path
        raise DataError(f"cannot read {what}: {error.strerror or error}. Make it readable, or take it out.") from None


def _hashed(spec: SourceSpec, files: list[Path], hashes: FileHashes, bar: Bar) -> Source:
    is_stdlib = spec.path == PYTHON_STDLIB
    dropped = near_duplicates(files) if is_stdlib else set()
    root = stdlib_root() if is_stdlib else _common_folder(files)
    kept = []
    for path in files:
        if path not in dropped:
            name = path.relative_to(root).as_posix()
            group = module_of(name) if is_stdlib else name
            kept.append(SourceFile(path, name, group, path.stat().st_size, hashes.sha256(path)))
        bar.advance()
    licence = "PSF-2.0" if is_stdlib and spec.licence == "unknown" else spec.licence
    return Source(source_name(spec), spec.text_key, licence, tuple(kept), len(dropped))


def _common_folder(files: Sequence[Path]) -> Path:
    folder = files[0].parent
    while not all(file.is_relative_to(folder) for file in files):
        folder = folder.parent
    return folder
