"""The optimizer steps that an island does by itself between two exchanges, and what it notes about them."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from everyflop.data.stream import TrainStream
from everyflop.islands.pace import StepTime
from everyflop.islands.samples import Ranges, count, numbers, take
from everyflop.islands.wire import Header
from everyflop.optim.schedules import lr_at
from everyflop.spec.islands import IslandSpec
from everyflop.train.replica import Replica
from everyflop.train.simulated_device import SimulatedDevice
from everyflop.train.update import compute, conclude

NEARLY = 0.75
"""Of a micro-batch: an island does a few steps less than the others where its own are a third larger at most."""


class LocalSteps:
    """Steps on the samples that an island holds, in their order. `lines` are their metrics, one each."""

    def __init__(
        self,
        spec: IslandSpec,
        replica: Replica,
        stream: TrainStream,
        *,
        mfu: Callable[[float], float],
        simulated: SimulatedDevice,
        now_s: Callable[[], float] = time.monotonic,
    ):
        self.spec, self.replica, self.stream = spec, replica, stream
        self.simulated = simulated
        self.step_time = StepTime()
        self._mfu, self._now_s = mfu, now_s
        self.seq_len = replica.session.settled.run.train.seq_len
        self.begin: Header = {}
        self.left: Ranges = []
        self.used: Ranges = []
        self.sizes: list[int] = []
        """Sequences of each step that `lines` has."""
        self.lines: list[dict[str, Any]] = []
        self._handed_in = 0
        """Steps of the round that are handed in, while steps are done ahead of the next one."""

    @property
    def samples(self) -> int:
        """How many samples the steps used."""
        return count(self.used)

    @property
    def train_s(self) -> float:
        """Time that the steps took."""
        return sum(line["step_s"] for line in self.lines)

    @property
    def last_step_s(self) -> float:
        """Time of the last step; 0 before the first."""
        return self.lines[-1]["step_s"] if self.lines else 0.0

    @property
    def units(self) -> tuple[int, int]:
        """What the sizes of steps, and of the last one of a round, are multiples of.

        Whole micro-batches are faster (1 to 5 % in bench/islands.toml, more where they are a whole step, whose
        optimizer takes as long for any size), and a share of nearly one is rounded up to it. A compiled model must see
        few shapes always.
        """
        micro_batch, share = self.replica.session.settled.micro_batch, self.begin["sequences"]
        whole = micro_batch if share >= NEARLY * micro_batch else share
        return whole, whole if self.replica.session.model.compiled else 1

    def start(self, begin: Header) -> bool:
        """Begin a round. Steps done ahead of it count as its first, if the round's samples begin with theirs.

        Returns False where they do not: the steps are forgotten then, and the weights must go back to the anchor.
        """
        first, left = take(begin["ranges"], min(self.samples, count(begin["ranges"])))
        fits = numbers(first) == numbers(self.used)
        if not fits:
            self.forget()
            left = begin["ranges"]
        self.begin, self.left, self._handed_in = begin, left, 0
        if begin["part"] > 0:
            self.replica.train_on(begin["part"], begin["reach"])
        for done, line in enumerate(self.lines):
            line.update(self._place(done))
        return fits

    def forget(self) -> None:
        """Forget the steps done, which are handed in or lost; samples that are left stay."""
        self._handed_in += len(self.lines)
        self.used, self.sizes, self.lines = [], [], []

    def step(self, sequences: int) -> None:
        """Do one step on the next so many samples."""
        session, started_s = self.replica.session, self._now_s()
        used, self.left = take(self.left, min(sequences, count(self.left)))
        lr = self.lr(self._handed_in + len(self.lines))
        with self.simulated.work():
            sums = compute(session, self.stream.batch_of(numbers(used)))
            with self.replica.lock:
                attempt = conclude(session, sums, lr=lr * self.replica.reach, part=self.replica.part)
        step_s = self._now_s() - started_s
        self.step_time.note(count(used), step_s)
        line = self.line(count(used), loss=attempt.loss, grad_norm=attempt.grad_norm, lr=lr, step_s=step_s)
        self.lines.append(line | ({"fault": attempt.fault} if attempt.fault else {}))
        self.used += used
        self.sizes.append(count(used))
        session.progress.step += 1

    def lr(self, done: int) -> float:
        """Return the learning rate of the step after `done` steps of this round."""
        settled = self.replica.session.settled
        return lr_at(
            self.begin["tokens"] + done * self.begin["batch_tokens"],
            batch_tokens=self.begin["batch_tokens"],
            optim=settled.run.optim,
            peak_lr=settled.peak_lr,
            total_tokens=settled.run.train.tokens,
        )

    def line(self, sequences: int, **facts: float) -> dict[str, Any]:
        """Return the metrics of a step on so many sequences, as the run's metrics.jsonl has them."""
        tokens_per_s = sequences * self.seq_len / facts["step_s"]
        finite = {key: value if np.isfinite(value) else None for key, value in facts.items()}
        measured = {"tokens_per_s": tokens_per_s, "mfu": self._mfu(tokens_per_s), "island": self.spec.name}
        return {**self._place(len(self.lines)), **finite, **measured}

    def _place(self, done: int) -> dict[str, int]:
        begin = self.begin
        return {"step": begin["step"] + done + 1, "tokens": begin["tokens"] + (done + 1) * begin["batch_tokens"]}
