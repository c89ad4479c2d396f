"""Train a run's islands as processes of this machine: start them and the coordinator, show them, start what dies again.

Each process is what a user starts by hand on several machines; this one only watches.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from everyflop.backend.device import detect
from everyflop.backend.visible import one_of_several
from everyflop.base.errors import EveryflopError, ExpectedNo, Interrupted, UsageError
from everyflop.base.files import read_lines, write_atomic
from everyflop.base.orphans import PARENT
from everyflop.base.progress import progress
from everyflop.data.prepare import prepare
from everyflop.islands.replay import refuse_what_no_log_repeats
from everyflop.islands.rounds import total_samples
from everyflop.islands.secret import VARIABLE, new_secret
from everyflop.islands.wire import Broken, Connection, connect
from everyflop.spec.run import RunSpec
from everyflop.train.first_screen import islands_screen, show_lines
from everyflop.train.island_process import threads_of
from everyflop.train.islands_display import IslandsDisplay
from everyflop.train.plan import Planned, keep_plan
from everyflop.train.predicted import plan_line
from everyflop.train.resume import find_start, note_data, refuse_changes
from everyflop.train.run_dir import RunDir, claim, run_toml
from everyflop.train.stop import StopRequest
from everyflop.train.telemetry import Telemetry

POLL_S = 0.2
STATUS_EVERY_S = 1.0
COORDINATOR = "coordinator"
QUIET_EXITS = {0, 128 + signal.SIGINT, 128 + signal.SIGTERM}
"""Exit codes of a process that ended as it should: the run is over, or somebody asked it to leave."""

MOST_COORDINATOR_RESTARTS = 100

HUNG_S = 20.0
"""An island that the coordinator has given up has so long to come back by itself before it is killed, and one that is
left when the coordinator has ended so long to end."""

AWAY_S = 1800.0
"""An island that the coordinator does not know has so long to come: it may have to compile a model first."""

COORDINATOR_ENDS_S = 10.0
"""How long a coordinator may live on when all islands have ended. One that was started again after the last commit
knows of no end."""

MOST_ATTEMPTS = 5
"""How often a run is taken up again whose processes all ended without a summary."""


@dataclass(slots=True)
class Child:
    """One process: the coordinator or an island."""

    name: str
    command: list[str]
    log: Path
    sees: Mapping[str, str] = field(default_factory=dict)
    """Variables that say which of several accelerators it sees."""
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    started_s: float = 0.0
    done: bool = False

    def start(self, secret: str) -> None:
        """Start it, or start it again; what it prints is appended to its log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        own = {VARIABLE: secret, PARENT: str(os.getpid()), "OMP_WAIT_POLICY": "PASSIVE"}
        environment = {**os.environ, **own, **self.sees}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )
        self.starts, self.started_s = self.starts + 1, time.monotonic()

    def last_words(self) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])


def train_local(
    run: RunSpec,
    *,
    resume: bool = False,
    allow_change: bool = False,
    planned: Planned | None = None,
    replay: Path | None = None,
    stream: TextIO | None = None,
) -> dict[str, Any]:
    """Train a run with islands on this machine and return its summary; with `replay`, as that round log has it.

    `planned` is the plan that the run has taken its settings from, if there is one.

    Raises UsageError when an island or the coordinator refuses its task, Interrupted after SIGINT or SIGTERM with
    checkpoints saved, ExpectedNo when processes keep dying.
    """
    out: TextIO = stream or sys.stderr
    if replay and not replay.exists():
        raise UsageError(f"there is no round log {replay}; a run with islands writes it as rounds.jsonl.")
    if replay:
        tokens = total_samples(run.train) * run.train.seq_len if run.train.batch_tokens else None
        refuse_what_no_log_repeats(read_lines(replay), tokens=tokens)
    with claim(run, resume=resume) as run_dir:
        telemetry = Telemetry(run_dir)
        device = detect()
        start = find_start(run, run_dir, telemetry, device, progress=progress)
        if not allow_change:
            refuse_changes(start.changes)
        lines = islands_screen(start.settled, device, {one.name: threads_of(run, one) for one in run.island})
        if planned:
            keep_plan(planned, run_dir, telemetry)
            lines.append(("plan", plan_line(planned)))
        if resume:
            lines.append(("resumes", "from the newest checkpoint that any island has, if there is one"))
        show_lines(lines, out)
        prepared = prepare(start.settled.run, progress=progress)  # once, before all islands want it at the same time
        note_data(start, prepared)
        if not allow_change:
            refuse_changes(start.changes)
        if start.changes:
            telemetry.event("changed", changes=start.changes)
        for attempt in range(1, MOST_ATTEMPTS + 1):
            if _Launch(run, run_dir, telemetry, replay, out).run():
                return json.loads(run_dir.summary.read_text())
            telemetry.event("taken_up_again", attempt=attempt)
        raise ExpectedNo(f"the islands ended {MOST_ATTEMPTS} times without finishing; see {run_dir.path / 'islands'}.")


