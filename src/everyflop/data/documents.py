"""Read documents from files: plain text, JSON lines (plain, gzip, zstandard) and Parquet, told apart by name.

A document that cannot be used is skipped and counted by reason. A file that cannot be read to its end is refused:
training on the readable part of a corpus without a word would be worse.
"""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everyflop.base.errors import DataError
from everyflop.data.sources import Source, SourceFile

BAD_LINES_SHARE = 0.01
"""Lines of a JSONL file that may be no JSON objects; more means that it is another format, or damaged."""
_ZSTD_READ_BYTES = 1 << 16
_JSONL = tuple(kind + packed for kind in (".jsonl", ".ndjson") for packed in ("", ".gz", ".zst"))
_NO_TEXT = {
    ".json": "JSON lines: one object a line, named .jsonl",
    ".csv": "JSON lines (.jsonl) or Parquet",
    ".tsv": "JSON lines (.jsonl) or Parquet",
    **dict.fromkeys(
        (".gz", ".zst", ".bz2", ".xz", ".zip", ".tar", ".tgz", ".7z"),
        "plain text, or JSON lines packed by gzip or zstandard (.jsonl.gz, .jsonl.zst)",
    ),
}
"""Endings of files that would be read as one text and are none, and what to make of them."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text and the group that it is held out with."""

    group: str
    text: str


def read_documents(source: Source, skipped: Counter[str]) -> Iterator[Document]:
    """Yield the usable documents of a source in a fixed order, counting the others in `skipped` by reason.

    Raises DataError for a file that cannot be read, is cut off, has no text_key, or has too many bad lines.
    """
    for file in source.files:
        yield from read_file(file, source.text_key, skipped)


def read_file(file: SourceFile, text_key: str, skipped: Counter[str]) -> Iterator[Document]:
    """Yield the usable documents of one file; see read_documents."""
    try:
        for group, raw in _records(file, text_key, skipped):
            text, reason = _usable(raw)
            if reason:
                skipped[reason] += 1
            else:
                yield Document(group, text)
    except OSError as error:
        raise DataError(f"cannot read {file.path}: {error}. Restore the file or take it out.") from None


def _usable(raw: Any) -> tuple[str, str]:
    """Return (text, "") or ("", the reason to skip)."""
    if not isinstance(raw, str | bytes):
        return "", "no text"
    try:
        text = raw.decode() if isinstance(raw, bytes) else raw.encode().decode()  # JSON may hold lone surrogates
    except UnicodeError:
        return "", "not UTF-8"
    if "\0" in text:
        return "", "NUL bytes"
    return (text, "") if text and not text.isspace() else ("", "empty")


def _records(file: SourceFile, text_key: str, skipped: Counter[str]) -> Iterator[tuple[str, Any]]:
    """Yield (group, raw text) for each record of a file."""
    name = file.path.name.lower()
    if name.endswith(_JSONL):
        for number, text in _jsonl(file.path, text_key, skipped):
            yield f"{file.group}:{number}", text
    elif name.endswith(".parquet"):
        for number, text in enumerate(_parquet(file.path, text_key), 1):
            yield f"{file.group}:{number}", text
    elif wanted := _NO_TEXT.get(Path(name).suffix):
        raise DataError(f"{file.path} is no plain text by its name. Convert it to {wanted}; or take it out.")
    else:
        yield file.group, file.path.read_bytes()


def _jsonl(path: Path, text_key: str, skipped: Counter[str]) -> Iterator[tuple[int, Any]]:
    n_lines, bad = 0, []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        n_lines += 1
        try:
            record = json.loads(line.decode("utf-8-sig"))  # editors on Windows put a mark before the first line
        except UnicodeDecodeError:
            skipped["not UTF-8"] += 1
            continue
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            skipped["bad JSON"] += 1
            bad.append(number)
        elif text_key not in record:
            keys = ", ".join(map(repr, record)) or "an empty object"
            raise DataError(f"{path}, line {number}: no key '{text_key}', only {keys}. Set text_key of this source.")
        else:
            yield number, record[text_key]
    if len(bad) > BAD_LINES_SHARE * n_lines:
        raise DataError(
            f"{path}, line {bad[0]}: no JSON object, nor in {len(bad)} of {n_lines} lines altogether. "
            "Correct the file, or rename it if it is not JSONL."
        )


def _lines(path: Path) -> Iterator[bytes]:
    packed = path.suffix.lower()
    if packed in (".zst", ".gz") and not path.stat().st_size:
        raise _cut_off(path, "it is empty, and even an archive of nothing is not")
    if packed == ".zst":
        yield from _zstd_lines(path)
    elif packed == ".gz":
        try:
            with gzip.open(path) as file:
                yield from file
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _cut_off(path, error) from None
    else:
        with path.open("rb") as file:
            yield from file


def _zstd_lines(path: Path) -> Iterator[bytes]:
    held: list[bytes] = []  # the beginning of a line that goes on in the next chunk
    for chunk in _zstd_chunks(path):
        first, *rest = chunk.split(b"\n")
        held.append(first)
        if rest:
            yield b"".join(held)
            yield from rest[:-1]
            held = [rest[-1]]
    yield b"".join(held)


def _zstd_chunks(path: Path) -> Iterator[bytes]:
    """Decompress frame after frame. The library's own stream reader takes a file that is cut off for a whole one."""
    import zstandard

    frame, is_open = zstandard.ZstdDecompressor().decompressobj(), False
    try:
        with path.open("rb") as file:
            while data := file.read(_ZSTD_READ_BYTES):
                while data:
                    yield frame.decompress(data)
                    is_open, data = not frame.eof, frame.unused_data
                    if frame.eof:
                        frame = zstandard.ZstdDecompressor().decompressobj()
    except zstandard.ZstdError as error:
        raise _cut_off(path, error) from None
    if is_open:
        raise _cut_off(path, "the last frame has no end")


def _parquet(path: Path, text_key: str) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            columns = {field.name: field.type for field in file.schema_arrow}
            if text_key not in columns:
                names = ", ".join(map(repr, columns))
                raise DataError(f"{path}: no column '{text_key}', only {names}. Set text_key of this source.")
            if not _is_text(columns[text_key]):
                raise DataError(f"{path}: column '{text_key}' is {columns[text_key]}, no text. Set text_key.")
            for batch in file.iter_batches(columns=[text_key], batch_size=1024):
                column = batch.column(0)
                if pa.types.is_dictionary(column.type):
                    column = column.dictionary_decode()
                if column.type == pa.string_view():
                    column = column.cast(pa.string())
                yield from column.cast(pa.large_binary()).to_pylist()  # bytes: we check UTF-8 ourselves
    except pa.ArrowException as error:
        raise _cut_off(path, error) from None
    except OSError as error:
        if error.errno:
            raise  # the system's; Arrow's own, for a page that cannot be unpacked, has no number
        raise _cut_off(path, error) from None


def _is_text(column: Any) -> bool:
    import pyarrow as pa

    stored = column.value_type if pa.types.is_dictionary(column) else column
    return stored in (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary())


def _cut_off(path: Path, cause: object) -> DataError:
    return DataError(f"{path} is cut off or damaged ({' '.join(str(cause).split())}). Fetch it again, or take it out.")
