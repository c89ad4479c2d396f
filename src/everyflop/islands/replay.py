"""Replay a run from its round log: every round with the same members, steps, samples and shares, bit for bit.

Clocks and speeds decide nothing then; each anchor's hash is held against the log.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from everyflop.base.errors import UsageError
from everyflop.islands.checksum import checksum
from everyflop.islands.commit import Merged, Update
from everyflop.islands.course import Course
from everyflop.islands.rounds import Round
from everyflop.islands.samples import Ranges


class Replay(Course):
    """A course that does what a log says, and ends as "differs" at the first anchor that is another."""

    def __init__(self, records: list[dict[str, Any]], *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        refuse_what_no_log_repeats(records)
        self._differs = False
        self._records: Mapping[int, dict[str, Any]] = {record["round"]: record for record in records}

    def _plan(self, names: list[str]) -> None:
        """Begin the next round as the log has it."""
        record = self._records.get(self.number)
        self.leader = next(name for name in self.islands if name in names)
        if record is None or self.stopping:
            self._end("finished" if self.table.consumed == self.table.total else "stopped")
            return
        members = record["members"]
        if absent := sorted(members.keys() - self.roster.members.keys()):
            self.listener.event("differs", round=self.number, absent=absent)
            self._end("differs")
            return
        shares = {name: member["sequences"] for name, member in members.items()}
        self.round = Round(record["exchange"], record["planned_steps"], None, record["sequences"], shares)
        self._started_s, self.updates, self.begins = self.now_s(), {}, {}
        self.table.next, self.table.free = record["table"]["next"], record["table"]["free"]
        self.table.held = {name: [list(one) for one in member["ranges"]] for name, member in members.items()}
        gradients = record["exchange"] == "gradients"
        self._batch = [one for name in sorted(members) for one in members[name]["ranges"]] if gradients else []
        for name, member in members.items():
            part = {key: member[key] for key in ("sequences", "steps", "sizes")}
            begin = self._begin(name, ranges=self.table.held[name], **part)
            self.begins[name] = {**begin, "reach": member.get("reach", 1.0)}
            self.roster.members[name].phase = "in round"

    def _settle(self, update: Update, merged: Merged, used: Ranges, freed: Ranges) -> dict[str, Any]:
        entry = super()._settle(update, merged, used, freed)
        was = self._records[self.number]["members"][update.island]["hash"]
        if entry["hash"] != was:
            self.listener.event("differs", island=update.island, round=self.number, was=was, now=entry["hash"])
            self._differs = True
        return entry

    def _hopeless(self) -> str:
        return "differs" if self._differs else super()._hopeless()


def refuse_what_no_log_repeats(records: list[dict[str, Any]], *, tokens: int | None = None) -> None:
    """Raise UsageError for a log of a run that depended on more than it holds, or that is not all of `tokens`."""
    try:
        problems = [*_problems(records, tokens)]
    except (KeyError, TypeError, AttributeError) as error:
        problems = [f"a line is none of a round log: {error!r}"]
    if problems:
        raise UsageError("this round log cannot be replayed:\n" + "\n".join(f"  - {problem}" for problem in problems))


def _problems(records: list[dict[str, Any]], tokens: int | None) -> Iterator[str]:
    if not records:
        yield "it holds no round"
        return
    members = [member for record in records for member in record["members"].values()]
    if any("weights" not in member or len(member["hash"]) != len(checksum()) for member in members):
        yield "its hashes are those of an older everyflop, and compare with none of this one"
        return
    if records[0]["round"] != 0:
        yield f"it begins with round {records[0]['round']}"
    lacking = next((n for n, record in enumerate(records, records[0]["round"]) if record["round"] != n), None)
    if lacking is not None:
        yield f"round {lacking} is not in it"
    elif tokens is not None and records[-1]["tokens"] < tokens:
        yield f"it ends after {records[-1]['tokens']:,} of the run's {tokens:,} tokens"
    first = {name: account["joins"] for name, account in records[0]["accounts"].items()}
    for record in records:
        if set(record["members"]) != set(records[0]["members"]):
            yield f"round {record['round']} had other islands: {', '.join(record['members'])}"
            return
        if {name: account["joins"] for name, account in record["accounts"].items()} != first:
            yield f"an island joined again before round {record['round']}, with moments of another"
            return
        refused = [name for name, member in record["members"].items() if not member["accepted"]]
        if record is not records[-1] and 0 < len(refused) < len(record["members"]):
            yield f"{', '.join(refused)} took the state of another after round {record['round']}, as it was just then"
            return
        if record["ahead"]:
            yield f"islands trained ahead of round {record['round']} for as long as its updates travelled"
            return
