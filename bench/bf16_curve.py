"""Compare 200 steps of training in bf16 with the same in fp32: recipes/tiny_cpu.toml, the same data and schedule.

    python bench/bf16_curve.py

prints one JSON line: the mean relative difference of the losses, which must be below 0.3 %, and that of a control in
fp32 that begins with other weights, which must not. Takes about three minutes.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).resolve().parent.parent
STEPS, BATCH_TOKENS = 200, 1024
MOST = 0.003


def losses(out_dir: Path, name: str, *overrides: str) -> list[float]:
    """Train the recipe's first steps as a user does; return the loss of each."""
    command = [sys.executable, "-m", "everyflop", "train", str(ROOT / "recipes" / "tiny_cpu.toml")]
    command += [f"run.out_dir={out_dir}", f"run.name={name}", f"train.tokens={STEPS * BATCH_TOKENS}"]
    subprocess.run([*command, "train.validate_every_steps=0", *overrides], check=True, stdout=sys.stderr)
    return [json.loads(line)["loss"] for line in (out_dir / name / "metrics.jsonl").read_text().splitlines()]


def apart(losses: list[float], reference: list[float]) -> float:
    """Return the mean relative difference."""
    return fmean(abs(a - b) / b for a, b in zip(losses, reference, strict=True))


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        out_dir = Path(scratch)
        fp32 = losses(out_dir, "fp32", "train.precision=fp32")
        bf16 = losses(out_dir, "bf16", "train.precision=bf16")
        control = losses(out_dir, "control", "train.precision=fp32", "run.seed=1")
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    found, of_control = apart(bf16, fp32), apart(control, fp32)
    line = {
        "what": f"losses of {STEPS} steps of recipes/tiny_cpu.toml in bf16 against fp32, measured",
        "commit": commit.stdout.strip(),
        "mean_relative_difference": {"is": found, "below": MOST},
        "control_with_another_seed": of_control,
        "last_losses": {"bf16": bf16[-1], "fp32": fp32[-1]},
    }
    print(json.dumps(line))
    return 0 if found < MOST <= of_control else 1


if __name__ == "__main__":
    sys.exit(main())
