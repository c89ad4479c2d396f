"""The run file: one training run, as the user writes it and as the run directory keeps it."""

from pathlib import Path
from typing import Any

from pydantic import Field

from everyflop.spec.base import Misfit, Spec
from everyflop.spec.data import DataSpec
from everyflop.spec.islands import IslandSpec, IslandsSpec
from everyflop.spec.model import ModelSpec
from everyflop.spec.train import CheckpointSpec, MoneySpec, OptimSpec, RouterSpec, RunSection, TrainSpec

DEFAULT_VOCAB_SIZE = 4096

SCHEMA = 1
"""Version of the run file. A file without one is of this version; a newer one is refused."""


class RunSpec(Spec):
    """All of a run. `model` is None only where it comes from init_from and nothing else."""

    run: RunSection = RunSection()
    model: ModelSpec | None = None
    init_from: str | None = Field(default=None, min_length=1)
    """A checkpoint or HF directory whose weights training starts from; written as `init_from` in [model]."""
    data: DataSpec = DataSpec()
    train: TrainSpec
    optim: OptimSpec = OptimSpec()
    router: RouterSpec = RouterSpec()
    checkpoint: CheckpointSpec = CheckpointSpec()
    money: MoneySpec = MoneySpec()
    island: tuple[IslandSpec, ...] = ()
    """The [[island]] tables. Without any, one process trains alone."""
    islands: IslandsSpec = IslandsSpec()

    def misfits(self) -> list[Misfit]:
        """Return what does not fit together among sections."""
        found: list[Misfit] = []
        if self.model is None and self.init_from is None:
            found.append(("model", "is missing: give a preset, a family with its fields, or init_from"))
        if self.model is not None and self.train.seq_len > self.model.max_positions:
            found.append(
                ("train.seq_len", f"{self.train.seq_len} exceeds model.max_positions = {self.model.max_positions}")
            )
        trained = self.data.vocab_size
        if self.model is not None and trained is not None and self.model.vocab_size < trained:
            found.append(("model.vocab_size", f"{self.model.vocab_size} is below data.vocab_size = {trained}"))
        names = [island.name for island in self.island]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            found.append(("island", f"two islands are called {', '.join(twice)}: give each a name of its own"))
        if self.train.compile != "off" and (others := [one.name for one in self.island if one.numerics != "own"]):
            text = f"compiled code has the numerics of this device, and {', '.join(others)} simulates another's"
            found.append(("train.compile", f'{text}: set it to "off"'))
        sequences = (self.train.batch_tokens or 0) // self.train.seq_len
        if self.train.batch_tokens and 0 < sequences < len(names):
            found.append(("train.batch_tokens", f"{self.train.batch_tokens} is less than a sequence for each island"))
        return found

    @property
    def dir(self) -> Path:
        """The run directory."""
        return Path(self.run.out_dir).expanduser() / self.run.name

    @property
    def prepared_dir(self) -> Path:
        """The folder that holds prepared data, one subfolder for each fingerprint."""
        return Path(self.data.prepared_dir or Path(self.run.out_dir) / "prepared").expanduser()

    def to_tables(self) -> dict[str, Any]:
        """Return the tables of an equivalent run file, without empty values."""
        tables = {"schema": SCHEMA, **self.model_dump(mode="json", exclude_none=True)}
        if init_from := tables.pop("init_from", None):
            tables.setdefault("model", {})["init_from"] = init_from
        return tables
