"""How much of their time unequal islands train: three of speeds 16 : 5 : 1 (the slower two simulated), one thread each.

    python bench/islands_efficiency.py [--repeats 5] [--rounds 6]

Each repeat trains bench/islands.toml with the three together and then each alone, and prints nothing but one JSON line
at the end: the share of wall time that was not spent training (at most 2.5 %), each island's tokens/s against its own
alone (at least 90 %), and the whole's against the sum (at least 95 %). Rates alone are of training only, without any
exchange, so they are the harder mark. The control, islands that wait for the slowest with equal batches, must fail.
Demand is 1 + 5/16 + 1/16 cores; nothing else should run.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from everyflop.base.files import read_lines

ROOT = Path(__file__).resolve().parent.parent
SPEEDS = {"first": 16, "second": 5, "third": 1}
SEQUENCES, SEQ_LEN, STEPS = 44, 128, 24
FEWEST_ROUNDS = 4
"""Of which the first and the last are left out."""


def train(
    folder: Path, name: str, islands: list[str], sequences: int, n_rounds: int, **how: Any
) -> list[dict[str, Any]]:
    """Train some islands together; return the commits of rounds that exchange weights."""
    run = tomllib.loads((ROOT / "bench" / "islands.toml").read_text())
    batch = sequences * SEQ_LEN
    run["run"] |= {"name": name, "out_dir": str(folder)}
    run["train"] |= {"micro_batch": 2, "batch_tokens": batch, "tokens": batch * (STEPS * n_rounds + 3)}
    run["data"]["prepared_dir"] = str(ROOT / "runs" / "prepared")
    run["island"] = [{"name": one, "slowdown": SPEEDS["first"] / SPEEDS[one]} for one in islands]
    run["islands"] = {"steps": STEPS, "sync_share": 1.5 / (STEPS * n_rounds + 3), **how}
    path = folder / f"{name}.toml"
    path.write_text(tomli_w.dumps(run))
    subprocess.run([sys.executable, "-m", "everyflop", "train", str(path)], check=True, stdout=sys.stderr)
    records = read_lines(folder / name / "rounds.jsonl")
    # The first one is planned from speeds of single steps; the last one is cut short by the end of the run.
    return [record for record in records if record["exchange"] == "weights"][1:-1]


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


def once(folder: Path, number: int, rounds: int) -> dict[str, Any]:
    """Do one repeat."""
    together = train(folder, f"together-{number}", [*SPEEDS], SEQUENCES, rounds)
    mixed, alone = rates(together, over="wall"), {}
    for name, speed in SPEEDS.items():
        share = round(SEQUENCES * speed / sum(SPEEDS.values()))
        records = train(folder, f"{name}-{number}", [name], share, max(FEWEST_ROUNDS, rounds // 2))
        alone |= rates(records, over="training")
    found = {
        "idle_share": idle_share(together),
        "of_alone": {name: mixed[name] / alone[name] for name in SPEEDS},
        "whole_of_sum": sum(mixed.values()) / sum(alone.values()),
        "tokens_per_s": {"together": mixed, "alone": alone},
    }
    print(json.dumps(found), file=sys.stderr)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=6)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        found = [once(folder, number, asked.rounds) for number in range(asked.repeats)]
        # One sequence for each, and as many steps for all: everybody waits for the slowest.
        control = train(folder, "control", [*SPEEDS], 3, FEWEST_ROUNDS, rounds="steps")
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    medians = {
        "idle_share": statistics.median(one["idle_share"] for one in found),
        "whole_of_sum": statistics.median(one["whole_of_sum"] for one in found),
        "of_alone": {name: statistics.median(one["of_alone"][name] for one in found) for name in SPEEDS},
    }
    wanted = {"idle_share": 0.025, "whole_of_sum": 0.95, "of_alone": 0.9}
    line = {
        "what": "three islands 16 : 5 : 1, slower ones simulated by waiting; measured",
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
        and min(medians["of_alone"].values()) >= wanted["of_alone"]
    )
    return 0 if holds and idle_share(control) > wanted["idle_share"] else 1


if __name__ == "__main__":
    sys.exit(main())
