"""Read what a run directory holds for its report, and check it: a finished run, one under way, or one just begun.

Nothing here is computed. A file that is not there yet reads as empty; a damaged one is named, with its line.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from everyflop.base.errors import UsageError
from everyflop.base.files import read_lines
from everyflop.spec.plan import Plan
from everyflop.spec.plan_file import read_plan
from everyflop.spec.run import RunSpec
from everyflop.train.run_dir import RunDir

Line = dict[str, Any]
Kinds = dict[str, tuple[type, ...]]
"""Keys that a line must have, and what their values may be."""

SCHEMA = 1
"""The newest schema of lines and summaries that is understood."""

NUMBER, COUNT, TEXT = (int, float), (int,), (str,)
STEP: Kinds = {
    **{"step": COUNT, "tokens": COUNT, "loss": (int, float, type(None)), "island": TEXT},
    **{"tokens_per_s": NUMBER, "step_s": NUMBER, "seconds": NUMBER},
}
EVENT: Kinds = {"event": TEXT, "time": TEXT}
ROUND: Kinds = {
    **{
        "round": COUNT,
        "time": TEXT,
        "busy_s": NUMBER,
        "exchange": TEXT,
        "applied": (bool,),
        "step": COUNT,
        "tokens": COUNT,
    },
    **{"seconds": NUMBER, "members": (dict,), "accounts": (dict,)},
}
MEMBER: Kinds = {"train_s": NUMBER, "steps": COUNT, "tokens": COUNT, "accepted": (bool,), "why": TEXT}
ACCOUNT: Kinds = {
    **{"held_s": NUMBER, "train_s": NUMBER},
    **dict.fromkeys(("tokens", "steps", "rounds", "joins", "rejected", "sent_bytes", "received_bytes"), COUNT),
}
SUMMARY: Kinds = {
    **{"tokens": COUNT, "steps": COUNT, "seconds": NUMBER, "validation": (dict,), "sample": (dict,)},
    **{"device": TEXT, "precision": TEXT, "parameters": COUNT, "active_parameters": COUNT},
}


@dataclass(frozen=True, slots=True)
class RunFiles:
    """A run directory's content."""

    run: RunSpec
    metrics: list[Line]
    events: list[Line]
    rounds: list[Line]
    """Commits; empty without islands."""
    summary: Line | None
    """None while the run is under way."""
    plan: Plan | None

    @property
    def tokens(self) -> int:
        """Tokens trained so far."""
        newest = (self.rounds or self.metrics)[-1:]
        return newest[0]["tokens"] if newest else self.summary["tokens"] if self.summary else 0

    @property
    def steps(self) -> int:
        """Optimizer steps done so far."""
        newest = (self.rounds or self.metrics)[-1:]
        return newest[0]["step"] if newest else self.summary["steps"] if self.summary else 0


def files_read(run_dir: RunDir) -> list[Path]:
    """Return the files that a report rests on, those that are not there included."""
    lines = [run_dir.metrics, run_dir.events, run_dir.path / "rounds.jsonl"]
    return [run_dir.run_file, run_dir.given, *lines, run_dir.summary, run_dir.plan]


def read_files(run_dir: RunDir, *, summary: Line | None = None) -> RunFiles:
    """Return what a run directory holds; a summary that is given stands for the file, which a run's end writes last.

    Raises UsageError for a folder that holds no run and for a damaged file, InvalidFile for a run file or plan.
    """
    if not (run_dir.run_file.is_file() or run_dir.given.is_file()):
        raise UsageError(
            f"{run_dir.path} has no run.toml, so it holds no run, or one that has not begun to train. Name a run "
            "directory: out_dir/name of a run file, such as runs/tiny."
        )
    metrics = _lines(run_dir.metrics, STEP)
    rounds = _lines(run_dir.path / "rounds.jsonl", ROUND)
    for number, line in enumerate(rounds, 1):
        for key, kinds in (("members", MEMBER), ("accounts", ACCOUNT)):
            for name, one in line[key].items():
                _check(one, kinds, f"{run_dir.path / 'rounds.jsonl'}, line {number}, {key} {name}")
    files = RunFiles(
        run=run_dir.read_run(),
        metrics=metrics,
        events=_lines(run_dir.events, EVENT),
        rounds=rounds,
        summary=summary or _summary(run_dir.summary),
        plan=read_plan(run_dir.plan) if run_dir.plan.exists() else None,
    )
    return files if summary else _without_stale_summary(files)


def _without_stale_summary(files: RunFiles) -> RunFiles:
    """Leave out the summary of an earlier end: the run was given more tokens since, and goes on."""
    if files.summary is None or files.summary["tokens"] >= files.tokens:
        return files
    return RunFiles(files.run, files.metrics, files.events, files.rounds, None, files.plan)


def _lines(path: Path, kinds: Kinds) -> list[Line]:
    lines = read_lines(path)
    for number, line in enumerate(lines, 1):
        _check(line, kinds, f"{path}, line {number}")
        try:
            datetime.fromisoformat(line.get("time", "2000-01-01"))
        except ValueError:
            raise UsageError(f"{path}, line {number}: '{line['time']}' is no time. {_RESTORE}") from None
    return lines


def _summary(path: Path) -> Line | None:
    if not path.exists():
        return None
    try:
        summary = json.loads(path.read_text())
    except ValueError as error:
        raise UsageError(f"{path}: not JSON ({error}). {_RESTORE}") from None
    _check(summary, SUMMARY, str(path))
    return summary


def _check(line: Any, kinds: Kinds, where: str) -> None:
    if not isinstance(line, dict):
        raise UsageError(f"{where}: no JSON object but {line!r}. {_RESTORE}")
    schema = line.get("schema", SCHEMA)
    if isinstance(schema, int) and schema > SCHEMA:
        raise UsageError(f"{where}: schema {schema}, and this everyflop reads up to {SCHEMA}. Upgrade everyflop.")
    for key, kind in kinds.items():
        if key not in line:
            raise UsageError(f"{where}: no {key}. {_RESTORE}")
        if not isinstance(line[key], kind):
            raise UsageError(f"{where}: {key} is {line[key]!r}. {_RESTORE}")


_RESTORE = "Restore the file from a copy."
