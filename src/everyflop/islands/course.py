"""The course of a run with islands: who takes part, what each does in the round, what a commit changes.

No sockets and no threads here: coordinator.py calls it with its lock held, and tests with a clock of their own. It
holds no weights and needs no torch. What it knows is in the last commit, which every island has too: after a restart
the newest anchor among the islands that join says where the run goes on.

States: gathering (`round` is None) > a round > commit > the next round ... > `ended`.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from everyflop.base.clock import utc
from everyflop.islands.admission import agreed, first_speed, refusal
from everyflop.islands.checksum import checksum
from everyflop.islands.commit import Merged, Update, merge_updates
from everyflop.islands.gathering import holders
from everyflop.islands.listener import Listener
from everyflop.islands.roster import BEHIND_S, Member, Reply, Roster
from everyflop.islands.round_log import SCHEMA, RoundLog
from everyflop.islands.rounds import Round, plan_round, total_samples
from everyflop.islands.samples import Ranges, SampleTable, count
from everyflop.islands.wire import Header
from everyflop.spec.islands import IslandSpec, IslandsSpec
from everyflop.spec.train import OptimSpec, TrainSpec

MOST_BARREN = 5
"""After this many rounds without a sound update the weights are the cause, not the data."""


class Course:
    """One run's course."""

    def __init__(
        self,
        islands: tuple[IslandSpec, ...],
        how: IslandsSpec,
        log: RoundLog,
        listener: Listener,
        *,
        asked: Mapping[str, Any] | None = None,
        now_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
    ):
        self.islands = {island.name: island for island in islands}
        self.how, self.log, self.listener, self.asked = how, log, listener, asked or {}
        self.now_s, self.wall_s, self._started_s = now_s, wall_s, now_s()
        self.roster, self.table = Roster({one.name: one.price_per_hour for one in islands}), SampleTable(0)
        self.round: Round | None = None
        self.number = self.step = self.tokens = 0
        self.loss: float | None = None
        """Mean over the steps of the last round."""
        self.ended = ""
        """"finished", "stopped" or how it failed, once the run is over: see endings.py."""
        self.barren = 0
        """Rounds in a row of which nothing could be merged."""
        self.stopping = False
        """Set from outside: end the run at the next commit."""
        self.base = ""
        """Hash of the anchor of this round; empty until somebody said it."""
        self.facts: dict[str, Any] | None = None
        self.train, self.optim = None, OptimSpec()
        self.begins: dict[str, Header] = {}
        """Each island's part in the round that is under way."""
        self.updates: dict[str, Update] = {}
        """What was handed in so far."""
        self._last: dict[str, Any] | None = None
        """The commit that led to this round."""
        self._begun, self._known = False, (log.last() or {"round": -1})["round"] + 1
        """Whether a round has begun here, and the number of the newest that an anchor is known of."""
        self.leader = ""
        """The island that saves and validates for all: the first of the run file among those that hold the anchor."""
        self._batch: Ranges = []
        """The samples of all islands in a step whose gradients are exchanged."""
        self._residual: Mapping[str, Any] = {}
        self._gathering_s: float | None = None

    # -- islands come and go -------------------------------------------------------------------------------------

    def admit(self, name: str, hello: Header, connection: Any) -> Member | str:
        """Take an island in, or return why not."""
        facts = hello["facts"]
        run = agreed(self.facts or facts, {**self.asked, "islands": self.how.model_dump(mode="json")})
        if why := refusal(name, facts, known=[*self.islands], present=[*self.roster.members], run=run):
            self.listener.event("refused", island=name, cause=why)
            return why
        if self.facts is None:
            self.facts, self.train, self.optim = facts, TrainSpec(**facts["train"]), OptimSpec(**facts["optim"])
        now = self.now_s()
        self.roster.charge(now)
        facts = {"session": hello["session"], "measured": float(hello["tokens_per_s"])}
        member = Member(name, connection, **facts, last_seen_s=now, progressed_s=now)
        member.speed = first_speed(self.islands[name], self.how, member.measured)
        self.roster.admit(member)
        self._gathering_s = now if self._gathering_s is None else self._gathering_s
        self.listener.event("join", island=name, round=hello["round"], tokens_per_s=member.speed)
        return member

    def stand(self, member: Member, header: Header) -> None:
        """Take note of where an island stands."""
        member.round, member.hash, member.record = header["round"], header["hash"], header["record"]
        member.phase, member.progressed_s, member.fresh = "joining", self.now_s(), header["fresh"]
        member.fetching, member.arithmetic = False, header["arithmetic"]
        member.abandoned = self.round is None and self.log.went_on_without(member.record)

    def part(self, member: Member) -> Reply | None:
        """Return an island's part in the round that is under way, or that it needs the anchor; None: not yet."""
        if self.ended:  # who led, and came back without the end, finishes nothing
            return self._ended_reply("" if member.name == self.leader and member.record != self._last else self.leader)
        if self.round is None:
            return None
        if member.name in self.updates:
            return None  # it was lost after it had handed in: that counts, and it takes what comes of it from others
        other = (self.base and member.hash != self.base) or member.record != self._last
        if member.round != self.number or other:
            member.phase, member.progressed_s = "catching up", self.now_s()
            if member.behind[0] != self.number:
                member.behind = self.number, self.now_s()
            return {"kind": "fetch"}, b""
        member.phase, member.progressed_s = "in round", self.now_s()
        if member.name not in self.begins:
            self.begins[member.name] = self._late_part(member)
        return self.begins[member.name], b""

    def _late_part(self, member: Member) -> Header:
        """Return a part in the round for an island that comes late to it; an empty one when that is not worth it."""
        assert self.round is not None
        speed_share = member.speed / sum(other.speed for other in self.roster.members.values())
        share, steps = self.round.late_part(self.now_s() - self._started_s, speed_share)
        ranges = self.table.top_up(member.name, (steps + 1) * share) if steps else []
        return self._begin(member.name, sequences=share, steps=steps, ranges=ranges)

    def donors(self, joiner: Member) -> list[Member]:
        """Return islands that hold the anchor and can give it, first those that round alike, and of them the leader."""
        able = [member for member in self._in_round() if member.pulse is not None and member is not joiner]
        return sorted(able, key=lambda one: (one.arithmetic != joiner.arithmetic, one.name != self.leader))

    def drop(self, member: Member, why: str) -> None:
        """Let an island go: its samples return, and what it handed in before it was lost still counts."""
        if self.roster.members.get(member.name) is not member:
            return
        self.roster.charge(self.now_s())
        del self.roster.members[member.name]
        if not self.roster.members:
            self._gathering_s = None
        member.lost = member.lost or why
        self.begins.pop(member.name, None)
        if member.name not in self.updates:
            self.table.give_back(member.name)
        self.listener.event("left" if member.leaving or self.ended else "lost", island=member.name, cause=why)

    def gone(self) -> list[tuple[Member, str]]:
        """Return the islands that must be taken for lost, and why."""
        now = self.now_s()
        return [(member, why) for member in self.roster.members.values() if (why := member.gone(now, self.how))]

    # -- a round -------------------------------------------------------------------------------------------------

    def advance(self) -> bool:
        """Do whatever can be done now: begin, commit, end. Returns whether anything changed."""
        if self.ended:
            return False
        if self.round is None:
            if self.stopping:
                self._end("stopped")
            return self._gather() or bool(self.ended)
        if not self._in_round():
            self.listener.event("empty", round=self.number)
            self._await_islands()
            return True
        if self._all_handed_in():
            self._commit()
            return True
        return False

    def _gather(self) -> bool:
        """Begin once all islands are there, or those that came within join_s: with the newest anchor among them."""
        ready = [m for m in self.roster.members.values() if m.phase == "joining" and m.hash]
        if not ready or self._gathering_s is None:
            return False
        # Where only the coordinator is new, those who were there a moment ago are back at once, or join the round late.
        wait_s = self.how.join_s if all(member.fresh for member in ready) else self.how.heartbeat_s / 2
        found = holders(ready)
        if found[0].round + 1 < max(self._known, self.number):
            wait_s = max(wait_s, BEHIND_S)
        if len(ready) < len(self.islands) and self.now_s() - self._gathering_s < wait_s:
            return False
        self.base = found[0].hash
        self._go_on_from(found[0].record, found[0].round)
        self._plan([member.name for member in found])
        return True

    def _go_on_from(self, record: dict[str, Any] | None, number: int) -> None:
        assert self.train is not None
        self.number, self._known = number, number
        self.step, self.tokens = (record["step"], record["tokens"]) if record else (0, 0)
        self.table = SampleTable.from_json(record["table"]) if record else SampleTable(0)
        self.table.total = total_samples(self.train)  # it may be another now
        self.roster.restore(record, known=() if self._begun else (record, self.log.last()))
        self._begun, self._last = True, record
        if dropped := self.log.cut(number):
            self.listener.event("rewind", round=number, dropped_rounds=dropped)
        self.listener.rewound(number)

    def _plan(self, names: list[str]) -> None:
        """Begin the next round with these islands, or end the run."""
        assert self.train is not None
        self.leader = next(name for name in self.islands if name in names)
        left = self.table.total - self.table.consumed
        if self.stopping or left <= 0:
            self._end("stopped" if left > 0 else "finished")
            return
        speeds = {name: self.roster.members[name].speed for name in names}
        done = {"tokens_done": self.tokens, "samples_left": left, "last": self._last}
        plan = plan_round(speeds, self.train, self.optim, self.how, **done)
        self.round, self._started_s, self.updates, self.begins = plan, self.now_s(), {}, {}
        available = self.table.unclaimed + sum(count(ranges) for ranges in self.table.held.values())
        held = {name: self.table.top_up(name, n) for name, n in sorted(plan.holdings(available).items())}
        self._batch = [one for ranges in held.values() for one in ranges] if plan.exchange == "gradients" else []
        for name, ranges in held.items():
            begin = self._begin(name, sequences=plan.shares[name], steps=plan.steps, ranges=ranges)
            self.begins[name] = {**begin, "ahead": plan.ahead}
            member = self.roster.members[name]
            member.phase, member.progressed_s = "in round", self.now_s()

    def _begin(
        self, name: str, *, sequences: int, steps: int, ranges: Ranges, sizes: list[int] | None = None
    ) -> Header:
        assert self.round is not None
        assert self.train is not None
        seconds, apart = self.round.seconds, self.round.exchange == "weights"
        return {
            "kind": "begin",
            "round": self.number,
            "exchange": self.round.exchange,
            "steps": steps if count(ranges) else 0,
            "seconds": None if seconds is None else max(0.0, seconds - (self.now_s() - self._started_s)),
            "sequences": sequences,
            "sizes": sizes,
            "ranges": ranges,
            "batch": self._batch,
            "tokens": self.tokens,
            "batch_tokens": self.round.sequences * self.train.seq_len,
            "step": self.step,
            "part": sequences / self.round.sequences if apart else 1.0,
            "reach": self.round.reach(sequences) if apart else 1.0,
            "leader": self.leader,
            "ahead": 0,
        }

    def take(self, member: Member, header: Header, payload: memoryview, *, whole: bool) -> Reply | None:
        """Take what an island hands in. Returns a reply at once if it cannot count; else `answer` has one later."""
        member.last_seen_s = member.progressed_s = self.now_s()
        if self.ended:
            return self._ended_reply()
        if why := self._unusable(member, header):
            if member.name not in self.updates:
                self._release(member.name)
            return {"kind": "commit", "rejoin": why}, b""
        member.phase, member.leaving, member.hash = "handed in", bool(header["leave"]), header["hash"]
        self.updates[member.name] = Update(member.name, header, payload, whole)
        return None

    def _unusable(self, member: Member, header: Header) -> str:
        """Return why what an island hands in cannot count; it says anew where it stands then."""
        assert self.train is not None
        if self.round is None or header["round"] != self.number or member.name not in self.begins:
            return f"round {header['round']} is over"
        held = count(self.table.held.get(member.name, []))
        fits = 0 <= header["samples"] <= held and (header["samples"] or not header["steps"])
        if not fits or header["tokens"] != header["samples"] * self.train.seq_len:
            return f"{header['samples']} samples with {header['tokens']} tokens, where it held {held} samples"
        return ""

    def answer(self, member: Member, number: int) -> Reply | None:
        """Return what came of round `number` for an island that handed in; None while it is under way."""
        if member.reply is not None and member.reply[0] == number:
            return member.reply[1]
        return self._ended_reply() if self.ended else None

    def _in_round(self) -> list[Member]:
        return [member for member in self.roster.members.values() if member.name in self.begins]

    def _all_handed_in(self) -> bool:
        if any(member.catches_up(self.now_s()) for member in self.roster.members.values()):
            return False
        return all(member.name in self.updates for member in self._in_round())

    # -- the commit ----------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        """Merge what was handed in, write it down, answer everyone, and begin the next round."""
        assert self.round is not None
        assert self.train is not None
        plan, updates = self.round, self.updates
        merged = merge_updates(updates, plan, self.how, rates=self.roster.rates, residual=self._residual)
        self._residual = merged.residual
        fates = {name: self._spend(name, update.samples, merged) for name, update in updates.items()}
        for name in [*self.table.held]:
            if not self._keeps(name, merged):
                self.table.give_back(name)
        self.step += merged.steps
        self.tokens += self.train.seq_len * sum(count(used) for used, _ in fates.values())
        trained = any(update.steps for update in updates.values())
        self.barren = 0 if merged.applied else self.barren + int(trained)
        self.roster.charge(self.now_s())
        entries = {name: self._settle(update, merged, *fates[name]) for name, update in sorted(updates.items())}
        record = self._record(plan, merged, entries)
        self.log.append(record)
        self._last = record
        self._tell(record, merged)
        self.number += 1
        self.base = ""
        self._go_on(plan, record, merged)

    def _spend(self, name: str, n: int, merged: Merged) -> tuple[Ranges, Ranges]:
        """Return which samples an update used up, and which are free again: it was rejected, and others were not."""
        if merged.applied and not merged.verdicts[name].accepted:
            return self.table.reject(name, n)
        return self.table.consume(name, n), []

    def _keeps(self, name: str, merged: Merged) -> bool:
        """Whether an island keeps the samples it holds: it may be training on them, ahead of the next round."""
        member = self.roster.members.get(name)
        ahead = self.begins.get(name, {}).get("ahead")
        return bool(ahead and member and not member.leaving and name not in merged.must_rejoin and not self.stopping)

    def _settle(self, update: Update, merged: Merged, used: Ranges, freed: Ranges) -> dict[str, Any]:
        """Book one island's update, and return its entry in the commit."""
        assert self.round is not None
        name, train_s = update.island, update.header["train_s"]
        account, member = self.roster.account(name), self.roster.members.get(name)
        account.add(update, merged)
        if merged.verdicts[name].accepted and update.steps:
            self.roster.remember_rates(merged.rates_of(name, self.round.exchange))
        if member is not None and self.how.rounds == "clock" and train_s > 0:
            member.note_speed(update.tokens / train_s, rounds=account.rounds)
        return {**merged.entry(update), "ranges": used, "freed": freed}

    def _record(self, plan: Round, merged: Merged, entries: dict[str, Any]) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "time": utc(self.wall_s()),
            "round": self.number,
            **plan.to_json(),
            "seconds": self.now_s() - self._started_s,
            **{"members": entries, "applied": merged.applied, "step": self.step, "tokens": self.tokens},
            **{"samples": self.table.consumed, "table": self.table.to_json()},
            **self.roster.to_json(),
        }

    def _tell(self, record: dict[str, Any], merged: Merged) -> None:
        lines = [line for update in self.updates.values() for line in update.header["lines"]]
        losses = [line["loss"] for line in lines if line["loss"] is not None]
        self.loss = sum(losses) / len(losses) if losses else self.loss
        self.listener.committed(record, lines)
        for name, verdict in merged.verdicts.items():
            if verdict.why:
                facts = {key: record["members"][name][key] for key in ("accepted", "why", "ranges", "freed")}
                self.listener.event("guard", island=name, round=self.number, **facts)

    def _go_on(self, plan: Round, record: dict[str, Any], merged: Merged) -> None:
        """Begin the next round, and prepare everyone's reply."""
        updates, members = self.updates, self.roster.members
        staying = [name for name in updates if name in self.begins and name in members and not members[name].leaving]
        sound = [name for name in staying if name not in merged.must_rejoin]
        self.begins = {}
        if hopeless := self._hopeless():
            self._end(hopeless)
        elif sound:
            self._plan(sound)
        else:
            self._await_islands()
        end = {"ended": self.ended, "leader": self.leader} if self.ended else {}
        told = {"record": record, "applied": merged.applied, "checksum": checksum(merged.payload), **merged.form}
        reply = {"kind": "commit", **told, **end}
        for name in updates:
            if name in members:
                own = {**reply, "begin": self.begins.get(name), "rejoin": merged.must_rejoin.get(name, "")}
                members[name].reply = record["round"], (own, merged.payload)

    def _hopeless(self) -> str:
        """Return how a run ends that cannot go on; empty for one that can."""
        return "diverged" if self.barren >= MOST_BARREN else ""

    def _await_islands(self) -> None:
        self.round, self.updates, self.begins, self.base = None, {}, {}, ""
        self._gathering_s = self.now_s() if self.roster.members else None

    def _end(self, how: str) -> None:
        self.round, self.ended, self.roster.closed = None, how, True

    def _ended_reply(self, leader: str | None = None) -> Reply:
        return {"kind": "ended", "how": self.ended, "leader": self.leader if leader is None else leader}, b""

    def _release(self, name: str) -> None:
        self.begins.pop(name, None)
        self.table.give_back(name)
