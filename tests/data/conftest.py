"""Small real inputs that several tests of this folder share."""

from pathlib import Path

import pytest

from everyflop.base.progress import quiet
from everyflop.data.hashes import FileHashes
from everyflop.data.sources import Source, find_sources
from everyflop.data.tokenizer import Tokenizer, train_tokenizer
from everyflop.spec.data import SourceSpec
from everyflop.spec.run import RunSpec

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "while", "seven", "wizards", "vex", "sphinx"]


def story(number: int, n_words: int = 60) -> str:
    """A text of its own for each number."""
    return " ".join(WORDS[(number * 7 + i * (number % 5 + 1)) % len(WORDS)] for i in range(n_words)) + f" {number}\n"


@pytest.fixture(scope="session")
def stories() -> list[str]:
    return [story(number) for number in range(60)]


@pytest.fixture(scope="session")
def tokenizer(stories) -> Tokenizer:
    return train_tokenizer(stories, vocab_size=300)


@pytest.fixture
def find(tmp_path):
    """Find the sources at these paths."""

    def find_them(*paths, **fields) -> list[Source]:
        specs = [SourceSpec(path=str(path), **fields) for path in paths]
        return find_sources(specs, hashes=FileHashes(tmp_path / "hashes.json"), progress=quiet)

    return find_them


@pytest.fixture
def folder_of_stories(tmp_path, stories) -> Path:
    folder = tmp_path / "stories"
    folder.mkdir()
    for number, text in enumerate(stories):
        (folder / f"{number:02d}.txt").write_text(text)
    return folder


@pytest.fixture
def make_run(tmp_path):
    """Build a run whose prepared data goes to tmp_path, from the fields of [data]."""

    def make(seq_len: int = 16, **data) -> RunSpec:
        data = {"prepared_dir": str(tmp_path / "prepared"), "vocab_size": 300, **data}
        if data.get("tokenizer", "train") != "train":
            del data["vocab_size"]
        return RunSpec.model_validate(
            {"init_from": "elsewhere", "data": data, "train": {"tokens": 1000, "seq_len": seq_len}}
        )

    return make
