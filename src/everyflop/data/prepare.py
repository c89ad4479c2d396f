"""Prepare a run's data: find the text, train or load the tokenizer, write shards and a manifest.

The folder is named by a fingerprint of all that decides its content, so that data is prepared once and found again.
It appears whole or not at all. Weights decide the order only and are no part of it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from everyflop.base.errors import DataError
from everyflop.base.files import in_turn, new_folder, sha256_file, write_json
from everyflop.base.progress import Bar, OpenProgress, quiet
from everyflop.data.corpus import Corpus, find_corpus
from everyflop.data.hashes import FileHashes
from everyflop.data.mixture import require_all_present
from everyflop.data.prepared import SCHEMA, Prepared, open_prepared
from everyflop.data.sources import Source, shard_name, source_name
from everyflop.data.split import place
from everyflop.data.tokenise import ShardCounts, pieces, write_shard
from everyflop.data.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from everyflop.data.windows import count_windows
from everyflop.spec.run import DEFAULT_VOCAB_SIZE, RunSpec

TOKENIZER_CHARS = 256_000_000
"""Characters that a tokenizer is trained on at most; of a larger corpus a sample about this large."""


def prepare(run: RunSpec, *, progress: OpenProgress = quiet) -> Prepared:
    """Return the run's prepared data, made now or found; what is found is read through and checked.

    Raises DataError for text, a tokenizer or a mixture that cannot be used as asked, and DamagedFile for a folder
    that is found and no longer holds what was written.
    """
    given = None if run.data.tokenizer == "train" else load_tokenizer(Path(run.data.tokenizer))
    _require_room(run, given.vocab_size if given else _trained_size(run))
    names, weights = zip(*((source_name(spec), spec.weight) for spec in run.data.sources), strict=True)
    require_all_present(names, weights, run.data.mixture_block)
    hashes = FileHashes(run.prepared_dir / "hashes.json")
    corpus = find_corpus(run.data, hashes=hashes, progress=progress)
    hashes.save()
    fingerprint = _fingerprint(run, corpus, given)
    folder = run.prepared_dir / fingerprint[:16]
    found = folder.exists()
    if not found:
        busy = f"Another process prepares {folder}. Waiting for it."
        with in_turn(folder.with_name(f".{folder.name}.lock"), busy=busy):
            found = folder.exists()  # the other process may have finished meanwhile
            if not found:
                with new_folder(folder) as temporary:
                    manifest = _build(temporary, run, corpus, given, progress)
                    write_json(temporary / "manifest.json", {"fingerprint": fingerprint, **manifest})
    return open_prepared(folder, run.data, verify=found)


def _trained_size(run: RunSpec) -> int:
    return run.data.vocab_size or DEFAULT_VOCAB_SIZE


def _require_room(run: RunSpec, vocab_size: int) -> None:
    if run.model is not None and vocab_size > run.model.vocab_size:
        raise DataError(
            f"the tokenizer has {vocab_size} tokens and model.vocab_size is {run.model.vocab_size}: ids from "
            f"{run.model.vocab_size} on have no row. Raise model.vocab_size"
            + (" or lower data.vocab_size." if run.data.tokenizer == "train" else ".")
        )


def _fingerprint(run: RunSpec, corpus: Corpus, given: Tokenizer | None) -> str:
    inputs = {
        "schema": SCHEMA,
        "train": [_describe(source) for source in corpus.train],
        "validation": {name: [_describe(source) for source in sources] for name, sources in corpus.named.items()},
        "held_out_share": corpus.held_out_share,
        "tokenizer": _describe_tokenizer(given) if given else {"vocab_size": _trained_size(run)},
        "seq_len": run.train.seq_len,
        "attend_within_document": run.data.attend_within_document,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _describe_tokenizer(given: Tokenizer) -> Any:
    """A file beside tokenizer.json says what ends a document, where the tokens themselves do not."""
    return given.sha256 if given.names_end_of_text else [given.sha256, given.eot_id]


def _describe(source: Source) -> dict[str, Any]:
    return {
        "name": source.name,
        "licence": source.licence,
        "text_key": source.text_key,
        "files": [{"name": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in source.files],
    }


def _build(
    folder: Path, run: RunSpec, corpus: Corpus, given: Tokenizer | None, progress: OpenProgress
) -> dict[str, Any]:
    """Write the folder's other files and return the manifest."""
    corpus.scan(progress)
    tokenizer = given or _train(corpus, _trained_size(run), progress)
    (folder / "tokenizer.json").write_bytes(tokenizer.content)
    n_documents = sum(scan.documents for scan in corpus.scans.values())
    with progress("Tokenising", total=n_documents, unit="documents") as bar:
        shards = _Shards(folder, tokenizer, run.train.seq_len, bar)
        validation = shards.write_validation(corpus)
        train = shards.write_train(corpus)
    return {
        "schema": SCHEMA,
        "seq_len": run.train.seq_len,
        "attend_within_document": run.data.attend_within_document,
        "tokenizer": {
            "sha256": tokenizer.sha256,
            "vocab_size": tokenizer.vocab_size,
            "eot_id": tokenizer.eot_id,
            "trained": given is None,
        },
        "train": train,
        "validation": validation,
        "held_out_share": corpus.held_out_share,
        "held_out_groups": {name: scan.held_out_groups for name, scan in corpus.scans.items()},
        "files": _checksums(folder),
    }


