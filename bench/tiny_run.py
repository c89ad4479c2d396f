"""Measure what `make train` promises: bits per byte, tokens, time and memory of recipes/tiny_islands.toml, end to end,
beside recipes/tiny_cpu.toml, the same model trained by one process.

Prints one JSON line with each figure beside its target. The negative control trains on hardly any tokens: it must miss
the quality targets, or they would mean nothing. Takes about ten minutes.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
MOST_TOKENS = 1_000_000
MOST_BITS_PER_BYTE = 1.85
MOST_OVER_ALONE = 1.02
MOST_MEMORY_GIB = 2.5
KIB_A_GIB = 1 << 20


def run_recipe(out_dir: Path, recipe: str, *overrides: str) -> dict[str, Any]:
    """Train a recipe as a user does, in processes of its own; return its summary with the yardsticks in it."""
    command = [sys.executable, "-m", "everyflop", "train", str(ROOT / "recipes" / recipe)]
    name = f"bench-{len(list(out_dir.iterdir()))}"
    command += [f"run.out_dir={out_dir}", f"run.name={name}", *overrides]
    process, most_gib = subprocess.Popen(command, stdout=sys.stderr), 0.0
    while process.poll() is None:
        most_gib = max(most_gib, resident_gib(process.pid))
        time.sleep(0.5)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    summary = json.loads((out_dir / name / "summary.json").read_text())
    yardsticks = json.loads((out_dir / name / "yardsticks.json").read_text())["bits_per_byte"]
    return {**summary, "yardsticks": yardsticks, "memory_gib": max(most_gib, summary["peak_rss_gib"])}


def resident_gib(pid: int) -> float:
    """Return the memory that a process and its children take just now, what they share counted once."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        rolled_up = [Path(f"/proc/{one}/smaps_rollup").read_text() for one in [str(pid), *children]]
    except OSError:  # one has just ended
        return 0.0
    found = [re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE) for text in rolled_up]
    return sum(int(match[1]) for match in found if match) / KIB_A_GIB


def figures(run: dict[str, Any]) -> dict[str, Any]:
    """Return what a run is measured by."""
    return {
        "tokens": run["tokens"],
        "bits_per_byte": round(bits_per_byte(run), 4),
        "training_s": round(run["seconds"], 1),
        "tokens_per_s": round(run["tokens_per_s"]),
        "memory_gib": round(run["memory_gib"], 2),
        "cost": run["cost"],
        "weights_sha256": run["weights_sha256"],
    }


def bits_per_byte(run: dict[str, Any]) -> float:
    return next(iter(run["validation"].values()))["bits_per_byte"]


def quality_holds(run: dict[str, Any]) -> bool:
    """Whether a run meets the quality targets."""
    return bits_per_byte(run) <= MOST_BITS_PER_BYTE and bits_per_byte(run) < run["yardsticks"]["byte_5gram"]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        prepared = f"data.prepared_dir={folder}/prepared"
        alone = run_recipe(Path(folder), "tiny_cpu.toml", prepared)
        islands = run_recipe(Path(folder), "tiny_islands.toml", prepared)
        control = run_recipe(Path(folder), "tiny_islands.toml", prepared, "train.tokens=16K")
    checks = {
        "tokens": all(run["tokens"] <= MOST_TOKENS for run in (islands, alone)),
        "quality": all(map(quality_holds, (islands, alone))),
        "like_alone": bits_per_byte(islands) <= MOST_OVER_ALONE * bits_per_byte(alone),
        "memory": all(run["memory_gib"] < MOST_MEMORY_GIB for run in (islands, alone)),
        "control_fails": not quality_holds(control),
    }
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    line = {
        "what": "recipes/tiny_islands.toml and tiny_cpu.toml end to end, measured",
        "commit": commit.stdout.strip(),
        "device": alone["device"],
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "parameters": alone["parameters"],
        "at_most": {
            "tokens": MOST_TOKENS,
            "bits_per_byte": MOST_BITS_PER_BYTE,
            "over_alone": MOST_OVER_ALONE,
            "memory_gib": MOST_MEMORY_GIB,
        },
        "islands": figures(islands),
        "alone": figures(alone),
        "yardsticks": {name: round(bits, 4) for name, bits in alone["yardsticks"].items()},
        "control_bits_per_byte": round(bits_per_byte(control), 4),
        "checks": checks,
    }
    print(json.dumps(line))
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
