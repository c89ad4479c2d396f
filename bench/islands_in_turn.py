"""Islands of one run in one process, one after the other: the same weights as processes give, in less time.

What is computed is what islands and coordinator compute, by the same functions, for rounds counted in steps; what is
left out is sockets, waiting and the clock. `bench/islands_quality.py check` compares it with real processes.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from everyflop.backend.device import detect
from everyflop.data.prepare import prepare
from everyflop.data.windows import WindowBatch
from everyflop.islands.codec import Flat, behind, decode, encode_keeping, encoded_bytes
from everyflop.islands.commit import Update, merge_updates
from everyflop.islands.flat import flatten, gradients_of, unflatten_into
from everyflop.islands.guards import REMEMBERED
from everyflop.islands.rounds import Round, is_synchronous, stretched_steps, total_samples
from everyflop.islands.samples import Ranges
from everyflop.spec.run import RunSpec
from everyflop.train.local_steps import LocalSteps
from everyflop.train.replica import Replica
from everyflop.train.resume import settle_as_before
from everyflop.train.router_vector import sums_from_vector, sums_to_vector
from everyflop.train.run_dir import RunDir
from everyflop.train.session import build_run_model, build_session
from everyflop.train.simulated_device import SimulatedDevice
from everyflop.train.step import StepSums
from everyflop.train.update import compute, conclude
from everyflop.train.validate import validate


class InTurn:
    """A run with islands of given shares of the batch, in sequences.

    With `paces`, islands do these multiples of a round's steps, where they come to whole steps. With `overlap` every
    update travels for as long as it may while islands train ahead: half a round. `even` rounds are not stretched where
    the learning rate is low. With `grow`, no round has more than this share of the steps done.
    """

    def __init__(
        self,
        run: RunSpec,
        shares: list[int],
        *,
        exchange: bool = True,
        paces: list[float] | None = None,
        even: bool = False,
        grow: float | None = None,
    ):
        torch.set_num_threads(1)
        self.even, self.grow = even, grow
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
        self.step = self.sample = self.exchanges = 0
        self.rates: dict[str, list[float]] = {}
        self.residual: Mapping[str, Flat] = {}
        self.curve: list[tuple[int, float]] = []

    @property
    def tokens(self) -> int:
        """Tokens trained so far."""
        return self.sample * self.run.train.seq_len

    @property
    def samples_left(self) -> int:
        """Samples not trained yet."""
        return total_samples(self.run.train) - self.sample

    def train(self) -> list[tuple[int, float]]:
        """Train to the end; return tokens and validation loss as often as the run validates."""
        apart = False
        while self.samples_left:
            before, self.exchanges = self.step, self.exchanges + self.exchange
            if is_synchronous(self.tokens, self.run.train, self.how) or len(self.shares) == 1:
                self._whole_batch()
            else:
                if not apart:
                    self._spread()
                    apart = True
                self._round(self._planned_steps())
            every = self.run.train.validate_every_steps
            if before // every != self.step // every:
                model, limit = self.replicas[0].session.model, self.run.train.validate_windows
                with self.replicas[0].at_anchor():
                    self.curve.append((self.tokens, validate(model, self.held_out, self.device, limit=limit).loss))
        return self.curve

    def _whole_batch(self) -> None:
        """Do a step as one process would: what gradients of islands' parts add up to, rounded as they travel."""
        session, steps = self.replicas[0].session, self.islands[0]
        steps.begin = self._begin(1, self.sequences)
        batch = steps.stream.batch(self.sample, self.sequences)
        alone = self.how.compress == "fp32" or len(self.shares) == 1
        conclude(session, compute(session, batch) if alone else self._added_up(batch), lr=steps.lr(0))
        session.progress.step += 1
        self.step, self.sample = self.step + 1, self.sample + self.sequences

    def _added_up(self, batch: WindowBatch) -> StepSums:
        """Put what the gradients of islands' parts of a batch add up to into the first replica's weights."""
        session, plan = self.replicas[0].session, Round("gradients", 1, None, self.sequences, {})
        updates: list[Update] = []
        first, sums = self.sample, None
        for steps, share in zip(self.islands, self.shares, strict=True):
            part = steps.stream.batch(first, share)
            sums = compute(session, part, whole=session.step.counts([batch]))
            found = flatten(gradients_of(self.replicas[0].parameters)), sums_to_vector(sums)
            updates.append(self._update(steps, plan, *found, steps=1, samples=share, reach=1.0))
            first += share
        assert sums is not None
        gradient, statistics = self._merged(updates, plan)
        unflatten_into(gradient, gradients_of(self.replicas[0].parameters))
        return sums_from_vector(statistics.astype(np.float64), sums)

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

    def _planned_steps(self) -> int:
        """Return the steps of the next round."""
        assert self.how.steps != "auto"
        steps = self.how.steps
        if not self.even:
            steps = stretched_steps(steps, self.tokens, self.run.train, self.run.optim, self.how)
        if self.grow is not None:
            steps = min(steps, max(1, int(self.grow * self.step)))
        return min(steps, self.samples_left // self.sequences)

    def _round(self, n_steps: int) -> None:
        shares = {steps.spec.name: share for steps, share in zip(self.islands, self.shares, strict=True)}
        plan = Round("weights", n_steps, None, self.sequences, shares)
        whole = all((n_steps * pace).is_integer() for pace in self.paces)
        each = [int(n_steps * pace) if whole else n_steps for pace in self.paces]
        ahead = max(1, n_steps // 2) if self.how.overlap and self.samples_left >= 3 * n_steps * self.sequences else 0
        begins = self.sample
        for steps, n in zip(self.islands, each, strict=True):
            self._train(steps, plan, n, begins)
            begins += n * plan.shares[steps.spec.name]
        self.step, self.sample = self.step + n_steps, begins
        updates = (
            [self._moved(one, plan, n) for one, n in zip(self.islands, each, strict=True)] if self.exchange else []
        )
        for steps in self.islands:
            steps.forget()
        if updates:
            self._apply(*self._merged(updates, plan), ahead)
        else:
            for replica in self.replicas:
                replica.settle()

    def _train(self, steps: LocalSteps, plan: Round, n_steps: int, first: int) -> None:
        """Train one island's part of a round, on samples from `first` on."""
        share = plan.shares[steps.spec.name]
        reach = plan.reach(share) if self.exchange else 1.0
        assert steps.start(self._begin(n_steps, share, reach, [[first, n_steps * share]]))
        steps.replica.anchor_now()
        for _ in range(n_steps - len(steps.lines)):
            steps.step(share)

    def _train_ahead(self, n_steps: int) -> list[Flat]:
        """Train on while updates travel, on the samples of the next round; return where islands had been before."""
        handed_in = [flatten(replica.parameters) for replica in self.replicas] if n_steps else []
        each = [share * self._planned_steps() for share in self.shares]
        for place, (steps, share) in enumerate(zip(self.islands, self.shares, strict=True)):
            steps.left = [[self.sample + sum(each[:place]), n_steps * share]]
            for _ in range(n_steps):
                steps.step(share)
        return handed_in

    def _moved(self, steps: LocalSteps, plan: Round, n_steps: int) -> Update:
        """Return what an island hands in after a round."""
        found, reach = steps.replica.hand_in(n_steps), steps.replica.reach
        return self._update(steps, plan, *found, steps=n_steps, samples=steps.samples, reach=reach)

    def _update(self, one: LocalSteps, plan: Round, array: Flat, statistics: Flat, **work: Any) -> Update:
        replica, how = one.replica, self.how.compress
        residual = replica.residual.get(plan.exchange)
        payload, left = encode_keeping(array, how, statistics, residual=residual)
        replica.residual = {} if left is None else {plan.exchange: left}
        sizes = {"n": array.size, "dtype": array.dtype.name, "compress": how, "hash": replica.hash}
        sizes |= {"n_stats": statistics.size, "stats_dtype": statistics.dtype.name}
        work |= {"weights": replica.weights, "arithmetic": replica.arithmetic, "skipped": 0}
        work["tokens"] = work["samples"] * self.run.train.seq_len
        return Update(one.spec.name, {**sizes, **work}, payload, whole=True)

    def _merged(self, updates: list[Update], plan: Round) -> tuple[Flat, Flat]:
        """Return what a round comes to: the merged array, and statistics."""
        by_name = {one.island: one for one in updates}
        merged = merge_updates(by_name, plan, self.how, rates=self.rates, residual=self.residual)
        assert merged.applied, merged.verdicts
        self.residual = merged.residual
        for name in merged.rates:
            for key, rate in merged.rates_of(name, plan.exchange).items():
                self.rates[key] = [*self.rates.get(key, []), rate][-REMEMBERED:]
        n, how, form, payload = updates[0].header["n"], self.how.compress, merged.form, memoryview(merged.payload)
        size = encoded_bytes(n, how)
        return decode(payload[:size], how, n), behind(payload, form["n_stats"], form["stats_dtype"])

    def _apply(self, update: Flat, statistics: Flat, ahead: int) -> None:
        """Take the merged update after so many steps ahead of it, which stay on top."""
        handed_in = self._train_ahead(min(ahead, self._planned_steps()))
        for place, replica in enumerate(self.replicas):
            on_top = flatten(replica.parameters) - handed_in[place] if handed_in else None
            anchor = replica.anchor_now()
            replica.move_to(replica.outer.apply(anchor, update), statistics, ahead=len(self.islands[place].lines))
            if on_top is not None:
                unflatten_into(replica.anchor_now() + on_top, replica.parameters)
        assert all(a.hash == b.hash for a, b in pairwise(self.replicas))
