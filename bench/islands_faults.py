"""What kills cost: four islands, one of which is killed (SIGKILL) every five rounds, against the same without.

    python bench/islands_faults.py [--kills 20] [--round-s 32]

Trains what bench/islands_run.py says three times at once, so that all three meet the same machine, and prints one JSON
line: goodput (committed tokens a second, over that of the undisturbed run; at least 90 %), final validation losses
(within 1 %), the longest that an island did not train in a round, of those in the round before (at most heartbeat + 2
s), whether every sample was used once, and how long islands took from being lost to having the others' state, of which
a round must be four times the median at least. The coordinator is killed once as well. The third run, the control,
never starts an island again, and must fail. Demand is one core of two: islands are slowed (simulated) to a twelfth. 20
kills take an hour.
"""

import argparse
import contextlib
import itertools
import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from islands_run import BATCH_TOKENS, ROOT, write_run

from everyflop.base.files import read_lines
from everyflop.islands.samples import numbers

ISLANDS, SLOWDOWN, ROUNDS_A_KILL, HEARTBEAT_S = 4, 12.0, 5, 5.0


def start(folder: Path, name: str, tokens: int, round_s: float, **how: Any) -> tuple[subprocess.Popen[bytes], Path]:
    islands = [{"name": f"island-{number}", "slowdown": SLOWDOWN} for number in range(ISLANDS)]
    how = {"round_s": round_s, "heartbeat_s": HEARTBEAT_S, **how}
    path = write_run(folder, name, tokens / BATCH_TOKENS, islands, how, checkpoint={"every_steps": 200})
    command = [sys.executable, "-m", "everyflop", "train", str(path)]
    return subprocess.Popen(command, stdout=sys.stderr), folder / name


def process_of(run_dir: Path, name: str) -> int | None:
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if str(run_dir / "islands" / "run.toml") in words and name in words:
            return int(folder.name)
    return None


def kill_at_random(
    process: subprocess.Popen[bytes], run_dir: Path, kills: list[int], round_s: float, *, with_coordinator: bool
) -> list[str]:
    """Kill an island at a random moment of the round after so many tokens each, and the coordinator once.

    Returns the victims.
    """
    rng, victims = random.Random(0), []
    plan = [[f"island-{rng.randrange(ISLANDS)}"] for _ in kills]
    if with_coordinator:
        plan[(len(plan) - 1) // 2].append("coordinator")
    for names, tokens in zip(plan, kills, strict=True):
        while max((record["tokens"] for record in read_lines(run_dir / "rounds.jsonl")), default=0) < tokens:
            if process.poll() is not None:
                return victims
            time.sleep(0.1)
        time.sleep(rng.random() * round_s)
        for name in names:
            if (pid := process_of(run_dir, name)) is not None:
                with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(pid, signal.SIGKILL)
                    victims.append(name)
    return victims


def goodput(records: list[dict[str, Any]]) -> float:
    """Return committed tokens a second of wall time, from the second commit on."""
    first, last = records[1], records[-1]
    wall_s = (datetime.fromisoformat(last["time"]) - datetime.fromisoformat(first["time"])).total_seconds()
    return (last["tokens"] - first["tokens"]) / wall_s


def outcome(run_dir: Path) -> dict[str, Any]:
    records, events = read_lines(run_dir / "rounds.jsonl"), read_lines(run_dir / "events.jsonl")
    summary = json.loads((run_dir / "summary.json").read_text())
    used = sorted(n for record in records for member in record["members"].values() for n in numbers(member["ranges"]))
    waits = [
        member["lost_s"]
        for before, record in itertools.pairwise(records)
        for name, member in record["members"].items()
        if len(before["members"]) == ISLANDS and name in before["members"]
    ]
    return {
        "goodput": goodput(records),
        "loss": summary["validation"]["held_out"]["loss"],
        "every_sample_once": used == list(range(len(used))),
        "longest_wait_s": max(waits),
        "restart_s": restart_s(events),
        "rounds": len(records),
    }


def restart_s(events: list[dict[str, Any]]) -> list[float]:
    """Return how long each island that was lost took until it had the others' state again."""
    times: list[float] = []
    for number, event in enumerate(events):
        if event["event"] == "lost":
            back = (e for e in events[number:] if e["event"] == "fetch" and e["island"] == event["island"])
            if (fetch := next(back, None)) is not None:
                ends = [datetime.fromisoformat(e["time"]) for e in (event, fetch)]
                times.append((ends[1] - ends[0]).total_seconds())
    return times


def run_one(folder: Path, name: str, kills: list[int], tokens: int, round_s: float) -> tuple[dict[str, Any], list[str]]:
    """Train once; return what came of it and who was killed."""
    how = {"restarts": 0} if name == "control" else {}
    process, run_dir = start(folder, name, tokens, round_s, **how)
    victims = kill_at_random(process, run_dir, kills, round_s, with_coordinator=name == "killed")
    process.wait()
    return outcome(run_dir) if (run_dir / "summary.json").exists() else {"goodput": 0.0}, victims


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--round-s", type=float, default=32.0)
    parser.add_argument("--tokens-per-s", type=float, default=1300.0, help="in a round; a guess, to size the run")
    asked = parser.parse_args()
    tokens = int(asked.tokens_per_s * asked.round_s * ROUNDS_A_KILL * asked.kills)
    kills = [int((number + 0.5) / asked.kills * tokens) for number in range(asked.kills)]
    some = kills[:2]
    runs = {"undisturbed": ([], tokens), "killed": (kills, tokens), "control": (some, 2 * some[-1])}
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(len(runs)) as pool:
        futures = {
            name: pool.submit(run_one, Path(scratch), name, kills, n, asked.round_s)
            for name, (kills, n) in runs.items()
        }
        found = {name: future.result()[0] for name, future in futures.items()}
        victims = {name: future.result()[1] for name, future in futures.items()}
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    part = found["killed"]["goodput"] / found["undisturbed"]["goodput"]
    loss = found["killed"]["loss"] / found["undisturbed"]["loss"] - 1
    back_s = statistics.median(found["killed"].get("restart_s") or [math.inf])
    line = {
        "what": f"four islands, a kill every {ROUNDS_A_KILL} rounds of {asked.round_s:g} s, slowed islands; measured",
        "commit": commit.stdout.strip(),
        "goodput_share": {"is": part, "at_least": 0.9},
        "loss_higher_by": {"is": loss, "at_most": 0.01},
        "longest_wait_s": {"is": found["killed"]["longest_wait_s"], "at_most": HEARTBEAT_S + 2},
        "rounds_a_kill": {"is": found["killed"]["rounds"] / asked.kills, "at_most": ROUNDS_A_KILL + 0.5},
        "round_over_restart": {"is": asked.round_s / back_s, "at_least": 4},
        "kills": victims,
        "found": found,
        "control_goodput_share": found["control"]["goodput"] / found["undisturbed"]["goodput"],
    }
    print(json.dumps(line))
    once = found["killed"]["every_sample_once"]
    holds = part >= 0.9 and abs(loss) <= 0.01 and once and line["longest_wait_s"]["is"] <= HEARTBEAT_S + 2
    holds = holds and asked.round_s >= 4 * back_s and found["killed"]["rounds"] <= (ROUNDS_A_KILL + 0.5) * asked.kills
    return 0 if holds and line["control_goodput_share"] < 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
