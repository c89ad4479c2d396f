"""Write what happens: metrics (one line a step, each step once), events, and TensorBoard.

The JSON lines are the truth. A tracker that fails is reported once as an event and then left alone.
"""

import math
import time
from contextlib import suppress
from typing import Any

from everyflop.base.clock import utc
from everyflop.base.errors import UsageError
from everyflop.base.files import append_line, keep_lines, read_lines, sync_file
from everyflop.train.run_dir import RunDir

SCHEMA = 1


class Telemetry:
    """Appends to a run directory's files. `now_s` is wall-clock time, for the events' time stamps only."""

    def __init__(self, run_dir: RunDir, now_s=time.time):
        self.run_dir, self._now_s = run_dir, now_s
        self._board: Any = None

    def rewind(self, step: int) -> list[dict[str, Any]]:
        """Drop metrics after `step`, which will be done again, and a torn last line; return what was dropped."""
        lines = read_lines(self.run_dir.metrics)
        if bad := [number for number, line in enumerate(lines, 1) if "step" not in line]:
            raise UsageError(
                f"{self.run_dir.metrics}, line {bad[0]}: no step. Restore the file from a copy or remove it."
            )
        return keep_lines(self.run_dir.metrics, lambda line: line["step"] <= step)

    def starts(self) -> list[dict[str, Any]]:
        """Return the events of this run's starts and resumes."""
        return [line for line in read_lines(self.run_dir.events) if line.get("event") in ("start", "resume")]

    def open_board(self, after_step: int) -> None:
        """Start TensorBoard's writer; points after that step are replaced."""
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.run_dir.path / "tensorboard"), purge_step=after_step + 1)
        except Exception as error:  # a tracker never stops a run, whatever is wrong with it
            self.event("tracker_failed", tracker="tensorboard", cause=repr(error))

    def step(self, record: dict[str, Any]) -> None:
        """Append one step's metrics; numbers that are not finite become null."""
        finite = {key: _finite(value) for key, value in record.items()}
        append_line(self.run_dir.metrics, {"schema": SCHEMA, **finite})
        if self._board is not None:
            try:
                for key, value in finite.items():
                    if isinstance(value, int | float) and key not in ("step", "tokens"):
                        self._board.add_scalar(f"train/{key}", value, record["step"])
            except Exception as error:  # as above
                self._board = None
                self.event("tracker_failed", tracker="tensorboard", cause=repr(error))

    def sync(self) -> None:
        """Flush metrics to disk, so that a power cut never leaves a checkpoint that is newer than its metrics."""
        if self.run_dir.metrics.exists():
            sync_file(self.run_dir.metrics)

    def event(self, kind: str, **facts: Any) -> None:
        """Append an event with its time."""
        facts = {key: _finite(value) for key, value in facts.items()}
        append_line(self.run_dir.events, {"schema": SCHEMA, "time": utc(self._now_s()), "event": kind, **facts})

    def close(self) -> None:
        """Flush the tracker."""
        if self._board is not None:
            with suppress(Exception):  # as above
                self._board.close()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
