"""The run directory: which one, whose it is now, and where its files are.

runs/tiny/  run.toml data.json tokenizer.json metrics.jsonl events.jsonl summary.json loss.png report.html
            checkpoints/step-00000100/ tensorboard/
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from everyflop.base.errors import UsageError
from everyflop.base.files import locked, write_atomic
from everyflop.spec.read import read_run
from everyflop.spec.run import RunSpec

LOCK_NAME = ".lock"


@dataclass(frozen=True, slots=True)
class RunDir:
    """Paths inside one run directory."""

    path: Path

    @property
    def run_file(self) -> Path:
        """The settled run, as TOML."""
        return self.path / "run.toml"

    @property
    def given(self) -> Path:
        """The run as a coordinator and islands were given it, where they are processes of their own."""
        return self.path / "islands" / "run.toml"

    @property
    def data_manifest(self) -> Path:
        """What the data was prepared from: every file with its hash, and what was held out."""
        return self.path / "data.json"

    @property
    def plan(self) -> Path:
        """The plan that the run follows, as it was given."""
        return self.path / "plan.json"

    @property
    def metrics(self) -> Path:
        """One JSON line for each step."""
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        """One JSON line for everything else that happened."""
        return self.path / "events.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of step folders."""
        return self.path / "checkpoints"

    @property
    def summary(self) -> Path:
        """Written when the run is done."""
        return self.path / "summary.json"

    def write_run(self, run: RunSpec) -> None:
        """Keep the settled run."""
        write_atomic(self.run_file, run_toml(run))

    def read_run(self) -> RunSpec:
        """Return the run as it was settled, or as it was given where no island keeps its files, beside a coordinator.

        Raises InvalidFile when another version of everyflop wrote it.
        """
        return read_run(self.run_file if self.run_file.exists() else self.given, files=False)


def run_toml(run: RunSpec) -> str:
    """Return the run as the text of a run file."""
    return tomli_w.dumps(run.to_tables())


@contextlib.contextmanager
def claim(run: RunSpec, *, resume: bool) -> Iterator[RunDir]:
    """Create or reopen the run's directory and hold it while the block runs.

    Raises UsageError when another process holds it, or when it has content and `resume` is False.
    """
    run_dir = RunDir(run.dir)
    busy = f"the run '{run.run.name}' is in use by another process. Wait for it, or choose another run.name."
    with locked(run_dir.path / LOCK_NAME, busy=busy):
        if not resume and _in_use(run_dir.path):
            state = "a finished" if run_dir.summary.exists() else "an unfinished"
            raise UsageError(
                f"{run_dir.path} holds {state} run, which is never overwritten. "
                "Add --resume to continue it, --new to take the next free name, or run.name=OTHER."
            )
        yield run_dir


def next_free_name(run: RunSpec) -> RunSpec:
    """Return the run under its own name, or the first of name-2, name-3 ... whose directory is free."""
    base, number = run.run.name, 1
    while _in_use(run.dir):
        number += 1
        run = run.model_copy(update={"run": run.run.model_copy(update={"name": f"{base}-{number}"})})
    return run


def _in_use(path: Path) -> bool:
    """Whether a directory holds anything but the lock that a start leaves when it fails."""
    return path.exists() and (not path.is_dir() or any(entry.name != LOCK_NAME for entry in path.iterdir()))
