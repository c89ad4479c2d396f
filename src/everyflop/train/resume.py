"""Pick up a run where it was left, and refuse to go on as another run by accident."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everyflop.backend.device import Device
from everyflop.base.errors import UsageError
from everyflop.base.progress import OpenProgress, quiet
from everyflop.checkpoint import Checkpoint, newest_good
from everyflop.infer.load import read_spec
from everyflop.spec.run import RunSpec
from everyflop.train.run_dir import RunDir
from everyflop.train.session import environment
from everyflop.train.settings import Settled, changed_numerics, keep_settled, settle
from everyflop.train.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Start:
    """A settled run and the checkpoint it goes on from; None means from the beginning."""

    settled: Settled
    checkpoint: Checkpoint | None
    changes: dict[str, Any]
    """What differs from before and affects the weights: key -> [before, now]."""


def find_start(
    run: RunSpec, run_dir: RunDir, telemetry: Telemetry, device: Device, *, progress: OpenProgress = quiet
) -> Start:
    """Settle a run, by its earlier settings where there are any, and find its newest good checkpoint.

    Damaged checkpoints on the way become events.
    """
    earlier = run_dir.read_run() if run_dir.run_file.exists() else None
    if earlier is not None:
        run = keep_settled(run, earlier)
    settled = settle(run, run.model or read_spec(Path(run.init_from or "")), device)
    checkpoint = newest_good(
        run_dir.checkpoints,
        lambda path, why: telemetry.event("damaged_checkpoint", path=str(path), cause=why),
        progress=progress,
    )
    if earlier is None or checkpoint is None:
        return Start(settled, checkpoint, {})
    changes = changed_numerics(settled.run, earlier)
    before, now = checkpoint.state["environment"], environment(settled, device)
    changes |= {f"environment.{key}": [before.get(key), now[key]] for key in now if before.get(key) != now[key]}
    return Start(settled, checkpoint, changes)


def refuse_changes(changes: dict[str, Any]) -> None:
    """Raise UsageError if anything changed."""
    if changes:
        listed = "\n".join(f"  - {key}: was {before}, is now {now}" for key, (before, now) in changes.items())
        raise UsageError(
            f"resuming would not be the same run, because this changed:\n{listed}\n"
            "Put it back, start a new run under another run.name, or add --allow-change to go on all the same."
        )
