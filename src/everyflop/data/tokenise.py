"""Turn documents into a shard: in batches for speed, in pieces so that a huge document needs little memory."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from everyflop.data.shards import ShardWriter
from everyflop.data.tokenizer import Tokenizer

PIECE_CHARS = 1 << 20
"""Longer documents are encoded piece by piece, each about this long; a batch holds about as much."""
_CUT = re.compile(r"\n(?=\S)")


@dataclass(frozen=True, slots=True)
class ShardCounts:
    """What a shard holds."""

    documents: int
    tokens: int
    """End-of-text tokens included."""
    text_bytes: int
    """UTF-8 bytes of the documents."""


def write_shard(
    prefix: Path, texts: Iterable[str], tokenizer: Tokenizer, *, advance: Callable[[int], None]
) -> ShardCounts:
    """Write the documents, each followed by end-of-text, and return their counts; `advance(n)` after n documents."""
    end = np.array([tokenizer.eot_id])
    n_documents = n_bytes = 0
    with ShardWriter(prefix, vocab_size=tokenizer.vocab_size) as shard:
        for batch in _batches(texts):
            n_ended = 0
            for ids, (piece, is_last) in zip(tokenizer.encode([piece for piece, _ in batch]), batch, strict=True):
                shard.write(ids)
                n_bytes += len(piece.encode())
                if is_last:
                    shard.write(end)
                    shard.end_document()
                    n_ended += 1
            n_documents += n_ended
            advance(n_ended)
    return ShardCounts(n_documents, shard.n_tokens, n_bytes)


def _batches(texts: Iterable[str]) -> Iterator[list[tuple[str, bool]]]:
    """Yield lists of (piece, whether it ends its document), each of about PIECE_CHARS characters."""
    batch, chars = [], 0
    for piece, is_last in itertools.chain.from_iterable(map(pieces, texts)):
        batch.append((piece, is_last))
        chars += len(piece)
        if chars >= PIECE_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Cut a text into pieces of PIECE_CHARS up to twice that; yield each with whether it is the last.

    Cuts lie between a line break and a visible character where there is one within reach: the split pattern breaks
    there too, so pieces give the tokens of the whole.
    """
    start = 0
    while len(text) - start > PIECE_CHARS:
        cut = _CUT.search(text, start + PIECE_CHARS, start + 2 * PIECE_CHARS)
        end = cut.end() if cut else start + 2 * PIECE_CHARS
        if end >= len(text):
            break
        yield text[start:end], False
        start = end
    yield text[start:], True
