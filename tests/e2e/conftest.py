"""Finished runs that several tests look at."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from everyflop.base.files import read_lines


@dataclass(frozen=True)
class Trained:
    """A run directory, with the file that made it and what the command said."""

    run_file: Path
    dir: Path
    code: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.dir / "summary.json").read_text())

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return read_lines(self.dir / "metrics.jsonl")

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in read_lines(self.dir / "events.jsonl") if event["event"] == kind]


@pytest.fixture(scope="session")
def train_in(write_run_file, everyflop) -> Callable[..., Trained]:
    """Train a tiny run in a folder, with overrides or options, and changes to its file."""

    def train(folder: Path, *arguments: str, **changes) -> Trained:
        run_file = write_run_file(folder, **changes)
        ended = everyflop("train", run_file, *arguments)
        return Trained(run_file, folder / "runs" / "tiny", ended.code, ended.out, ended.err)

    return train


@pytest.fixture(scope="session")
def plain(train_in, tmp_path_factory) -> Trained:
    """The tiny run, uninterrupted. Nobody may change it."""
    money = {"price_per_device_hour": 7.2, "currency": "CNY", "example": True}
    trained = train_in(tmp_path_factory.mktemp("plain"), money=money, train={"validate_every_steps": 5})

    assert trained.code == 0, trained.err
    return trained


@pytest.fixture
def again(plain, tmp_path) -> tuple[Path, Path]:
    """A copy of the finished plain run that a test may change, with a run file that leads to it."""
    shutil.copytree(plain.dir, tmp_path / "runs" / "tiny")
    text = plain.run_file.read_text().replace(str(plain.run_file.parent), str(tmp_path))
    (tmp_path / "run.toml").write_text(text)
    return tmp_path / "run.toml", tmp_path / "runs" / "tiny"
