"""Which documents train and which validate.

Either the run names its validation sets, or a share of the document groups of each source is held out. Whatever text
is validated on is taken out of training, also where it comes from another file.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from everyflop.base.errors import DataError
from everyflop.base.progress import Bar, OpenProgress
from everyflop.data.documents import Document, read_documents, read_file
from everyflop.data.hashes import FileHashes
from everyflop.data.sources import Source, collected, find_sources, refuse
from everyflop.data.split import is_held_out, place
from everyflop.spec.data import DataSpec

HELD_OUT = "held_out"
"""Name of the validation set that a share of the training documents makes."""
LISTED_GROUPS = 1000
"""Held-out groups named in the manifest, at most; each line of a JSONL file is one."""


@dataclass(slots=True)
class Scan:
    """What one reading of a training source finds."""

    documents: int = 0
    """Usable, held-out ones included."""
    text_chars: int = 0
    """Of the documents that are not held out."""
    held_out_documents: int = 0
    held_out_groups: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    nearest: tuple[float, str] = (1.0, "")
    """Place and name of the group that a larger share would hold out first."""


class Corpus:
    """The sources of a run, and which of their documents train and validate."""

    def __init__(self, train: list[Source], validation: dict[str, list[Source]], held_out_share: float):
        """Without validation sets, held_out_share of the groups of each training source make one."""
        self.train = train
        self.named = validation
        self.held_out_share = 0.0 if validation else held_out_share
        self.scans: dict[str, Scan] = {}
        self._validation_texts: set[bytes] = set()

    def scan(self, progress: OpenProgress) -> None:
        """Read everything once. Raises DataError with all problems: unreadable files, sources without documents."""
        validation = [(name, source) for name, sources in self.named.items() for source in sources]
        n_files = sum(len(source.files) for source in [*self.train, *(source for _, source in validation)])
        problems: list[str] = []
        with progress("Reading", total=n_files, unit="files") as bar:
            for source in self.train:
                with collected(problems):
                    self.scans[source.name] = self._scan_train(source, bar)
            for name, source in validation:
                with collected(problems, where=f"validation set '{name}': "):
                    self._scan_validation(source, bar)
        refuse(problems)
        if self.held_out_share and not any(scan.held_out_documents for scan in self.scans.values()):
            raise DataError(self._nothing_held_out())

    def training_texts(self, source: Source, skipped: Counter[str]) -> Iterator[str]:
        """Yield the texts to train on; those that are also validated on are counted in `skipped`."""
        for document in read_documents(source, Counter()):
            if is_held_out(document.group, self.held_out_share):
                continue
            if _digest(document.text) in self._validation_texts:
                skipped["also in validation"] += 1
                continue
            yield document.text

    def validation_sets(self) -> dict[str, list[Source]]:
        """Return the sources of each validation set."""
        if self.named:
            return self.named
        return {HELD_OUT: [source for source in self.train if self.scans[source.name].held_out_documents]}

    def validation_texts(self, source: Source, skipped: Counter[str]) -> Iterator[str]:
        """Yield the texts of a source of a validation set."""
        for document in read_documents(source, skipped):
            if self.named or is_held_out(document.group, self.held_out_share):
                yield document.text

    def _scan_train(self, source: Source, bar: Bar) -> Scan:
        scan = Scan(skipped=Counter({"near-duplicate": source.near_duplicates} if source.near_duplicates else {}))
        for document in _read(source, scan.skipped, bar):
            scan.documents += 1
            if is_held_out(document.group, self.held_out_share):
                self._hold_out(scan, document)
            else:
                scan.text_chars += len(document.text)
                scan.nearest = min(scan.nearest, (place(document.group), document.group))
        if scan.documents == scan.held_out_documents:
            raise DataError(_no_documents(source, scan))
        return scan

    def _hold_out(self, scan: Scan, document: Document) -> None:
        self._validation_texts.add(_digest(document.text))
        scan.held_out_documents += 1
        group = document.group
        if scan.held_out_groups[-1:] != [group] and len(scan.held_out_groups) < LISTED_GROUPS:
            scan.held_out_groups.append(group)

    def _scan_validation(self, source: Source, bar: Bar) -> None:
        scan = Scan()
        for document in _read(source, scan.skipped, bar):
            scan.documents += 1
            self._validation_texts.add(_digest(document.text))
        if not scan.documents:
            raise DataError(_no_documents(source, scan))

    def _nothing_held_out(self) -> str:
        documents = sum(scan.documents for scan in self.scans.values())
        nearest, group = min(scan.nearest for scan in self.scans.values())
        share = round(nearest + 0.01, 2)
        larger = f"Set it to {share}, which holds out '{group}', or name" if documents > 1 and share < 0.5 else "Name"
        return (
            f"data.held_out_share = {self.held_out_share} holds out nothing of {documents} "
            f"{'document' if documents == 1 else 'documents'}: the hash of no group's name falls into it. "
            f"{larger} text to validate on in [[data.validation]]."
        )


def find_corpus(data: DataSpec, *, hashes: FileHashes, progress: OpenProgress) -> Corpus:
    """Find the files of all sources. Raises DataError with everything missing."""
    problems: list[str] = []
    found: list[list[Source]] = []
    for where, specs in [("", data.sources), *((f"validation set '{v.name}': ", v.sources) for v in data.validation)]:
        with collected(problems, where=where):
            found.append(find_sources(specs, hashes=hashes, progress=progress))
    refuse(problems)
    names = [validation.name for validation in data.validation]
    return Corpus(found[0], dict(zip(names, found[1:], strict=True)), data.held_out_share)


def _read(source: Source, skipped: Counter[str], bar: Bar) -> Iterator[Document]:
    for file in source.files:
        yield from read_file(file, source.text_key, skipped)
        bar.advance()


def _no_documents(source: Source, scan: Scan) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(scan.skipped.items()))
    if scan.held_out_documents:
        reasons = f"all {scan.held_out_documents} documents are held out for validation"
    why = reasons or "its files hold none"
    return f"source '{source.name}' has no document to use ({why}). Add text, or leave it out."


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