class _Launch:
    """The processes of one attempt."""

    def __init__(self, run: RunSpec, run_dir: RunDir, telemetry: Telemetry, replay: Path | None, out: TextIO):
        self.run_spec, self.telemetry, self.secret = run, telemetry, new_secret()
        folder = run_dir.path / "islands"
        folder.mkdir(exist_ok=True)
        run_file = run_dir.given
        write_atomic(run_file, run_toml(run))
        self.address = f"127.0.0.1:{_free_port()}"
        port = self.address.rpartition(":")[2]
        everyflop = [sys.executable, "-m", "everyflop"]
        coordinator = [*everyflop, "coordinator", str(run_file), "--port", port, "--claimed"]
        coordinator += ["--replay", str(replay)] if replay else []
        # Whether changes are allowed has been decided here.
        island = [*everyflop, "train", str(run_file), "--allow-change", "--coordinator", self.address, "--island"]
        self.children = [Child(COORDINATOR, coordinator, folder / "coordinator.txt")]
        numbers = count()
        for one in run.island:
            sees = {} if one.device == "cpu" else one_of_several(next(numbers))
            self.children.append(Child(one.name, [*island, one.name], folder / one.name / "log.txt", sees))
        self.display = IslandsDisplay(run, stream=out)
        self.run_dir, self.summary_before = run_dir, _written_at(run_dir.summary)
        self.status_connection: Connection | None = None
        self.hung: dict[str, float] = {}
        """Islands that the coordinator has given up, and since when."""
        self.away: dict[str, float] = {}
        """Islands that the coordinator does not know, and since when."""
        self.islands_ended_s: float | None = None
        self.coordinator_ended_s: float | None = None

    def run(self) -> bool:
        """Start everything and wait until all of it has ended; return whether an island has written a summary."""
        try:
            with StopRequest() as stop, self.display:
                for child in self.children:
                    child.start(self.secret)
                asked, shown_s = list[Child](), 0.0
                while not self._over():
                    time.sleep(POLL_S)
                    if stop.signal is not None:
                        self._ask_to_stop(asked)
                    for child in self.children:
                        self._look_after(child, stopping=stop.signal is not None)
                    # A short run may be over within a second: until it has begun, its status is asked at every look.
                    if not self.display.said_what_to_expect or time.monotonic() - shown_s >= STATUS_EVERY_S:
                        shown_s = time.monotonic()
                        self._show()
                        self._end_hung()
            if stop.signal is not None and not self._finished():
                raise Interrupted(stop.signal, "Stopped; every island saved what was committed.")
            return self._finished()
        finally:
            self._end_all()

    def _end_all(self) -> None:
        """Ask what still runs to end, islands with what was committed saved; kill what does not."""
        running = [child.process for child in self.children if child.process and child.process.poll() is None]
        for process in running:
            process.terminate()
        give_up_s = time.monotonic() + HUNG_S
        for process in running:
            try:
                process.wait(max(0.0, give_up_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _finished(self) -> bool:
        """Whether an island has written the run's summary."""
        return _written_at(self.run_dir.summary) != self.summary_before

    def _over(self) -> bool:
        """Whether all processes have ended, or all islands have and the coordinator has had its time."""
        coordinator, *islands = self.children
        if not all(island.done for island in islands):
            return False
        now_s = time.monotonic()
        self.islands_ended_s = self.islands_ended_s or now_s
        return coordinator.done or now_s - self.islands_ended_s > COORDINATOR_ENDS_S

    def _look_after(self, child: Child, *, stopping: bool) -> None:
        if child.done or child.process is None or (code := child.process.poll()) is None:
            return
        over = (self.children[0].done or self._finished()) and code != ExpectedNo.exit_code
        if code in QUIET_EXITS or over:  # nothing is left to do then
            child.done = True
        elif code in (UsageError.exit_code, ExpectedNo.exit_code):
            kind = UsageError if code == UsageError.exit_code else ExpectedNo
            raise kind(f"{child.name} ended with exit code {code}:\n{child.last_words()}")
        elif stopping or child.starts > self._most_restarts(child):
            child.done = True
            self.telemetry.event("given_up", process=child.name, code=code)
            if not stopping:
                self._go_on_without(child, code)
        else:
            self.telemetry.event("restart", process=child.name, code=code)
            self.display.note(f"{child.name} died ({_how(code)}); it starts again")
            child.start(self.secret)

    def _end_hung(self) -> None:
        """Kill islands that hold the run up."""
        now_s = time.monotonic()
        if self.children[0].done:
            self.coordinator_ended_s = self.coordinator_ended_s or now_s
        for child in self.children[1:]:
            if child.process is None or child.process.poll() is not None:
                continue
            since = self.hung.get(child.name), self.away.get(child.name), self.coordinator_ended_s
            if holds_up(child.started_s, *since, now_s=now_s):
                self.display.note(f"{child.name} hangs; it is killed")
                child.process.kill()

    def _most_restarts(self, child: Child) -> int:
        return MOST_COORDINATOR_RESTARTS if child.name == COORDINATOR else self.run_spec.islands.restarts

    def _go_on_without(self, child: Child, code: int) -> None:
        """Let the others go on; raise EveryflopError where there are none, or nobody to meet at."""
        if child.name == COORDINATOR or all(island.done for island in self.children[1:]):
            raise EveryflopError(f"{child.name} died {child.starts} times, last:\n{child.last_words()}")
        self.display.note(f"{child.name} died ({_how(code)}) and is not started again; the others go on")

    def _ask_to_stop(self, asked: list[Child]) -> None:
        """Ask the coordinator to end the run, or islands themselves once it is gone: each once."""
        coordinator, *islands = self.children
        for child in islands if coordinator.done else [coordinator]:
            if child not in asked and child.process is not None and child.process.poll() is None:
                child.process.terminate()
                asked.append(child)

    def _show(self) -> None:
        try:
            if self.status_connection is None:
                self.status_connection = connect(self.address, self.secret.encode(), timeout_s=0.5)
                self.status_connection.send({"kind": "status"})
            else:
                self.status_connection.send({"kind": "again"})
            status, _ = self.status_connection.receive(timeout_s=2.0)
            self.display.show(status)
            given_up = [name for name, island in status["islands"].items() if island["given_up"]]
            away = [name for name, island in status["islands"].items() if island["state"] == "away"]
            now_s = time.monotonic()
            self.hung = {name: self.hung.get(name, now_s) for name in given_up}
            self.away = {name: self.away.get(name, now_s) for name in away}
        except (Broken, TimeoutError):
            self.away = {}
            if self.status_connection is not None:
                self.status_connection.close()
            self.status_connection = None


def holds_up(
    started_s: float, given_up_s: float | None, away_s: float | None, coordinator_ended_s: float | None, *, now_s: float
) -> bool:
    """Whether an island's process must be killed: since when is it given up or away, or the coordinator at its end?

    One that was started again since it was given up is on its way back.
    """
    if given_up_s is not None and started_s <= given_up_s < now_s - HUNG_S:
        return True
    if away_s is not None and max(away_s, started_s) < now_s - AWAY_S:
        return True
    return coordinator_ended_s is not None and coordinator_ended_s < now_s - HUNG_S


def _written_at(path: Path) -> int | None:
    """Return when a file was written; None where there is none. A run that goes on may have an old summary."""
    return path.stat().st_mtime_ns if path.exists() else None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
