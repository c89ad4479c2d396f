"""Pick up a run where it was left, and refuse to go on as another run by accident."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everyflop.backend.device import Device
from everyflop.base.errors import DamagedFile, InvalidFile, UsageError
from everyflop.base.files import sha256_file
from everyflop.base.progress import OpenProgress, quiet
from everyflop.checkpoint import Checkpoint, newest_good
from everyflop.data.prepared import Prepared
from everyflop.infer.load import has_tokenizer, read_spec, tokenizer_file
from everyflop.spec.read import parse_run
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
    run: RunSpec,
    run_dir: RunDir,
    telemetry: Telemetry,
    device: Device,
    *,
    also: Path | None = None,
    progress: OpenProgress = quiet,
) -> Start:
    """Settle a run, by its earlier settings where there are any, and find its newest good checkpoint.

    `also` is another folder of checkpoints, such as an island's own, from which the newest is taken where it is as new.

    Damaged checkpoints on the way become events. Raises DamagedFile when there are checkpoints and none is good,
    UsageError when the newest is not one of training.
    """
    checkpoint = _newest_good(run_dir, telemetry, progress)
    other = newest_good(also, lambda path, why: None) if also else None
    if other is not None and (checkpoint is None or other.step >= checkpoint.step):
        checkpoint = other
    earlier = _earlier(run_dir, checkpoint)
    settled = _settled(run, earlier, run_dir, device)
    if earlier is None or checkpoint is None:
        return Start(settled, checkpoint, {})
    changes = changed_numerics(settled.run, earlier)
    before, now = checkpoint.state["environment"], environment(settled, device)
    changes |= {f"environment.{key}": [before.get(key), now[key]] for key in now if before.get(key) != now[key]}
    return Start(settled, checkpoint, changes)


def settle_as_before(run: RunSpec, run_dir: RunDir, device: Device) -> Start:
    """Settle a run by its earlier settings where there are any, without looking for a checkpoint."""
    return Start(_settled(run, _earlier(run_dir, None), run_dir, device), None, {})


def note_data(start: Start, prepared: Prepared) -> None:
    """Count it as a change where the checkpoint that a run goes on from was trained on other data or tokens.

    A tokenizer that was trained anew, by another version of its library, may give the same text other tokens.
    """
    if start.checkpoint is None:
        return
    if (before := start.checkpoint.state["data_fingerprint"]) != prepared.fingerprint:
        start.changes["data"] = [before, prepared.fingerprint]
    then, now = (sha256_file(path) for path in (start.checkpoint.path / "tokenizer.json", prepared.tokenizer_path))
    if then != now:
        start.changes["tokenizer"] = [then[:16], now[:16]]


def _settled(run: RunSpec, earlier: RunSpec | None, run_dir: RunDir, device: Device) -> Settled:
    if earlier is not None:
        run = _with_kept_tokenizer(keep_settled(run, earlier), run_dir)
    run = _with_its_tokenizer(run)
    return settle(run, run.model or (earlier and earlier.model) or read_spec(Path(run.init_from or "")), device)


def _newest_good(run_dir: RunDir, telemetry: Telemetry, progress: OpenProgress) -> Checkpoint | None:
    causes: list[str] = []

    def damaged(path: Path, why: str) -> None:
        causes.append(why)
        telemetry.event("damaged_checkpoint", path=str(path), cause=why)

    checkpoint = newest_good(run_dir.checkpoints, damaged, progress=progress)
    if checkpoint is None and causes:
        listed = "\n".join(f"  - {cause}" for cause in causes)
        raise DamagedFile(
            f"{run_dir.path} has checkpoints, and none is whole:\n{listed}\n"
            "Restore one from a copy, or start again under another run.name; nothing was changed."
        )
    if checkpoint is not None and "progress" not in checkpoint.state:
        raise UsageError(
            f"{checkpoint.path} holds weights and no training state, so a run cannot go on from it. Move it elsewhere, "
            "or start a run from it with model.init_from."
        )
    return checkpoint


def _earlier(run_dir: RunDir, checkpoint: Checkpoint | None) -> RunSpec | None:
    """Return the run as it was settled when the checkpoint was saved, or before the first one."""
    if checkpoint is not None:
        found, problems = parse_run(tomllib.loads(checkpoint.file("run.toml").decode()))
        if found is None:
            raise InvalidFile(f"{checkpoint.path}/run.toml", problems)
        return found
    return run_dir.read_run() if run_dir.run_file.exists() else None


def _with_its_tokenizer(run: RunSpec) -> RunSpec:
    """Let weights that the run starts from bring their tokenizer, unless the run asks for another or a size."""
    asks = run.data.tokenizer != "train" or run.data.vocab_size is not None
    if run.init_from is None or asks or not has_tokenizer(Path(run.init_from)):
        return run
    tokenizer = str(tokenizer_file(Path(run.init_from)).parent)
    return run.model_copy(update={"data": run.data.model_copy(update={"tokenizer": tokenizer})})


def _with_kept_tokenizer(run: RunSpec, run_dir: RunDir) -> RunSpec:
    """Take the run's own copy of its tokenizer where the given one is gone, as with a checkpoint of another run."""
    given, kept = run.data.tokenizer, run_dir.path / "tokenizer.json"
    if given == "train" or Path(given).expanduser().exists() or not kept.exists():
        return run
    return run.model_copy(update={"data": run.data.model_copy(update={"tokenizer": str(run_dir.path)})})


def refuse_changes(changes: dict[str, Any]) -> None:
    """Raise UsageError if anything changed."""
    if changes:
        listed = "\n".join(f"  - {key}: was {before}, is now {now}" for key, (before, now) in changes.items())
        raise UsageError(
            f"resuming would not be the same run, because this changed:\n{listed}\n"
            "Put it back, start a new run under another run.name, or add --allow-change to go on all the same."
        )
