"""Measure this machine, plan a short run on it, train from the unedited plan, and hold the two together.

Prints one JSON line: predicted speed and cost with their intervals, what was measured, and the ratio. Takes about three
minutes. The run is recipes/tiny_cpu.toml with fewer tokens, the price that of recipes/fleets/laptop.toml (an example).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tomli_w
import torch

from everyflop.spec.read import read_run

ROOT = Path(__file__).resolve().parent.parent
TOKENS = 256 * 1024


def everyflop(*arguments: object) -> None:
    """Run a command as a user does, in a process of its own."""
    command = [sys.executable, "-m", "everyflop", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=sys.stderr)


def planned_run(folder: Path) -> dict[str, Any]:
    """Measure, plan, train; return the run's summary."""
    run_file, measured, plan = (folder / name for name in ("run.toml", "measured.toml", "plan.json"))
    overrides = [f"train.tokens={TOKENS}", "train.validate_every_steps=0", f"run.out_dir={folder}"]
    run = read_run(ROOT / "recipes" / "tiny_cpu.toml", overrides)
    run_file.write_text(tomli_w.dumps(run.to_tables()))
    fleet = ROOT / "recipes" / "fleets" / "laptop.toml"
    everyflop("measure", "--run", run_file, "--out", measured)
    everyflop("plan", fleet, "--model", run_file, "--measured", measured, "--out", plan)
    everyflop("train", run_file, "--plan", plan)
    return json.loads((run.dir / "summary.json").read_text())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        summary = planned_run(Path(folder))
    plan = summary["plan"]
    inside = {
        name: plan[name]["predicted"]["p10"] <= plan[name]["measured"] <= plan[name]["predicted"]["p90"]
        for name in ("tokens_per_s", "cost")
    }
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    line = {
        "what": "a short run on this machine, predicted by its plan and measured",
        "commit": commit.stdout.strip(),
        "device": summary["device"],
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "precision": summary["precision"],
        "tokens": summary["tokens"],
        "steps": summary["steps"],
        **plan,
        "inside_p10_p90": inside,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
