"""Token files in Megatron's layout: tokens one after the other in NAME.bin, where each document lies in NAME.idx.

NAME.idx, little-endian: the magic "MMIDIDX\\0\\0", version 1 (uint64), type code of the tokens (uint8: 8 = uint16,
4 = int32), number of documents n (uint64), n + 1 (uint64), then three arrays: tokens in each document (int32, n),
byte offset of each document in NAME.bin (int64, n), and 0..n (int64, n + 1), since each document is one sequence.
"""

import struct
from array import array
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from everyflop.base.errors import DamagedFile, DataError

_MAGIC = b"MMIDIDX\x00\x00"
_HEADER = struct.Struct("<9sQBQQ")
_DTYPES = {8: np.dtype("<u2"), 4: np.dtype("<i4")}
_LONGEST_DOCUMENT = 2**31 - 1


class ShardWriter:
    """Writes PREFIX.bin as tokens come and PREFIX.idx when the `with` block ends well."""

    def __init__(self, prefix: Path, *, vocab_size: int):
        self._prefix = prefix
        self._vocab_size = vocab_size
        self._code = 8 if vocab_size <= 2**16 else 4
        self._lengths = array("i")
        self._in_document = 0
        self.n_tokens = 0

    def __enter__(self) -> Self:
        self._prefix.parent.mkdir(parents=True, exist_ok=True)
        self._bin = _beside(self._prefix, ".bin").open("wb")
        return self

    def write(self, ids: NDArray[np.int64]) -> None:
        """Append tokens to the current document. Raises DataError for an id outside the vocabulary."""
        if ids.size and (ids.max() >= self._vocab_size or ids.min() < 0):
            raise DataError(
                f"token ids from {ids.min()} to {ids.max()} do not fit a vocabulary of {self._vocab_size}. "
                "Use the tokenizer that this vocabulary belongs to."
            )
        self._bin.write(ids.astype(_DTYPES[self._code]).tobytes())
        self._in_document += ids.size
        self.n_tokens += ids.size

    def end_document(self) -> None:
        """Close the current document."""
        if self._in_document > _LONGEST_DOCUMENT:
            raise DataError(f"a document of {self._in_document} tokens is too long for the format: split it.")
        self._lengths.append(self._in_document)
        self._in_document = 0

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._bin.close()
        if kind is None:
            self._write_index()

    def _write_index(self) -> None:
        lengths = np.array(self._lengths, dtype="<i4")
        n = len(lengths)
        ends = np.cumsum(lengths, dtype=np.int64) * _DTYPES[self._code].itemsize
        with _beside(self._prefix, ".idx").open("wb") as file:
            file.write(_HEADER.pack(_MAGIC, 1, self._code, n, n + 1))
            file.write(lengths.tobytes())
            file.write(np.concatenate([np.zeros(1, np.int64), ends])[:n].astype("<i8").tobytes())
            file.write(np.arange(n + 1, dtype="<i8").tobytes())


@dataclass(frozen=True, slots=True)
class Shard:
    """The token stream of one source, mapped from disk: N tokens in D documents."""

    tokens_N: NDArray[np.integer]
    lengths_D: NDArray[np.int32]
    starts_D: NDArray[np.int64]
    """First token of each document, counted in tokens."""

    def document(self, number: int) -> NDArray[np.integer]:
        """Return the tokens of one document as stored, its end-of-text token included."""
        start = int(self.starts_D[number])
        return self.tokens_N[start : start + int(self.lengths_D[number])]


def open_shard(prefix: Path) -> Shard:
    """Map PREFIX.bin and PREFIX.idx. Raises DamagedFile when they are missing or do not fit each other."""
    index_path, bin_path = _beside(prefix, ".idx"), _beside(prefix, ".bin")
    try:
        index, bin_bytes = index_path.read_bytes(), bin_path.stat().st_size
    except OSError as error:
        raise DamagedFile(f"cannot read the shard {prefix}: {error}. Prepare the data again.") from None
    magic, version, code, n, n_ends = _HEADER.unpack(index[: _HEADER.size].ljust(_HEADER.size, b"\0"))
    if magic != _MAGIC or version != 1 or code not in _DTYPES:
        raise DamagedFile(f"{index_path} is no index of version 1 over uint16 or int32 tokens. Prepare the data again.")
    if n_ends != n + 1 or len(index) != _HEADER.size + 12 * n + 8 * n_ends:
        raise DamagedFile(f"{index_path} has {len(index)} bytes, not those of {n} documents. Prepare the data again.")
    lengths_D = np.frombuffer(index, "<i4", n, _HEADER.size)
    offsets_D = np.frombuffer(index, "<i8", n, _HEADER.size + 4 * n)
    n_tokens = int(lengths_D.sum(dtype=np.int64))
    if bin_bytes != n_tokens * _DTYPES[code].itemsize:
        raise DamagedFile(f"{bin_path} has {bin_bytes} bytes for {n_tokens} tokens. Prepare the data again.")
    tokens_N: NDArray[np.integer] = np.zeros(0, np.uint16)  # an empty file cannot be mapped
    if n_tokens:
        tokens_N = np.memmap(bin_path, _DTYPES[code], "r")
    return Shard(tokens_N, lengths_D, offsets_D // _DTYPES[code].itemsize)


def _beside(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(prefix.name + suffix)  # not with_suffix: a source may be called "v1.5"