def _train(corpus: Corpus, vocab_size: int, progress: OpenProgress) -> Tokenizer:
    chars = sum(scan.text_chars for scan in corpus.scans.values())
    share = TOKENIZER_CHARS / chars
    n_documents = sum(scan.documents - scan.held_out_documents for scan in corpus.scans.values())

    def texts(bar: Bar) -> Iterator[str]:
        for source in corpus.train:
            for text in corpus.training_texts(source, Counter()):
                bar.advance()
                # Pieces, not documents: the corpus may be one huge file. By their hash: no order of files matters.
                yield from (piece for piece, _ in pieces(text) if place(piece) < share)

    with progress("Training the tokenizer", total=n_documents, unit="documents") as bar:
        return train_tokenizer(texts(bar), vocab_size=vocab_size)


class _Shards:
    """Writes shards and returns the manifest's entries for them."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, seq_len: int, bar: Bar):
        self._folder, self._tokenizer, self._seq_len, self._bar = folder, tokenizer, seq_len, bar

    def write_train(self, corpus: Corpus) -> dict[str, Any]:
        entries = {}
        for source in corpus.train:
            skipped = Counter(corpus.scans[source.name].skipped)
            counts = self._write(Path("train"), source, corpus.training_texts(source, skipped))
            if not counts.documents:
                raise DataError(
                    f"source '{source.name}' has nothing left to train on: all of its documents are also validated on. "
                    "Take it out of data.sources or out of the validation set."
                )
            entries[source.name] = self._entry(source, counts, skipped)
        return entries

    def write_validation(self, corpus: Corpus) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for name, sources in corpus.validation_sets().items():
            entries[name] = {}
            for source in sources:
                skipped: Counter[str] = Counter()
                texts = corpus.validation_texts(source, skipped)
                counts = self._write(Path("validation") / name, source, texts)
                # What a held-out share skips is counted in training already.
                entries[name][source.name] = self._entry(source, counts, skipped if corpus.named else Counter())
        return entries

    def _write(self, where: Path, source: Source, texts: Iterator[str]) -> ShardCounts:
        return write_shard(
            self._folder / where / shard_name(source.name), texts, self._tokenizer, advance=self._bar.advance
        )

    def _entry(self, source: Source, counts: ShardCounts, skipped: Counter[str]) -> dict[str, Any]:
        return {
            **_describe(source),
            "documents": counts.documents,
            "tokens": counts.tokens,
            "text_bytes": counts.text_bytes,
            "windows": count_windows(counts.tokens, self._seq_len),
            "skipped": dict(sorted(skipped.items())),
        }


def _checksums(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in files
    }
