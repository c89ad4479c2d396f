"""Say when each commit was, and what every island did between them: what the time line of a report shows.

Times are in seconds: `wall` since the run began, `busy` of it with an island connected.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from everyflop.train.report_files import Line, RunFiles

ALONE = "main"
"""What a run without islands calls itself in its metrics."""

EVERYBODY = "the run"
"""The lane of events that are of no island."""

MARKS = {
    **{"start": "joined", "resume": "joined", "join": "joined", "left": "left", "lost": "lost", "restart": "restarted"},
    **{"save": "saved", "guard": "guards", "skip": "guards", "rewind": "went back", "taken_up_again": "restarted"},
}
"""Kinds of events -> the mark that shows them."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit on the clock."""

    round: int
    wall_s: float
    busy_s: float
    """At this commit, without the time in which no island was connected."""
    length_s: float
    """Of that since the commit before."""
    joined_s: dict[str, float] = field(default_factory=dict)
    """When islands joined that did so in this round, where an event says it."""


@dataclass(slots=True)
class Lane:
    """What one island did, and when."""

    name: str
    training: list[tuple[float, float]] = field(default_factory=list)
    waiting: list[tuple[float, float]] = field(default_factory=list)
    """Held and not training: exchange, validation, saving, waiting for others."""
    marks: list[tuple[float, str]] = field(default_factory=list)


def commits_of(rounds: list[Line], events: list[Line]) -> list[Commit]:
    """Return every commit's time."""
    joins, zero = _joins(events), [*events, *rounds][:1]
    commits: list[Commit] = []
    before: dict[str, Line] = {}
    busy_s = 0.0
    for record in rounds:
        accounts = record["accounts"]
        joined = {name for name in accounts if accounts[name]["joins"] > _joined(name, before)}
        joined_s = {name: joins[key] for name in sorted(joined) if (key := (name, record["round"])) in joins}
        wall_s = wall_times([*zero, record])[-1]
        commits.append(Commit(record["round"], wall_s, record["busy_s"], record["busy_s"] - busy_s, joined_s))
        before, busy_s = accounts, record["busy_s"]
    return commits


def _held(name: str, accounts: dict[str, Line], before: dict[str, Line]) -> float:
    return max(0.0, accounts[name]["held_s"] - before.get(name, {}).get("held_s", 0.0))


def _joined(name: str, accounts: dict[str, Line]) -> int:
    return accounts.get(name, {}).get("joins", 0)


def _joins(events: list[Line]) -> dict[tuple[str, int], float]:
    """Return when an island last joined with a round's anchor."""
    times = wall_times(events)
    kinds = zip(events, times, strict=True)
    return {(e["island"], e["round"]): s for e, s in kinds if e["event"] == "join" and {"island", "round"} <= e.keys()}


def wall_times(events: list[Line]) -> list[float]:
    """Return each event's (or commit's) time in seconds since the first."""
    times = [datetime.fromisoformat(event["time"]) for event in events]
    return [(time - times[0]).total_seconds() for time in times]


def lanes_of(files: RunFiles, commits: list[Commit]) -> list[Lane]:
    """Return a lane for each island in the order of the run file, and one for the events that are of none."""
    names = [island.name for island in files.run.island] or [ALONE]
    lanes = {name: Lane(name) for name in names}
    if files.run.island:
        _add_rounds(lanes, files.rounds, commits)
    else:
        _add_steps(lanes[ALONE], files)
    everybody = Lane(EVERYBODY)
    for event, wall_s in zip(files.events, wall_times(files.events), strict=True):
        if event["event"] in MARKS:
            owner = event.get("island", event.get("process", "" if files.run.island else ALONE))
            lanes.get(str(owner), everybody).marks.append((wall_s, MARKS[event["event"]]))
    return [*lanes.values(), *([everybody] if everybody.marks else [])]


def _add_rounds(lanes: dict[str, Lane], rounds: list[Line], commits: list[Commit]) -> None:
    """Add what each island did in each round: a commit says how long it trained, and the rest it waited.

    Training is drawn at the round's beginning, or at its end where the island joined in it.
    """
    before: dict[str, Line] = {}
    for record, commit in zip(rounds, commits, strict=True):
        accounts, members = record["accounts"], record["members"]
        began_s = commit.wall_s - commit.length_s
        for name, lane in lanes.items():
            held_s = _held(name, accounts, before) if name in accounts else 0.0
            if not held_s:
                continue
            joined = _joined(name, accounts) > _joined(name, before)
            first_s = max(commit.wall_s - held_s, commit.joined_s.get(name, 0.0)) if joined else began_s
            last_s = commit.wall_s if joined else first_s + held_s
            train_s = min(members.get(name, {}).get("train_s", 0.0), last_s - first_s)
            trains_from_s = last_s - train_s if joined else first_s
            if train_s:
                lane.training.append((trains_from_s, trains_from_s + train_s))
            if last_s - first_s > train_s:
                lane.waiting.append((first_s, trains_from_s) if joined else (first_s + train_s, last_s))
        before = accounts


def _add_steps(lane: Lane, files: RunFiles) -> None:
    """Add the steps of a run without islands, each to the process that did it."""
    times = zip(files.events, wall_times(files.events), strict=True)
    starts = [(event.get("step", 0), wall_s) for event, wall_s in times if event["event"] in ("start", "resume")]
    for (_, began_s), lines in _sessions(files.metrics, starts):
        first = lines[0]
        last_s = began_s
        for line in lines:
            end_s = began_s + line["seconds"] - first["seconds"] + first["step_s"]
            start_s = max(last_s, end_s - line["step_s"])
            if start_s > last_s:
                lane.waiting.append((last_s, start_s))
            lane.training.append((start_s, max(start_s, end_s)))
            last_s = max(start_s, end_s)


def _sessions(metrics: list[Line], starts: list[tuple[int, float]]) -> Iterable[tuple[tuple[int, float], list[Line]]]:
    """Yield each process's start and the steps that are of it: of those that were done twice, the last counts."""
    starts = starts or [(0, 0.0)]
    found: dict[int, list[Line]] = {}
    for line in metrics:
        number = max((n for n, (step, _) in enumerate(starts) if step < line["step"]), default=0)
        found.setdefault(number, []).append(line)
    for number in sorted(found):
        yield starts[number], found[number]
