"""The coordinator's process: listens, and keeps the run's metrics, events and round log."""

import signal
import socket
import ssl
from typing import Any

from everyflop.base.files import append_line
from everyflop.islands.coordinator import Coordinator
from everyflop.islands.course import Course
from everyflop.islands.round_log import RoundLog
from everyflop.spec.run import RunSpec
from everyflop.train.bill import bill, total
from everyflop.train.run_dir import RunDir
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
        common = {"schema": SCHEMA, "seconds": record["held_s"], "cost": amount, "round": record["round"]}
        for line in sorted(steps, key=lambda line: (line["step"], line["island"])):
            append_line(self.run_dir.metrics, {**line, **common})

    def rewound(self, step: int) -> None:
        """Drop the metrics of steps that will be done again."""
        if self.run_dir.metrics.exists():
            self.telemetry.rewind(step)


def coordinate(run: RunSpec, host: str, port: int, secret: bytes, *, tls: ssl.SSLContext | None = None) -> str:
    """Coordinate a run's islands until it has ended; return "finished" or "stopped". SIGINT and SIGTERM stop it."""
    run_dir = RunDir(run.dir)
    run_dir.path.mkdir(parents=True, exist_ok=True)
    log = RoundLog(run_dir.path / "rounds.jsonl")
    coordinator = Coordinator(Course(run.island, run.islands, log, Files(run, run_dir)))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: coordinator.stop())
    with socket.create_server((host, port)) as listening:
        return coordinator.serve(listening, secret, tls)
