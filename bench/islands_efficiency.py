"""How much of their time unequal islands train: three of speeds 16 : 5 : 1, one thread each, beside runs of their own.

    python bench/islands_efficiency.py [--repeats 5] [--rounds 3] [--slowed-by waiting|quota]

Each repeat trains what bench/islands_run.py says, in larger batches and with weights that stand nearly still so that a
step's work stays what it is, with the three together, and at the same time each in a run of its own: the machine's
speed changes by a fifth from minute to minute, and that is not what is asked. One JSON line at the end, of full rounds
but the first: the share of wall time that was not spent training (at most 2.5 %), each island's tokens/s against its
own run's in the same minutes (at least 90 %), and the whole's against the sum (at least 95 %). Rates apart are of
training only, without any exchange, so they are the harder mark. All are simulated by waiting, the fastest half of its
time, or are really slowed by cgroup quotas of processor time (needs root), in runs of their own as well. The control,
islands that wait for the slowest with equal batches, must fail. Demand is twice 1/2 + 5/32 + 1/32 cores; nothing else
should run.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from islands_faults import process_of
from islands_run import ROOT, SEQ_LEN, write_run

from everyflop.base.files import read_lines

CGROUPS = Path("/sys/fs/cgroup/cpu")
SPEEDS = {"first": 16, "second": 5, "third": 1}
OF_A_CORE = 1 / 32
"""What a speed of 1 is."""
SEQUENCES, MICRO_BATCH, STEPS, STEPS_ALONE, SYNC_STEPS = 176, 8, 24, 4, 3
STILL_LR = 1e-7
"""Weights hardly move, so that a step's work stays the same: while they do, its time falls by a tenth over the first
hundred steps, probably with experts' loads, and runs apart are at another step."""
ROUNDS_ALONE, ROUNDS_OF_CONTROL = 100, 4
"""More than are ever done, and enough."""
PERIOD_US = 40_000
"""Of quotas."""


def start(
    folder: Path,
    name: str,
    islands: list[str],
    sequences: int,
    n_rounds: int,
    *,
    quota: bool,
    steps: int,
    micro_batch: int = MICRO_BATCH,
    **how: Any,
) -> subprocess.Popen[bytes]:
    """Start a run of some islands."""
    n_steps = steps * n_rounds + SYNC_STEPS
    slowdown = {one: 1.0 if quota else 1 / (OF_A_CORE * SPEEDS[one]) for one in islands}
    path = write_run(
        folder,
        name,
        n_steps,
        [{"name": one, "slowdown": slowdown[one]} for one in islands],
        {"steps": steps, "sync_share": (SYNC_STEPS - 0.5) / n_steps, **how},
        train={"micro_batch": micro_batch, "batch_tokens": sequences * SEQ_LEN},
        optim={"lr": STILL_LR, "schedule": "constant"},  # rounds are all alike then
        router={"bias_update": 0.0},
    )
    return subprocess.Popen([sys.executable, "-m", "everyflop", "train", str(path)], stdout=sys.stderr)


def train(folder: Path, name: str, islands: list[str], *sizes: int, quota: bool, **how: Any) -> list[dict[str, Any]]:
    """Train some islands in one run; return the commits of rounds that exchange weights."""
    process = start(folder, name, islands, *sizes, quota=quota, **how)
    with slowed(process, folder / name, islands if quota else []):
        if process.wait():
            raise SystemExit(f"{name} failed")
    return after_start(folder / name)


def after_start(run_dir: Path) -> list[dict[str, Any]]:
    """Return the commits so far of rounds that exchange weights."""
    path = run_dir / "rounds.jsonl"
    return [one for one in read_lines(path) if one["exchange"] == "weights"] if path.exists() else []


def steady(records: list[dict[str, Any]], steps: int) -> list[dict[str, Any]]:
    """Return full rounds but the first, which is planned from the speeds of single steps.

    The last may lack a step or two: batches come out a little larger than asked, and tokens are done earlier.
    """
    return [record for record in records[1:] if record["planned_steps"] >= 0.9 * steps]


@contextmanager
def slowed(process: subprocess.Popen[bytes], run_dir: Path, islands: list[str]) -> Iterator[None]:
    """Give islands their share of a core's time by cgroups, from when all of them have joined."""
    groups = {name: CGROUPS / f"everyflop-{run_dir.name}-{name}" for name in islands}
    try:
        while islands and process.poll() is None and not _joined(run_dir, islands):
            time.sleep(0.05)
        for name, group in groups.items():
            group.mkdir()
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(int(PERIOD_US * OF_A_CORE * SPEEDS[name])))
            (group / "cgroup.procs").write_text(str(process_of(run_dir, name)))
        yield
    finally:
        for group in groups.values():
            if group.exists():
                group.rmdir()


def _joined(run_dir: Path, islands: list[str]) -> bool:
    path = run_dir / "events.jsonl"
    joined = {event["island"] for event in read_lines(path) if event["event"] == "join"} if path.exists() else set()
    return joined >= {*islands}


