"""What to read and how to cut it into training windows."""

from typing import Any

from pydantic import Field, field_validator, model_validator

from everyflop.spec.base import Misfit, Spec

PYTHON_STDLIB = "python-stdlib"
"""The built-in source: the standard library of the running interpreter."""


class SourceSpec(Spec):
    """One corpus: a file, a folder, a glob pattern, or "python-stdlib".

    The end of a file's name tells .jsonl or .ndjson (.gz, .zst) and .parquet from plain text, one document a file.
    """

    path: str = Field(min_length=1)
    name: str | None = None
    """Shown in reports and used for the shard's file name; by default the last part of the path."""
    weight: float = Field(default=1.0, ge=1e-6, le=1e6)
    """Share of the training windows, relative to the other sources' weights."""
    text_key: str = "text"
    """Field (JSONL) or column (Parquet) that holds the text."""
    licence: str = "unknown"

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


class ValidationSpec(Spec):
    """A named validation set. Its windows are never trained on."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    sources: tuple[SourceSpec, ...] = Field(min_length=1)

    _one_source = field_validator("sources", mode="before")(_as_list)


class DataSpec(Spec):
    """The [data] table of a run file."""

    sources: tuple[SourceSpec, ...] = Field(default=(SourceSpec(path=PYTHON_STDLIB),), min_length=1)
    tokenizer: str = Field(default="train", min_length=1)
    """"train" makes a byte-level BPE of vocab_size from the sources; else a tokenizer.json, or a folder with one."""
    vocab_size: int | None = Field(default=None, ge=257, le=1_000_000)
    """Size of a tokenizer that is trained (default 4096). With a given tokenizer: leave it out."""
    validation: tuple[ValidationSpec, ...] = ()
    """Empty: held_out_share of the training documents is kept back as one set named "held_out"."""
    held_out_share: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of document groups held out by a hash of their names: modules of python-stdlib, files, lines of JSONL."""
    attend_within_document: bool = True
    """Keep attention inside each document where a window holds several."""
    mixture_block: int = Field(default=1024, gt=0, le=1_000_000)
    """Windows in one block of the mixture; weights are met to within one window in each block."""
    prepared_dir: str | None = None
    """Where prepared data is kept, one folder for each fingerprint of its inputs; by default out_dir/prepared."""

    _one_source = field_validator("sources", mode="before")(_as_list)

    def misfits(self) -> list[Misfit]:
        """Return validation sets of the same name, and a vocabulary size that nothing uses."""
        found: list[Misfit] = []
        names = [v.name for v in self.validation]
        found += [("validation", f"has two sets named '{n}'") for n in sorted(set(names)) if names.count(n) > 1]
        if self.tokenizer != "train" and self.vocab_size is not None:
            found.append(("vocab_size", "belongs to tokenizer = 'train'; a given tokenizer has its own: remove it"))
        return found
