"""A run's course without sockets, processes or real time."""

import json
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from everyflop.base.files import read_lines
from everyflop.islands.course import Course
from everyflop.islands.roster import Member
from everyflop.islands.round_log import RoundLog
from everyflop.islands.samples import count, numbers
from everyflop.spec.islands import IslandSpec, IslandsSpec

LONGEST_S = 5.0
"""No test waits that long unless something is wrong."""

BY: dict[str, dict[str, Any]] = {
    "steps": {"rounds": "steps", "steps": 2, "sync_share": 0.0},
    "clock": {"rounds": "clock", "steps": 10, "sync_share": 0.0},
    "gradients": {"steps": 1},
}
"""Rounds of two steps of four sequences of ten tokens; or of ten such steps, with two islands of 10 tokens/s each in
20 s; or of one step, after which gradients are exchanged."""


def anchor_of(record: dict[str, Any]) -> str:
    """Return a hash as different as the past that led to it."""
    return f"{zlib.crc32(json.dumps(record, sort_keys=True).encode()):08x}"


class Wire:
    """A connection as far as a course knows it."""

    sent_bytes = received_bytes = 0


class Run:
    """A course with a clock of its own, somebody who listens, and islands that remember where they stand."""

    def __init__(self, log: Path, islands: str = "ab", *, batches: int = 4, by: str = "steps", **how: Any):
        self.log, self.names, self.now_s = log, islands, 1000.0
        self.how = IslandsSpec(**(BY[by] | how))
        self.facts = {"train": {"tokens": 40 * batches, "seq_len": 10, "batch_tokens": 40}, "seed": 1}
        self.facts["optim"] = {"schedule": "constant"}
        self.facts["islands"] = self.how.model_dump(mode="json")
        self.prices: dict[str, float] = {}
        """Of each island's hour."""
        self.stands: dict[str, dict[str, Any]] = {}
        self.past: dict[str, list[int]] = {"h0": []}
        """Hash of an anchor -> the samples that it has seen, in any order."""
        self.begins: dict[str, Any] = {}
        self.members: dict[str, Member] = {}
        self.old: set[str] = set()
        """Islands whose process has been in the run before."""
        self.waiting: set[str] = set()
        """Islands that have handed in and not had their answer yet."""
        self.restart()

    def restart(self) -> None:
        """Let a new coordinator take the place of the old one; islands notice, and say nothing yet."""
        self.events: list[dict[str, Any]] = []
        self.members, self.begins, self.waiting = {}, {}, set()
        specs = tuple(IslandSpec(name=name, price_per_device_hour=self.prices.get(name)) for name in self.names)
        self.course = Course(specs, self.how, RoundLog(self.log), self, now_s=lambda: self.now_s)

    def event(self, kind: str, **facts: Any) -> None:
        self.events.append({"kind": kind, **facts})

    def committed(self, record: dict[str, Any], steps: list[dict[str, Any]]) -> None:
        self.event("commit", record=record, steps=steps)
        entries = record["members"].values()
        seen = [number for entry in entries for number in numbers(entry["ranges"])]
        [(before, _)] = Counter(entry["hash"] for entry in entries).most_common(1)
        self.past[anchor_of(record)] = self.past.get(before, []) + seen

    def rewound(self, number: int) -> None:
        self.event("rewound", round=number)

    def kinds(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["kind"] == kind]

    def join(
        self, name: str, round_number: int = -1, anchor: str = "", *, record: Any = None, speed: float = 10.0
    ) -> Any:
        """Let an island join from where it stands, or from where it says; return the reply, None while it waits."""
        if round_number >= 0:
            self.stands[name] = {"round": round_number, "hash": anchor or f"h{round_number}", "record": record}
        stand = self.stands.setdefault(name, {"round": 0, "hash": "h0", "record": None})
        stand = {**stand, "fresh": name not in self.old, "arithmetic": "one"}
        hello = {**stand, "facts": self.facts, "tokens_per_s": speed, "session": name}
        member = self.course.admit(name, hello, Wire())
        if isinstance(member, str):
            return member
        self.members[name], member.pulse = member, Wire()
        self.course.stand(member, stand)
        self.course.advance()
        return self.part(name)

    def join_all(self) -> None:
        for name in self.names:
            self.join(name)
        for name in self.names:
            self.part(name)

    def part(self, name: str) -> Any:
        reply = self.course.part(self.members[name])
        if reply is not None and reply[0]["kind"] == "begin":
            self.begins[name] = reply[0]
        return None if reply is None else reply[0]

    def hand_in(self, name: str, value: float = 1.0, *, leave: bool = False, whole: bool = True, **facts: Any) -> Any:
        """Hand in an island's whole part, or what `facts` say of it; return a reply only if it cannot count."""
        begin = self.begins[name]
        samples = facts.get("samples", count(begin["ranges"]))
        payload = np.array([value], dtype=np.float32).tobytes() + np.zeros(1).tobytes() if begin["steps"] else b""
        work = {
            "samples": samples,
            "tokens": 10 * samples,
            "steps": begin["steps"],
            "train_s": float(samples > 0),
            "lines": [],
        }
        sizes = {"n": 1, "n_stats": 1, "stats_dtype": "float64", "dtype": "float32", "compress": "fp32", "lost_s": 0.0}
        seconds = {"train_s": float(samples > 0), "round_s": 1.0, "sequences": 1, "reach": 1.0, "sizes": [1]}
        stand = {"round": begin["round"], "hash": self.stands[name]["hash"], "leave": leave}
        stand |= {"weights": stand["hash"], "arithmetic": "one", "skipped": 0}
        reply = self.course.take(
            self.members[name], {**work, **sizes, **seconds, **stand, **facts}, memoryview(payload), whole=whole
        )
        if reply is None:
            self.waiting.add(name)
            return None
        return self._rejoin(name, reply[0])

    def _rejoin(self, name: str, reply: Any) -> Any:
        self.begins.pop(name, None)
        self.course.stand(self.members[name], {**self.stands[name], "fresh": False, "arithmetic": "one"})
        return reply

    def answer(self, name: str) -> Any:
        """Return what came of the round that an island handed in for, and let it go on as it is told."""
        reply = self.course.answer(self.members[name], self.begins[name]["round"])
        if reply is None:
            return None
        self.waiting.discard(name)
        if reply[0].get("rejoin"):
            return self._rejoin(name, reply[0])
        self.old.add(name)
        number, record = self.begins.pop(name)["round"] + 1, json.loads(json.dumps(reply[0]["record"]))
        self.stands[name] = {"round": number, "hash": anchor_of(record), "record": record}
        if reply[0]["begin"]:
            self.begins[name] = reply[0]["begin"]
        return reply[0]

    def round(self, *names: str) -> dict[str, Any]:
        """Let islands hand in, commit, and answer all of them; return the answers."""
        for name in names:
            assert self.hand_in(name) is None
        assert self.course.advance()
        return {name: self.answer(name) for name in names}

    def lose(self, name: str) -> None:
        self.course.drop(self.members.pop(name), "it broke off")
        self.begins.pop(name, None)
        self.waiting.discard(name)
        self.old.discard(name)

    def live(self, action: str, name: str, n: int) -> None:
        """Let one thing happen, if it can; then everybody takes what answer there is."""
        if action == "join" and name not in self.members:
            self.join(name)
        elif action in ("hand in", "part of it") and name in self.begins and name not in self.waiting:
            some = min(n, count(self.begins[name]["ranges"]))
            self.hand_in(name, **({} if action == "hand in" else {"samples": some, "steps": min(some, 1)}))
        elif action == "lose" and name in self.members:
            self.lose(name)
        elif action == "tick":
            self.now_s += n
            self.course.advance()
        elif action == "crash":
            self.course.advance()  # a commit perhaps, of which nobody hears
            self.restart()
        for member in list(self.members):
            self.ask(member)

    def ask(self, name: str) -> None:
        """Let an island take its answer, or its part in a round, or fetch what it lacks, if there is any of these."""
        if name in self.waiting:
            self.answer(name)
        if name in self.begins or (self.part(name) or {}).get("kind") != "fetch":
            return
        if donors := self.course.donors(self.members[name]):
            self.stands[name] = self.stands[donors[0].name]
        fresh = name not in self.old
        self.course.stand(self.members[name], {**self.stands[name], "fresh": fresh, "arithmetic": "one"})

    def used(self) -> list[int]:
        """Return the samples that the log says were used, in its order."""
        lines = read_lines(self.log)
        return [number for line in lines for entry in line["members"].values() for number in numbers(entry["ranges"])]


@pytest.fixture(scope="session")
def at_once() -> Callable[..., list[object]]:
    """Return what calls return, or the exceptions that they raise, each in a thread of its own."""

    def all_at_once(*calls: Callable[[], object]) -> list[object]:
        results: dict[int, object] = {}

        def run(place: int) -> None:
            try:
                results[place] = calls[place]()
            except Exception as error:
                results[place] = error

        threads = [threading.Thread(target=run, args=(place,), daemon=True) for place in range(len(calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONGEST_S)
        return [results.get(place, "still at it") for place in range(len(calls))]

    return all_at_once


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., Run]:
    """Return what makes a run: new_run("abc", batches=4, by="steps", join_s=60.0)."""
    return lambda *names, **how: Run(tmp_path / "rounds.jsonl", *names, **how)


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Return what makes runs that find no earlier log."""
    return lambda *names, **how: Run(tmp_path_factory.mktemp("run") / "rounds.jsonl", *names, **how)