def rates(records: list[dict[str, Any]], *, over: str) -> dict[str, float]:
    """Return each island's tokens/s over the wall time of its rounds, or over what it trained of it."""
    tokens: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for record in records:
        for name, member in record["members"].items():
            tokens[name] = tokens.get(name, 0) + member["tokens"]
            spent = member["train_s"] + (member["lost_s"] if over == "wall" else 0)
            seconds[name] = seconds.get(name, 0) + spent
    return {name: tokens[name] / seconds[name] for name in tokens}


def idle_share(records: list[dict[str, Any]]) -> float:
    """Return the share of all islands' time that was not spent training."""
    members = [member for record in records for member in record["members"].values()]
    lost, trained = sum(m["lost_s"] for m in members), sum(m["train_s"] for m in members)
    return lost / (lost + trained)


@contextmanager
def alone(folder: Path, name: str, number: int, *, quota: bool) -> Iterator[Path]:
    """Train an island in a run of its own while the block runs; gives its run directory."""
    sequences, run = SEQUENCES * SPEEDS[name] // sum(SPEEDS.values()), f"{name}-{number}"
    process = start(folder, run, [name], sequences, ROUNDS_ALONE, quota=quota, steps=STEPS_ALONE, rounds="steps")
    with slowed(process, folder / run, [name] if quota else []):
        yield folder / run
        process.send_signal(signal.SIGTERM)
        if process.wait() != 128 + signal.SIGTERM:
            raise SystemExit(f"{run} ended too early")


def repeat(folder: Path, number: int, rounds: int, *, quota: bool) -> dict[str, Any]:
    """Train all islands in one run, and each in one of its own at the same time."""
    with ExitStack() as stack:
        own = {name: stack.enter_context(alone(folder, name, number, quota=quota)) for name in SPEEDS}
        every = train(folder, f"together-{number}", [*SPEEDS], SEQUENCES, rounds, quota=quota, steps=STEPS)
    records = steady(every, STEPS)
    begun, ended = _time_of(records[0]) - records[0]["seconds"], _time_of(records[-1])
    apart = {
        name: rates([r for r in after_start(run) if begun <= _time_of(r) <= ended], over="training")[name]
        for name, run in own.items()
    }
    rate, members = rates(records, over="wall"), [record["members"] for record in records]
    found = {
        "idle_share": idle_share(records),
        "idle_share_with_both_ends": idle_share(every),
        "rounds": len(records),
        "tokens_per_s": rate,
        "lost_s_a_round": {name: statistics.median(one[name]["lost_s"] for one in members) for name in SPEEDS},
        "round_s": statistics.median(record["seconds"] for record in records),
        "apart": apart,
        "of_apart": {name: rate[name] / apart[name] for name in SPEEDS},
        "whole_of_sum": sum(rate.values()) / sum(apart.values()),
    }
    print(json.dumps(found), file=sys.stderr)
    return found


def _time_of(record: dict[str, Any]) -> float:
    return datetime.fromisoformat(record["time"]).timestamp()


def main() -> int:
    """Run everything; 1 when a claim does not hold or the control does not fail."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slowed-by", choices=["waiting", "quota"], default="waiting")
    asked = parser.parse_args()
    if asked.rounds < 3:
        parser.error("--rounds must be 3 or more: the first is left out, and the last may be short")
    quota = asked.slowed_by == "quota"
    if quota and os.geteuid():
        raise SystemExit("quotas of processor time need root")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        found = [repeat(folder, number, asked.rounds, quota=quota) for number in range(asked.repeats)]
        # One sequence for each, and as many steps for all: everybody waits for the slowest.
        equal = {"quota": quota, "steps": STEPS, "rounds": "steps", "micro_batch": 1}
        control = train(folder, "control", [*SPEEDS], len(SPEEDS), ROUNDS_OF_CONTROL, **equal)
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    medians = {
        "idle_share": statistics.median(one["idle_share"] for one in found),
        "whole_of_sum": statistics.median(one["whole_of_sum"] for one in found),
        "of_apart": {name: statistics.median(one["of_apart"][name] for one in found) for name in SPEEDS},
    }
    wanted = {"idle_share": 0.025, "whole_of_sum": 0.95, "of_apart": 0.9}
    line = {
        "what": f"islands 16 : 5 : 1, and each apart, slowed by {asked.slowed_by}; {STEPS} steps a round; measured",
        "commit": commit.stdout.strip(),
        "median": medians,
        "wanted": wanted,
        "repeats": found,
        "control_with_equal_batches": {"idle_share": idle_share(control)},
    }
    print(json.dumps(line))
    holds = (
        medians["idle_share"] <= wanted["idle_share"]
        and medians["whole_of_sum"] >= wanted["whole_of_sum"]
        and min(medians["of_apart"].values()) >= wanted["of_apart"]
    )
    return 0 if holds and idle_share(control) > wanted["idle_share"] else 1


if __name__ == "__main__":
    sys.exit(main())
