"""An island's part of a run: train until the bell, hand in, take what was agreed, go on.

The order of a round is the order of the lines: train > hand in and wait for the commit (or train ahead meanwhile) >
apply > (due?) save, validate.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from everyflop.backend.device import synchronize
from everyflop.islands.checksum import checksum
from everyflop.islands.codec import Flat, Payload, behind, decode, encode_keeping, encoded_bytes
from everyflop.islands.flat import flatten, gradients_of, moved_from, unflatten_into
from everyflop.islands.member import Ended, Member
from everyflop.islands.merge import norm
from everyflop.islands.pace import next_sequences
from everyflop.islands.samples import count, numbers, take
from everyflop.islands.wire import Header
from everyflop.spec.islands import IslandsSpec
from everyflop.train.local_steps import LocalSteps
from everyflop.train.replica import Replica
from everyflop.train.router_vector import sums_from_vector, sums_to_vector
from everyflop.train.step import StepSums
from everyflop.train.stop import StopRequest
from everyflop.train.update import compute, conclude

Answer = tuple[Header, memoryview] | None


@dataclass(slots=True)
class Trained:
    """What an island did in a round, before it hands in."""

    payload: Payload
    facts: dict[str, Any]
    sums: StepSums | None = None
    """Of a single step whose gradients are exchanged."""
    weights: Flat | None = None
    """Where the weights were at the end, while steps are done ahead of the next round."""
    residual: Flat | None = None
    """What rounding to integers leaves for the next exchange, once this one is merged."""


class Island:
    """One island's loop.

    `after_commit(record, leads)` is called when it has moved to a new anchor, `look_again()` where it has none and
    nobody gives it one: checkpoints may.
    """

    def __init__(
        self,
        how: IslandsSpec,
        steps: LocalSteps,
        member: Member,
        *,
        after_commit: Callable[[dict[str, Any], bool], None],
        look_again: Callable[[], None] = lambda: None,
        now_s: Callable[[], float] = time.monotonic,
    ):
        self.how, self.steps, self.member = how, steps, member
        self.replica: Replica = steps.replica
        self.name = steps.spec.name
        self._after_commit, self._look_again, self._now_s = after_commit, look_again, now_s
        self._handed_in_s: float | None = None
        self._began_s = self._finish_s = 0.0
        """When the round began, for all islands alike; and how long the last update took to be made and sent."""
        self._leaving = False
        self._sender = ThreadPoolExecutor(max_workers=1)

    def run(self, stop: StopRequest) -> tuple[str, bool]:
        """Take part until the run has ended, or until a signal asks to leave.

        Returns how it ended ("finished", "stopped", "diverged", "left"), and whether this island finishes for all.
        Raises UsageError when the coordinator refuses this island or stays away.
        """
        begin = None
        self.member.stopping = lambda: stop.signal is not None
        try:
            while not self._leaving:
                begin = self._round(begin or self._join(), stop)
        except Ended as ended:
            return ended.how, ended.leader == self.name
        return "left", False

    def _join(self) -> Header:
        """Return this island's part of the round that is under way, with the state of another island if need be."""
        while True:
            reply = self.member.join(self.replica.standing)
            if reply["kind"] == "begin":
                self._began_s = self._now_s()
                self._handed_in_s = self._handed_in_s or self._began_s
                return reply
            if (state := self.member.fetch()) is not None:
                self.replica.take(*state)
            elif self.replica.record is None:
                self._look_again()

    def _round(self, begin: Header, stop: StopRequest) -> Header | None:
        """Do one round; return the beginning of the next, or None where the island has to join again."""
        if not self.steps.start(begin):
            with self.replica.lock:
                self.replica.go_back()
        trained = self._gradients() if begin["exchange"] == "gradients" else self._weights(stop)
        now_s = self._now_s()
        lost_s = now_s - (self._handed_in_s or self._began_s) - trained.facts["train_s"]
        self._handed_in_s, self._leaving = now_s, stop.signal is not None
        times = {"round_s": now_s - self._began_s, "lost_s": lost_s}
        header = {
            **trained.facts,
            **times,
            "round": begin["round"],
            "hash": self.replica.hash,
            "weights": self.replica.weights,
            "arithmetic": self.replica.arithmetic,
            "sequences": begin["sequences"],
            "reach": begin["reach"],
            "leave": self._leaving,
        }
        answer = self._exchange(header, trained, stop)
        if answer is None or answer[0].get("rejoin"):
            self.steps.forget()
            with self.replica.lock:
                self.replica.go_back()
            return None
        reply, merged = answer
        self._began_s = self._now_s()
        with self.steps.simulated.work(), self.replica.lock:
            self._apply(reply, merged, trained)
            self.replica.round, self.replica.record = begin["round"] + 1, reply["record"]
            self.replica.note_progress()
        self.member.progress += 1
        with self.member.busy():
            self._after_commit(reply["record"], begin["leader"] == self.name)
        if "ended" in reply:
            raise Ended(reply["ended"], reply["leader"])
        return reply["begin"]

    # -- train ---------------------------------------------------------------------------------------------------

    def _gradients(self) -> Trained:
        """Compute the gradients of this island's part of one step; nothing is applied yet."""
        steps, begin, session = self.steps, self.steps.begin, self.replica.session
        if not begin["ranges"]:
            return _nothing()
        started_s = self._now_s()
        used, _ = take(begin["ranges"], begin["sequences"])
        whole = session.step.counts([steps.stream.batch_of(numbers(begin["batch"]))])
        with steps.simulated.work():
            sums = compute(session, steps.stream.batch_of(numbers(used)), whole=whole)
            synchronize(session.step.device)
        step_s = self.member.step_s = self._now_s() - started_s
        with steps.simulated.work():
            gradient, statistics = flatten(gradients_of(self.replica.parameters)), sums_to_vector(sums)
            payload, residual = self._encode(gradient, statistics)
        facts = {"loss": (sums.ce / sums.tokens).item(), "grad_norm": norm(gradient)}
        line = steps.line(count(used), **facts, lr=steps.lr(0), step_s=step_s)
        used_up = {"sizes": [count(used)], "samples": count(used), "tokens": count(used) * steps.seq_len}
        work = {"steps": 1, "skipped": 0, **used_up}
        told = _facts(gradient, statistics, self.how.compress, **work, train_s=step_s, lines=[line])
        return Trained(payload, told, sums, residual=residual)

    def _weights(self, stop: StopRequest) -> Trained:
        """Train from the anchor until the bell, and return how far the weights moved."""
        steps, begin = self.steps, self.steps.begin
        self.replica.part_from_others()
        if not begin["ranges"]:
            return _nothing()
        while steps.left and (sequences := self._next_step(stop)):
            self._step(sequences)
        trained_s = self._now_s()
        with steps.simulated.work():
            skipped = sum("fault" in line for line in steps.lines)
            moved, statistics = self.replica.hand_in(len(steps.lines) - skipped)
            payload, residual = self._encode(moved, statistics)
        self._finish_s = 0.0 if begin["ahead"] else self._now_s() - trained_s + self.member.send_s
        work = {"steps": len(steps.lines), "skipped": skipped}
        work |= {"samples": steps.samples, "tokens": steps.samples * steps.seq_len}
        noted = {"sizes": [*steps.sizes], "train_s": steps.train_s, "lines": [*steps.lines]}
        facts = _facts(moved, statistics, self.how.compress, **work, **noted)
        weights = flatten(self.replica.parameters) if begin["ahead"] else None
        return Trained(payload, facts, weights=weights, residual=residual)

    def _next_step(self, stop: StopRequest) -> int:
        """Return the sequences of the next step of this round; 0 when the round is over. One step is done always."""
        steps, begin = self.steps, self.steps.begin
        share, done = begin["sequences"], len(steps.lines)
        if done and (stop.signal is not None or self.member.hurry.is_set()):
            return 0
        if begin["sizes"] is not None:
            return [*begin["sizes"], 0][done]
        if begin["seconds"] is None:
            return share if done < begin["steps"] else 0
        if not steps.step_time.known:
            return share
        left_s = self._began_s + begin["seconds"] - self._finish_s - self._now_s()
        unit, last_unit = steps.units
        found = next_sequences(steps.step_time, left_s, share, unit=unit, last_unit=last_unit)
        return found or (0 if done else share)

    def _step(self, sequences: int) -> None:
        self.steps.step(sequences)
        self.member.progress, self.member.step_s = self.member.progress + 1, self.steps.last_step_s

    # -- exchange ------------------------------------------------------------------------------------------------

    def _exchange(self, header: Header, trained: Trained, stop: StopRequest) -> Answer:
        """Hand in and wait for the commit; while it is under way, train ahead on samples held for that."""
        self.steps.forget()
        if trained.weights is None or self._leaving:
            return self.member.hand_in(header, trained.payload)
        future: Future[Answer] = self._sender.submit(self.member.hand_in, header, trained.payload)
        while not future.done() and self.steps.left and stop.signal is None and not self.member.hurry.is_set():
            self._step(self.steps.begin["sequences"])
        return future.result()

    def _apply(self, reply: Header, merged: memoryview, trained: Trained) -> None:
        """Take the merged update; what was trained ahead of it stays on top. The lock is held."""
        replica, exchange = self.replica, self.steps.begin["exchange"]
        if reply["applied"] and trained.residual is not None:
            replica.residual = {exchange: trained.residual}
        if exchange == "gradients":
            if reply["applied"]:
                self._apply_gradients(reply, merged, trained)
            replica.settle(checksum(replica.hash.encode(), merged) if reply["applied"] else replica.hash)
            return
        back = moved_from(trained.weights, replica.parameters) if trained.weights is not None else None
        if reply["applied"]:
            anchor, how = replica.anchor_now(), reply["compress"]
            size = encoded_bytes(anchor.size, how, anchor.dtype.name)
            update = decode(merged[:size], how, anchor.size, anchor.dtype.name)
            statistics = _statistics(reply, merged)
            steps_ahead = sum("fault" not in line for line in self.steps.lines)
            replica.move_to(replica.outer.apply(anchor, update), statistics, ahead=steps_ahead)
        else:
            replica.go_back()
        if back is not None:
            unflatten_into(replica.anchor_now() - back, replica.parameters)

    def _apply_gradients(self, reply: Header, merged: memoryview, trained: Trained) -> None:
        """Do the optimizer step of the whole batch."""
        session, sums = self.replica.session, trained.sums
        if sums is None:  # this island had no part in the batch, and needs shapes for its sums
            sums = compute(session, self.steps.stream.batch(0, 1))
        tensors = gradients_of(self.replica.parameters)
        n, dtype = sum(tensor.numel() for tensor in tensors), str(tensors[0].dtype).removeprefix("torch.")
        how = reply["compress"]
        unflatten_into(decode(merged[: encoded_bytes(n, how, dtype)], how, n, dtype), tensors)
        conclude(session, sums_from_vector(_statistics(reply, merged), sums), lr=self.steps.lr(0))

    def _encode(self, array: Flat, statistics: Flat) -> tuple[Payload, Flat | None]:
        """Return what travels, and what rounding leaves for the next exchange of its kind."""
        residual = self.replica.residual.get(self.steps.begin["exchange"])
        return encode_keeping(array, self.how.compress, statistics, residual=residual)


def _facts(array: Flat, statistics: Flat, compress: str, **facts: Any) -> dict[str, Any]:
    sizes = {"n": array.size, "dtype": array.dtype.name, "compress": compress}
    return {**sizes, "n_stats": statistics.size, "stats_dtype": statistics.dtype.name, **facts}


def _nothing() -> Trained:
    """Return the empty update of an island that came too late to train."""
    empty = np.zeros(0)
    work = {"steps": 0, "skipped": 0, "sizes": [], "samples": 0, "tokens": 0}
    return Trained(b"", _facts(empty, empty, "fp32", **work, train_s=0.0, lines=[]))


def _statistics(reply: Header, merged: memoryview) -> Any:
    return behind(merged, reply["n_stats"], reply["stats_dtype"])
