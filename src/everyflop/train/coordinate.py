"""The coordinator's process: listens, and keeps the run's metrics, events and round log."""

import signal
import socket
import ssl
from pathlib import Path
from typing import Any

from everyflop.base.errors import UsageError
from everyflop.base.files import append_line, keep_lines, read_lines, write_atomic
from everyflop.islands.coordinator import Coordinator
from everyflop.islands.course import Course
from everyflop.islands.replay import Replay
from everyflop.islands.round_log import RoundLog
from everyflop.spec.run import RunSpec
from everyflop.train.bill import bill, price_of, total
from everyflop.train.plan import Planned, keep_plan
from everyflop.train.run_dir import RunDir, run_toml
from everyflop.train.telemetry import SCHEMA, Telemetry


class Files:
    """Writes what happens into the run directory."""

    def __init__(self, run: RunSpec, run_dir: RunDir):
        self.run, self.run_dir, self.telemetry = run, run_dir, Telemetry(run_dir)

    def event(self, kind: str, **facts: Any) -> None:
        """Append an event."""
        self.telemetry.event(kind, **facts)

    def committed(self, record: dict[str, Any], steps: list[dict[str, Any]]) -> None:
        """Append the steps of a round, each with the time and money of its commit."""
        amount = total(bill(record, self.run))
        common = {"schema": SCHEMA, "seconds": record["busy_s"], "cost": amount, "round": record["round"]}
        for line in sorted(steps, key=lambda line: (line["step"], line["island"])):
            append_line(self.run_dir.metrics, {**line, **common})

    def rewound(self, number: int) -> None:
        """Drop the metrics of steps that will be done again, and of those done before the run had islands."""
        keep_lines(self.run_dir.metrics, lambda line: line.get("round", number) < number)


def _course(run: RunSpec, files: Files, replay: Path | None) -> Course:
    priced = tuple(island.model_copy(update={"price_per_device_hour": price_of(island, run)}) for island in run.island)
    parts = priced, run.islands, RoundLog(files.run_dir.path / "rounds.jsonl"), files
    asked = asked_of(run)
    return Course(*parts, asked=asked) if replay is None else Replay(read_lines(replay), *parts, asked=asked)


def asked_of(run: RunSpec) -> dict[str, Any]:
    """Return what a run file says of what its islands must agree on; they settle by themselves what it leaves open."""
    tables = {"train": run.train, "optim": run.optim, "router": run.router}
    said = {name: table.model_dump(mode="json", exclude_none=True) for name, table in tables.items()}
    return {**said, "seed": run.run.seed}


def coordinate(
    run: RunSpec,
    host: str,
    port: int,
    secret: bytes,
    *,
    tls: ssl.SSLContext | None = None,
    replay: Path | None = None,
    planned: Planned | None = None,
) -> str:
    """Coordinate a run's islands until it has ended; return how, such as "finished". SIGINT and SIGTERM stop it.

    `planned` is the plan that the run has taken its settings from, if there is one and nobody has kept it here yet.
    With `replay`, a round log, every round is what it was there. Raises UsageError for a log that cannot be replayed,
    and where nobody can listen at that address.
    """
    run_dir = RunDir(run.dir)
    files = Files(run, run_dir)
    coordinator = Coordinator(_course(run, files, replay))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: coordinator.stop())
    with _listening(host, port) as listening:
        run_dir.given.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(run_dir.given, run_toml(run))  # for reports: islands of other machines keep their files there
        if planned:
            keep_plan(planned, run_dir, files.telemetry)
        return coordinator.serve(listening, secret, tls)


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise UsageError(
            f"nobody can listen at {host}:{port}: {error.strerror or error}. Choose another --port, or for --host an "
            "address of this machine, such as 0.0.0.0 for all of them."
        ) from None
