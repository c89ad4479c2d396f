"""Files that are either whole or not there.

A write goes to a temporary name in the same folder, is flushed to disk, and is then renamed: a crash at any instant
leaves the old file or the new one, never half of either. Lines are appended whole; a torn last line is dropped when
read and cut off before the next line is added.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from everyflop.base.errors import UsageError

TEMPORARY_PREFIX = ".tmp-"

_CHUNK_BYTES = 4 * 2**20


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write content (text as UTF-8) to path; the parent folder must exist.

    A link stays one, and what it points to is written. A device or a pipe cannot be replaced: it is written into.
    An error names this path, not the temporary file.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.exists() and not path.is_file():
            path.write_bytes(data)
        else:
            _replace(Path(os.path.realpath(path)), data)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def _replace(path: Path, data: bytes) -> None:
    """Put a file in the place of whatever is there, in one step."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # on a read-only disk the clean-up fails too, and would hide the cause
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write value as indented JSON, atomically. NaN and infinity are refused with ValueError: they are not JSON."""
    write_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename in it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot, and keep the order by themselves
            raise
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Flush a file that some library wrote."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends well and vanishes when it does not.

    What a killed process left under the same temporary name is removed first. Raises FileExistsError if `path`
    exists when the block ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.mkdir()
    try:
        yield temporary
        for entry in temporary.rglob("*"):
            sync_folder(entry) if entry.is_dir() else sync_file(entry)
        if path.exists():
            raise FileExistsError(f"{path} exists already")
        sync_folder(temporary)
        temporary.rename(path)
        sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def sha256_file(path: Path, *, advance: Callable[[int], None] = lambda n_bytes: None) -> str:
    """Return the hex digest of a file's bytes, telling `advance` how many more were read as it goes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append one JSON line in a single write, so that readers never see two writers' lines mixed.

    Raises OSError where the disk has no room for all of it.
    A torn line that a killed writer left at the end is cut off first; the new line would be lost in it.
    """
    line = json.dumps(record, allow_nan=False) + "\n"
    with path.open("a+b", buffering=0) as file:
        _cut_torn_line(file)
        left = memoryview(line.encode())
        while len(left):  # where the disk is nearly full, a part is written without an error
            left = left[file.write(left) :]


def _cut_torn_line(file: BinaryIO) -> None:
    end = file.seek(0, os.SEEK_END)
    if end:
        file.seek(end - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read(end).rfind(b"\n") + 1)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; a last line without its end (a torn write) is left out. A missing file is an empty list.

    Raises UsageError for a whole line that is not a JSON object.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: not JSON ({error}). Restore the file from a copy.") from None
        if not isinstance(record, dict):
            raise UsageError(f"{path}, line {number}: no JSON object but {record!r}. Restore the file from a copy.")
        records.append(record)
    return records


def keep_lines(path: Path, keep: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Drop the JSON lines that are not to be kept, and a torn last line; return what was dropped, torn lines aside."""
    lines = read_lines(path)
    kept = [line for line in lines if keep(line)]
    if path.exists():
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept))
    return [line for line in lines if not keep(line)]


@contextlib.contextmanager
def locked(path: Path, *, busy: str) -> Iterator[None]:
    """Hold an exclusive lock on a file for the block; the lock ends with the process, however it ends.

    Raises UsageError with the text `busy` when another process holds it, and where the file system knows no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if not _lock_now(file):
            raise UsageError(busy)
        yield


@contextlib.contextmanager
def in_turn(path: Path, *, busy: str) -> Iterator[None]:
    """Hold an exclusive lock on a file for the block; when another process holds it, say `busy` on stderr and wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if not _lock_now(file):
            print(busy, file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _lock_now(file: IO[str]) -> bool:
    """Take a lock if nobody else has it; return whether it is held."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        raise UsageError(
            f"the file system of {file.name} has no locks ({error.strerror}), without which two processes could write "
            "into one run. Choose a folder on another one, or mount it with locks (Lustre: -o flock)."
        ) from None
    return True
