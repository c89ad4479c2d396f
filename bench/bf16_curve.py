"""Compare 200 steps of training in bf16 with the same in fp32: the same data, weights, order and schedule.

    python bench/bf16_curve.py [RUN.toml] [--keep DIR]

trains bench/qwen3_24m.toml, or another run file's first 200 steps, as a user does, and prints one JSON line: the mean
relative difference of the losses for two seeds, which must be below 0.3 %, and that of a control, one seed in bf16
against the other in fp32, which must not. Beside it stands the floor: fp32 against itself with one thread, which is
rounding alone. Takes about half an hour on two cores. With --keep the run directories stay in DIR, and finished ones
that are there already are read.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).resolve().parent.parent
STEPS, PARTS, SEEDS = 200, 4, (0, 1)
MOST = 0.003


def losses(run_file: Path, out_dir: Path, name: str, *overrides: str) -> list[float]:
    """Train the run's first steps as a user does; return the loss of each."""
    run_dir = out_dir / name
    if not (run_dir / "summary.json").exists():
        tokens = STEPS * tomllib.loads(run_file.read_text())["train"]["batch_tokens"]
        command = [sys.executable, "-m", "everyflop", "train", str(run_file), f"run.out_dir={out_dir}"]
        command += [f"run.name={name}", f"train.tokens={tokens}", "train.validate_every_steps=0", *overrides]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return [json.loads(line)["loss"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def apart(losses: list[float], reference: list[float]) -> float:
    """Return the mean relative difference."""
    return fmean(abs(a - b) / b for a, b in zip(losses, reference, strict=True))


def compare(run_file: Path, out_dir: Path) -> dict:
    """Return the figures."""
    fp32, other_fp32 = (losses(run_file, out_dir, f"fp32-{n}", "train.precision=fp32", f"run.seed={n}") for n in SEEDS)
    bf16, other_bf16 = (losses(run_file, out_dir, f"bf16-{n}", "train.precision=bf16", f"run.seed={n}") for n in SEEDS)
    floor = losses(run_file, out_dir, "floor", "train.precision=fp32", "run.threads=1")
    size = STEPS // PARTS
    parts = [slice(first, first + size) for first in range(0, STEPS, size)]
    return {
        "mean_relative_difference": {"is": [apart(bf16, fp32), apart(other_bf16, other_fp32)], "below": MOST},
        "by_fifties": [apart(bf16[part], fp32[part]) for part in parts],
        "floor_of_fp32_with_one_thread": apart(floor, fp32),
        "control_with_another_seed": apart(other_bf16, fp32),
        "last_losses": {"bf16": bf16[-1], "fp32": fp32[-1]},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_file", nargs="?", type=Path, default=ROOT / "bench" / "qwen3_24m.toml")
    parser.add_argument("--keep", type=Path, help="keep the run directories here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = compare(asked.run_file, asked.keep or Path(scratch))
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    what = f"losses of {STEPS} steps of {asked.run_file.name} in bf16 against fp32, measured"
    print(json.dumps({"what": what, "commit": commit.stdout.strip(), **found}))
    return 0 if max(found["mean_relative_difference"]["is"]) < MOST <= found["control_with_another_seed"] else 1


if __name__ == "__main__":
    sys.exit(main())
