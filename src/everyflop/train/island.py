"""An island's part of a run: train until the bell, hand in, take what was agreed, go on.

The order of a round is the order of the lines: train > hand in and wait for the commit > apply > (due?) save, validate.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from everyflop.data.stream import TrainStream
from everyflop.islands.codec import Flat, decode, encode, encoded_bytes
from everyflop.islands.flat import flatten, unflatten_into
from everyflop.islands.member import Ended, Member
from everyflop.islands.merge import norm
from everyflop.islands.rounds import another_step
from everyflop.islands.samples import count, numbers, take
from everyflop.islands.wire import Header
from everyflop.optim.schedules import lr_at
from everyflop.spec.islands import IslandSpec, IslandsSpec
from everyflop.train.replica import Replica
from everyflop.train.router_vector import routers_to_vector, sums_from_vector, sums_to_vector
from everyflop.train.session import Session
from everyflop.train.step import StepSums
from everyflop.train.stop import StopRequest
from everyflop.train.update import compute, conclude


@dataclass(slots=True)
class Trained:
    """What an island did in a round, before it hands in."""

    payload: bytes
    facts: dict[str, Any]
    sums: StepSums | None = None
    """Of a single step whose gradients are exchanged."""


class Island:
    """One island's loop."""

    def __init__(
        self,
        spec: IslandSpec,
        how: IslandsSpec,
        replica: Replica,
        stream: TrainStream,
        member: Member,
        *,
        after_commit: Callable[[dict[str, Any], bool], None],
        mfu: Callable[[float], float],
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.spec, self.how, self.replica, self.stream, self.member = spec, how, replica, stream, member
        self._after_commit, self._mfu, self._now_s, self._sleep = after_commit, mfu, now_s, sleep
        self._handed_in_s: float | None = None
        self._leaving = False

    @property
    def session(self) -> Session:
        """What trains."""
        return self.replica.session

    def run(self, stop: StopRequest) -> tuple[str, bool]:
        """Take part until the run has ended, or until a signal asks to leave.

        Returns "finished", "stopped" or "left", and whether this island finishes for all.

        Raises UsageError when the coordinator refuses this island or stays away.
        """
        begin = None
        try:
            while not self._leaving:
                begin = self._round(begin or self._join(), stop)
        except Ended as ended:
            return ended.how, ended.leader == self.spec.name
        return "left", False

    def _join(self) -> Header:
        """Return this island's part of the round that is under way, with the state of another island if need be."""
        while True:
            reply = self.member.join(self.replica.standing)
            if reply["kind"] == "begin":
                self._handed_in_s = self._handed_in_s or self._now_s()
                return reply
            if (state := self.member.fetch()) is not None:
                self.replica.take(*state)

    def _round(self, begin: Header, stop: StopRequest) -> Header | None:
        """Do one round; return the beginning of the next, or None where the island has to join again."""
        self.member.hurry.clear()
        began_s = self._now_s()
        trained = self._gradients(begin) if begin["exchange"] == "gradients" else self._weights(begin, stop, began_s)
        now_s = self._now_s()
        lost_s = now_s - (self._handed_in_s or began_s) - trained.facts["train_s"]
        self._handed_in_s, self._leaving = now_s, stop.signal is not None
        header = {
            **trained.facts,
            "round": begin["round"],
            "hash": self.replica.hash,
            "round_s": now_s - began_s,
            "lost_s": lost_s,
            "leave": self._leaving,
        }
        answer = self.member.hand_in(header, trained.payload)
        if answer is None:
            self._undo()
            return None
        reply, merged = answer
        if reply.get("rejoin"):
            self._undo()
            return None
        with self.replica.lock:
            self._apply(reply, merged, trained, begin)
            self.replica.round, self.replica.record = begin["round"] + 1, reply["record"]
            self.replica.note_progress()
        self.member.progress += 1
        self._after_commit(reply["record"], begin["leader"] == self.spec.name)
        if "ended" in reply:
            raise Ended(reply["ended"], begin["leader"])
        return reply["begin"]

    def _gradients(self, begin: Header) -> Trained:
        """Compute the gradients of this island's part of one step; nothing is applied yet."""
        if not begin["ranges"]:
            return _nothing(self.replica)
        started_s = self._now_s()
        used, _ = take(begin["ranges"], begin["sequences"])
        whole = self.session.step.counts([self.stream.batch_of(numbers(begin["batch"]))])
        sums = compute(self.session, self.stream.batch_of(numbers(used)), whole=whole)
        self._stretch(started_s)
        step_s = self._now_s() - started_s
        gradient, statistics = flatten(self._gradient_tensors()), sums_to_vector(sums)
        loss = (sums.ce / sums.tokens).item()
        line = self._line(begin, 0, loss=loss, grad_norm=norm(gradient), lr=self._lr(begin, 0), step_s=step_s)
        facts = _facts(gradient, statistics, "fp32", steps=1, samples=count(used), train_s=step_s, lines=[line])
        facts["tokens"] = self._tokens(count(used))
        return Trained(encode(gradient, "fp32") + statistics.tobytes(), facts, sums)

    def _weights(self, begin: Header, stop: StopRequest, began_s: float) -> Trained:
        """Train from the anchor until the bell, and return how far the weights moved."""
        if not begin["ranges"]:
            return _nothing(self.replica)
        anchor = self.replica.anchor_now()
        left, lines, step_s = begin["ranges"], [], 0.0
        while another_step(
            done=len(lines),
            elapsed_s=self._now_s() - began_s,
            last_step_s=step_s,
            seconds=begin["seconds"],
            steps=begin["steps"],
        ):
            if not left or (lines and (stop.signal is not None or self.member.hurry.is_set())):
                break
            started_s = self._now_s()
            used, left = take(left, min(begin["sequences"], count(left)))
            sums = compute(self.session, self.stream.batch_of(numbers(used)))
            lr = self._lr(begin, len(lines))
            with self.replica.lock:
                attempt = conclude(self.session, sums, lr=lr)
            self._stretch(started_s)
            step_s = self._now_s() - started_s
            lines.append(
                self._line(begin, len(lines), loss=attempt.loss, grad_norm=attempt.grad_norm, lr=lr, step_s=step_s)
                | ({"fault": attempt.fault} if attempt.fault else {})
            )
            self.session.progress.step += 1
            self.member.progress, self.member.step_s = self.member.progress + 1, step_s
        moved, statistics = anchor - flatten(self.replica.parameters), routers_to_vector(self.session)
        payload, self.replica.residual = _encode(moved, self.how.compress, self.replica.residual)
        samples = count(begin["ranges"]) - count(left)
        train_s = sum(line["step_s"] for line in lines)
        facts = _facts(
            moved, statistics, self.how.compress, steps=len(lines), samples=samples, train_s=train_s, lines=lines
        )
        facts["tokens"] = self._tokens(samples)
        return Trained(payload + statistics.tobytes(), facts)

    def _apply(self, reply: Header, merged: memoryview, trained: Trained, begin: Header) -> None:
        """Take the merged update. The lock is held."""
        replica = self.replica
        if begin["exchange"] == "gradients":
            if reply["applied"]:
                self._apply_gradients(reply, merged, trained, begin)
            replica.settle()
            return
        anchor = replica.anchor_now()
        if reply["applied"]:
            how, n = reply["compress"], anchor.size
            update = decode(merged[: encoded_bytes(n, how, anchor.dtype.name)], how, n, anchor.dtype.name)
            anchor = replica.outer.apply(anchor, update)
            replica.move_to(anchor, _statistics(reply, merged))
        else:
            replica.move_to(anchor, replica.routers)

    def _apply_gradients(self, reply: Header, merged: memoryview, trained: Trained, begin: Header) -> None:
        """Do the optimizer step of the whole batch."""
        tensors, sums = self._gradient_tensors(), trained.sums
        if sums is None:  # this island had no part in the batch, and needs shapes for its sums
            batch = self.stream.batch(0, 1)
            sums = compute(self.session, batch)
            tensors = self._gradient_tensors()
        n, dtype = sum(tensor.numel() for tensor in tensors), tensors[0].dtype
        name = str(dtype).removeprefix("torch.")
        unflatten_into(decode(merged[: encoded_bytes(n, "fp32", name)], "fp32", n, name), tensors)
        conclude(self.session, sums_from_vector(_statistics(reply, merged), sums), lr=self._lr(begin, 0))

    def _undo(self) -> None:
        """Go back to the anchor: what was trained since is lost."""
        with self.replica.lock:
            if self.replica.anchor is not None:
                self.replica.move_to(self.replica.anchor, self.replica.routers)
            self.replica.note_progress()

    def _gradient_tensors(self) -> list[Any]:
        for parameter in self.replica.parameters:
            if parameter.grad is None:  # an expert that no token chose
                parameter.grad = parameter.detach().new_zeros(parameter.shape)
        return [parameter.grad for parameter in self.replica.parameters]

    def _lr(self, begin: Header, done: int) -> float:
        settled = self.session.settled
        return lr_at(
            begin["tokens"] + done * begin["batch_tokens"],
            batch_tokens=begin["batch_tokens"],
            optim=settled.run.optim,
            peak_lr=settled.peak_lr,
            total_tokens=settled.run.train.tokens,
        )

    def _tokens(self, samples: int) -> int:
        return samples * self.session.settled.run.train.seq_len

    def _line(self, begin: Header, done: int, **facts: float) -> dict[str, Any]:
        """Return a step's metrics, as the run's metrics.jsonl has them."""
        tokens_per_s = self._tokens(begin["sequences"]) / facts["step_s"]
        tokens = begin["tokens"] + (done + 1) * begin["batch_tokens"]
        measured = {"tokens_per_s": tokens_per_s, "mfu": self._mfu(tokens_per_s)}
        finite = {key: value if np.isfinite(value) else None for key, value in facts.items()}
        return {"step": begin["step"] + done + 1, "tokens": tokens, **finite, **measured, "island": self.spec.name}

    def _stretch(self, started_s: float) -> None:
        """Wait as long as a slower device would have taken (simulated)."""
        if self.spec.slowdown > 1:
            self._sleep((self.spec.slowdown - 1) * (self._now_s() - started_s))


def _facts(array: Flat, statistics: Flat, compress: str, **facts: Any) -> dict[str, Any]:
    sizes = {"n": array.size, "dtype": array.dtype.name, "n_stats": statistics.size}
    return {**sizes, "compress": compress, **facts}


def _nothing(replica: Replica) -> Trained:
    """Return the empty update of an island that came too late to train."""
    empty = np.zeros(0)
    facts = _facts(empty, empty, "fp32", steps=0, samples=0, tokens=0, train_s=0.0, lines=[])
    return Trained(b"", facts)


def _encode(moved: Flat, how: str, residual: Flat | None) -> tuple[bytes, Flat | None]:
    """Return what travels, and what rounding leaves for the next update (int8 only)."""
    if how != "int8":
        return encode(moved, how), None
    wanted = moved if residual is None else moved + residual
    payload = encode(wanted, how)
    return payload, wanted - decode(payload, how, moved.size)


def _statistics(reply: Header, merged: memoryview) -> Any:
    return np.frombuffer(merged[len(merged) - 8 * reply["n_stats"] :], dtype=np.float64)
