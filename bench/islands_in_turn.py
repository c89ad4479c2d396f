"""Islands of one run in one process, one after the other: the same weights as processes give, in less time.

What is computed is what islands and coordinator compute, by the same functions, for rounds counted in steps; what is
left out is sockets, waiting and the clock. `bench/islands_quality.py check` compares it with real processes.
"""

from itertools import pairwise
from typing import Any

import torch

from everyflop.accounting.rounds import longest_round
from everyflop.backend.device import detect
from everyflop.data.prepare import prepare
from everyflop.islands.codec import behind, decode, encode, encoded_bytes
from everyflop.islands.commit import Merged, Update, merge_updates
from everyflop.islands.guards import REMEMBERED
from everyflop.islands.rounds import Round, is_synchronous, total_samples
from everyflop.islands.samples import Ranges
from everyflop.spec.run import RunSpec
from everyflop.train.local_steps import LocalSteps
from everyflop.train.replica import Replica
from everyflop.train.resume import settle_as_before
from everyflop.train.run_dir import RunDir
from everyflop.train.session import build_run_model, build_session
from everyflop.train.simulated_device import SimulatedDevice
from everyflop.train.update import compute, conclude
from everyflop.train.validate import validate


class InTurn:
    """A run with islands of given shares of the batch, in sequences.

    With `paces`, islands do these multiples of a round's steps, where they come to whole steps.
    """

    def __init__(self, run: RunSpec, shares: list[int], *, exchange: bool = True, paces: list[float] | None = None):
        torch.set_num_threads(1)
        self.paces = paces or [1.0] * len(shares)
        device, self.how, self.shares, self.exchange = detect(processor=True), run.islands, shares, exchange
        settled = settle_as_before(run, RunDir(run.dir), device).settled
        self.run, self.device = settled.run, device.torch
        prepared = prepare(self.run)
        (self.held_out,) = prepared.validation.values()
        sessions = [build_session(settled, build_run_model(settled, device), device) for _ in shares]
        self.replicas = [Replica(session, self.how) for session in sessions]
        stream = prepared.train(self.run.run.seed)
        self.islands = [
            LocalSteps(spec, replica, stream, mfu=lambda _: 0.0, simulated=SimulatedDevice(1.0))
            for spec, replica in zip(self.run.island, self.replicas, strict=True)
        ]
        self.sequences = sum(shares)
        self.step = self.sample = 0
        self.rates: dict[str, list[float]] = {}
        self.residual: Any = None
        self.curve: list[tuple[int, float]] = []

    @property
    def tokens(self) -> int:
        """Tokens trained so far."""
        return self.sample * self.run.train.seq_len

    def train(self) -> list[tuple[int, float]]:
        """Train to the end; return tokens and validation loss as often as the run validates."""
        total, apart = total_samples(self.run.train), False
        while self.sample < total:
            before = self.step
            if is_synchronous(self.tokens, self.run.train, self.how) or len(self.shares) == 1:
                self._whole_batch()
            else:
                if not apart:
                    self._spread()
                    apart = True
                left = (total - self.sample) // self.sequences
                longest = longest_round(self.step, self.how.round_share)
                assert self.how.steps != "auto"
                self._round(min(self.how.steps, longest, left))
            every = self.run.train.validate_every_steps
            if before // every != self.step // every:
                model, limit = self.replicas[0].session.model, self.run.train.validate_windows
                self.curve.append((self.tokens, validate(model, self.held_out, self.device, limit=limit).loss))
        return self.curve

    def _whole_batch(self) -> None:
        """Do a step as one process would; gradients of all islands' parts add up to its."""
        session, steps = self.replicas[0].session, self.islands[0]
        steps.begin = self._begin(1, self.sequences)
        conclude(session, compute(session, steps.stream.batch(self.sample, self.sequences)), lr=steps.lr(0))
        session.progress.step += 1
        self.step, self.sample = self.step + 1, self.sample + self.sequences

    def _spread(self) -> None:
        self.replicas[0].settle()
        for replica in self.replicas[1:]:
            header, payload = self.replicas[0].give()
            replica.take(header, memoryview(payload))

    def _begin(self, steps: int, sequences: int, reach: float = 1.0, ranges: Ranges | None = None) -> dict[str, Any]:
        batch_tokens = self.sequences * self.run.train.seq_len
        places = {"tokens": self.tokens, "batch_tokens": batch_tokens, "step": self.step}
        part = sequences / self.sequences if self.exchange else 1.0
        return {**places, "part": part, "reach": reach, "steps": steps, "sequences": sequences, "ranges": ranges or []}

    def _round(self, n_steps: int) -> None:
        shares = {steps.spec.name: share for steps, share in zip(self.islands, self.shares, strict=True)}
        plan = Round("weights", n_steps, None, self.sequences, shares)
        whole = all((n_steps * pace).is_integer() for pace in self.paces)
        each = [int(n_steps * pace) if whole else n_steps for pace in self.paces]
        begins = self.sample
        for steps, n in zip(self.islands, each, strict=True):
            self._train(steps, plan, n, begins)
            begins += n * plan.shares[steps.spec.name]
        self.step, self.sample = self.step + n_steps, begins
        if self.exchange:
            updates = {one.spec.name: self._update(one, n) for one, n in zip(self.islands, each, strict=True)}
            merged = merge_updates(updates, plan, self.how, rates=self.rates, residual=self.residual)
            self._apply(merged)

    def _train(self, steps: LocalSteps, plan: Round, n_steps: int, first: int) -> None:
        """Train one island's part of a round, on samples from `first` on."""
        share = plan.shares[steps.spec.name]
        steps.forget()
        reach = plan.reach(share) if self.exchange else 1.0
        steps.start(self._begin(n_steps, share, reach, [[first, n_steps * share]]))
        steps.replica.anchor_now()
        for _ in range(n_steps):
            steps.step(share)

    def _update(self, steps: LocalSteps, n_steps: int) -> Update:
        """Return what an island hands in."""
        replica = steps.replica
        moved, statistics = replica.hand_in(n_steps)
        wanted = moved if replica.residual is None else moved + replica.residual
        payload = encode(wanted, self.how.compress, statistics)
        if self.how.compress == "int8":
            size = encoded_bytes(moved.size, "int8")
            replica.residual = wanted - decode(payload[:size], "int8", moved.size)
        sizes = {"n": moved.size, "dtype": moved.dtype.name, "hash": replica.hash}
        sizes |= {"n_stats": statistics.size, "stats_dtype": statistics.dtype.name}
        work = {"steps": n_steps, "samples": steps.samples, "tokens": steps.samples * steps.seq_len}
        work |= {"reach": replica.reach}
        return Update(steps.spec.name, {**sizes, **work, "compress": self.how.compress}, payload, whole=True)

    def _apply(self, merged: Merged) -> None:
        assert merged.applied, merged.verdicts
        self.residual = merged.residual
        for name, rate in merged.rates.items():
            self.rates[f"weights/{name}"] = [*self.rates.get(f"weights/{name}", []), rate][-REMEMBERED:]
        payload = memoryview(merged.payload)
        for replica in self.replicas:
            anchor = replica.anchor_now()
            size = encoded_bytes(anchor.size, merged.form["compress"])
            update = decode(payload[:size], merged.form["compress"], anchor.size)
            statistics = behind(payload, merged.form["n_stats"], merged.form["stats_dtype"])
            replica.move_to(replica.outer.apply(anchor, update), statistics)
        assert all(a.hash == b.hash for a, b in pairwise(self.replicas))
