"""Measure what `make train` promises: bits per byte, tokens, time and memory of recipes/tiny_cpu.toml, end to end.

Prints one JSON line with each figure beside its target. The negative control trains the same recipe on hardly any
tokens: it must miss the quality targets, or they would mean nothing. Takes about five minutes.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
MOST_TOKENS = 1_000_000
MOST_BITS_PER_BYTE = 1.85
MOST_MEMORY_GIB = 2.5


def run_recipe(out_dir: Path, *overrides: str) -> dict[str, Any]:
    """Train the recipe as a user does, in a process of its own; return its summary with the yardsticks in it."""
    command = [sys.executable, "-m", "everyflop", "train", str(ROOT / "recipes" / "tiny_cpu.toml")]
    name = f"bench-{len(list(out_dir.iterdir()))}"
    subprocess.run([*command, f"run.out_dir={out_dir}", f"run.name={name}", *overrides], check=True, stdout=sys.stderr)
    summary = json.loads((out_dir / name / "summary.json").read_text())
    yardsticks = json.loads((out_dir / name / "yardsticks.json").read_text())
    return {**summary, "yardsticks": yardsticks["bits_per_byte"]}


def quality_holds(summary: dict[str, Any]) -> bool:
    """Whether a run meets the quality targets."""
    bits = next(iter(summary["validation"].values()))["bits_per_byte"]
    return bits <= MOST_BITS_PER_BYTE and bits < summary["yardsticks"]["byte_5gram"]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        run = run_recipe(Path(folder))
        control = run_recipe(Path(folder), "train.tokens=16K", "train.validate_every_steps=0")
    validation = next(iter(run["validation"].values()))
    checks = {
        "tokens": run["tokens"] <= MOST_TOKENS,
        "quality": quality_holds(run),
        "memory": run["peak_rss_gib"] < MOST_MEMORY_GIB,
        "control_fails": not quality_holds(control),
    }
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    line = {
        "what": "recipes/tiny_cpu.toml end to end, measured",
        "commit": commit.stdout.strip(),
        "device": run["device"],
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "parameters": run["parameters"],
        "tokens": {"is": run["tokens"], "at_most": MOST_TOKENS},
        "bits_per_byte": {"is": round(validation["bits_per_byte"], 4), "at_most": MOST_BITS_PER_BYTE},
        "validation_tokens": validation["tokens"],
        "yardsticks": {name: round(bits, 4) for name, bits in run["yardsticks"].items()},
        "training_s": round(run["seconds"], 1),
        "tokens_per_s": round(run["tokens_per_s"]),
        "peak_rss_gib": {"is": round(run["peak_rss_gib"], 2), "below": MOST_MEMORY_GIB},
        "control_bits_per_byte": round(next(iter(control["validation"].values()))["bits_per_byte"], 4),
        "weights_sha256": run["weights_sha256"],
        "checks": checks,
    }
    print(json.dumps(line))
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
