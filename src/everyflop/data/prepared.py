"""A folder of prepared data: what is in it, and its windows.

manifest.json                      what was read, what came out, and a checksum for every other file
tokenizer.json
train/SOURCE.bin .idx              see shards.py
validation/SET/SOURCE.bin .idx
"""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from everyflop.base.errors import DamagedFile, DataError
from everyflop.base.files import sha256_file
from everyflop.data.shards import open_shard
from everyflop.data.sources import shard_name, source_name
from everyflop.data.stream import TrainStream
from everyflop.data.tokenizer import Tokenizer, load_tokenizer
from everyflop.data.windows import WindowSet
from everyflop.spec.data import DataSpec

SCHEMA = 1
"""Version of the folder's layout and content; part of the fingerprint."""


class Prepared:
    """Prepared data, opened."""

    def __init__(self, folder: Path, manifest: dict[str, Any], data: DataSpec):
        self.folder = folder
        self.manifest = manifest
        self._data = data
        self.fingerprint: str = manifest["fingerprint"]
        """Hash of everything that decides the content."""
        self.vocab_size: int = manifest["tokenizer"]["vocab_size"]
        self.eot_id: int = manifest["tokenizer"]["eot_id"]
        self.tokenizer_path = folder / "tokenizer.json"

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the windows were made with."""
        return load_tokenizer(self.tokenizer_path, eot_id=self.eot_id)

    @cached_property
    def windows(self) -> WindowSet:
        """All training windows, one shard for each source in the manifest's order."""
        return self._open(self.folder / "train", self.manifest["train"])

    @cached_property
    def validation(self) -> dict[str, WindowSet]:
        """The windows of each validation set."""
        folder = self.folder / "validation"
        return {name: self._open(folder / name, entries) for name, entries in self.manifest["validation"].items()}

    def train(self, seed: int, phase: int = 0) -> TrainStream:
        """Return the training stream, mixed by the weights of the [data] table.

        Raises DataError when its sources are not those prepared, or a weight is too small for mixture_block.
        """
        names = [source_name(spec) for spec in self._data.sources]
        prepared = list(self.manifest["train"])
        if names != prepared:
            raise DataError(f"{self.folder} holds the sources {prepared}, not {names}. Prepare the data of this run.")
        return TrainStream(
            self.windows,
            names=names,
            weights=[spec.weight for spec in self._data.sources],
            block=self._data.mixture_block,
            seed=seed,
            phase=phase,
            tokenizer_path=self.tokenizer_path,
        )

    def _open(self, folder: Path, entries: dict[str, Any]) -> WindowSet:
        return WindowSet(
            [open_shard(folder / shard_name(name)) for name in entries],
            seq_len=self.manifest["seq_len"],
            eot_id=self.eot_id,
            attend_within_document=self.manifest["attend_within_document"],
            text_bytes=sum(entry["text_bytes"] for entry in entries.values()),
        )


def open_prepared(folder: str | Path, data: DataSpec, *, verify: bool = False) -> Prepared:
    """Open prepared data after checking the size of each file, and with `verify` its SHA-256 too.

    `data` is the [data] table of a run: its weights and mixture_block decide the order and are no part of the folder.
    Raises DataError when there is no folder or a newer version, DamagedFile when a file is not what was written.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"no prepared data in {folder}: no such folder. Run `everyflop data prepare RUN.toml`.")
    manifest = _read_manifest(folder)
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise _damaged(folder, f"{name} is missing")
        if path.stat().st_size != expected["bytes"]:
            raise _damaged(folder, f"{name} has {path.stat().st_size} bytes instead of {expected['bytes']}")
        if verify and sha256_file(path) != expected["sha256"]:
            raise _damaged(folder, f"{name} has other content than was written")
    return Prepared(folder, manifest, data)


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest with every key that is used later there and of its type."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        schema = _Version.model_validate(manifest, strict=True).schema_
        if schema > SCHEMA:
            raise DataError(
                f"{folder} has schema {schema}; this version reads up to {SCHEMA}. Install a newer everyflop."
            )
        _Manifest.model_validate(manifest, strict=True)
    except OSError as error:
        raise _damaged(folder, f"manifest.json cannot be read ({error.strerror})") from None
    except ValidationError as error:
        keys = ", ".join(".".join(map(str, problem["loc"])) or "the whole" for problem in error.errors())
        raise _damaged(folder, f"manifest.json is no manifest (missing or of another type: {keys})") from None
    except (ValueError, RecursionError):
        raise _damaged(folder, "manifest.json is no manifest (no JSON)") from None
    return manifest


class _Version(BaseModel):
    schema_: int = Field(alias="schema")


class _File(BaseModel):
    bytes: int
    sha256: str


class _Entry(BaseModel):
    licence: str
    documents: int
    tokens: int
    text_bytes: int
    windows: int
    skipped: dict[str, int]


class _Tokenizer(BaseModel):
    sha256: str
    vocab_size: int
    eot_id: int
    trained: bool


class _Manifest(BaseModel):
    """The shape of manifest.json, to check it against."""

    fingerprint: str
    seq_len: int = Field(gt=0)
    attend_within_document: bool
    tokenizer: _Tokenizer
    train: dict[str, _Entry]
    validation: dict[str, dict[str, _Entry]]
    held_out_groups: dict[str, list[str]]
    files: dict[str, _File]


def _damaged(folder: Path, found: str) -> DamagedFile:
    return DamagedFile(f"prepared data is damaged: {found}. Remove the folder {folder}, and it is prepared again.")
