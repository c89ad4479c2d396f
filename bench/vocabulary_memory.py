"""Measure that a training step with Ling's vocabulary never holds all logits.

    python bench/vocabulary_memory.py

trains a few steps of a small model with 126,464 tokens in its vocabulary, 8 x 512 tokens at once, and prints one JSON
line: by how much resident memory rose at most over torch's own, which must be less than all logits in fp32 alone would
take (1.93 GiB), so that they cannot have been there. In the control, which takes the loss by its reference (all logits,
then torch's cross entropy), it must be more. Every measurement is a process of its own. Takes about two minutes.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from everyflop.base.units import GIB

ROOT = Path(__file__).resolve().parent.parent
VOCABULARY, ROWS, SEQ_LEN, STEPS = 126_464, 8, 512, 3
ALL_LOGITS_GIB = ROWS * SEQ_LEN * VOCABULARY * 4 / GIB
MODEL = {
    "family": "qwen3-moe",
    **{"vocab_size": VOCABULARY, "hidden": 128, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 32},
    **{"n_experts": 8, "experts_per_token": 2, "expert_width": 64},
}
TRAIN = {"tokens": "1T", "seq_len": SEQ_LEN, "batch_tokens": ROWS * SEQ_LEN, "micro_batch": ROWS, "compile": "off"}


def risen_gib(precision: str, loss: str) -> float:
    """Train some steps in this process, which has imported torch alone so far; return the rise of its peak."""
    import torch  # noqa: F401

    with open("/proc/self/statm") as file:
        before = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / GIB

    from everyflop.backend.device import detect
    from everyflop.backend.memory import peak_rss_gib
    from everyflop.kernels import cross_entropy
    from everyflop.model import transformer
    from everyflop.spec.read import parse_run
    from everyflop.train.settings import settle
    from everyflop.train.timed_step import TimedStep

    if loss == "reference":
        transformer.linear_cross_entropy = cross_entropy.reference
    run, problems = parse_run({"model": MODEL, "train": TRAIN | {"precision": precision}, "optim": {"lr": 1e-4}})
    if run is None or run.model is None:
        raise SystemExit(str(problems))
    device = detect(processor=True)
    step = TimedStep(settle(run, run.model, device), device)
    for _ in range(STEPS):
        step()
    return peak_rss_gib() - before


def measured(precision: str, loss: str) -> float:
    """Return the same of a new process."""
    command = [sys.executable, __file__, "--one", precision, loss]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return round(float(done.stdout.split()[-1]), 3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(risen_gib(*asked.one))
        return 0
    precisions = ("bf16", "fp32")
    ours, control = ({of: measured(of, loss) for of in precisions} for loss in ("chunks", "reference"))
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    line = {
        "what": f"rise of resident memory in training steps with a vocabulary of {VOCABULARY:,}, measured, GiB",
        "commit": commit.stdout.strip(),
        "risen_gib": ours,
        "below": round(ALL_LOGITS_GIB, 3),
        "control_with_all_logits": control,
    }
    print(json.dumps(line))
    return 0 if max(ours.values()) < ALL_LOGITS_GIB <= min(control.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
