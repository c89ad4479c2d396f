"""What a heap that keeps large blocks is worth: a training step's processor time and memory with each.

    python bench/heap.py [--repeats 3]

Trains steps of 4,096 tokens of a model of 99 M parameters (that of step_memory.py, bf16, layers not compiled, one
thread), each heap in a process of its own, in turn. Prints one JSON line: the quickest of four steps in each process,
in seconds of processor time, and its peak of resident memory. Fails when the heap that `everyflop train` takes here is
not quicker than glibc's in every repeat; the control, glibc again, must be within 5 % of it. Seven minutes.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from statistics import median

from step_memory import MODELS, ROOT

from everyflop.backend.heap import KEEPING, better_heap

STEPS, WARM = 4, 2


def train_some() -> None:
    """Train in this process; print its quickest step's processor time and its peak of memory."""
    import torch

    torch.set_num_threads(1)
    from everyflop.backend.device import detect
    from everyflop.backend.memory import peak_rss_gib
    from everyflop.spec.read import parse_run
    from everyflop.train.settings import settle
    from everyflop.train.timed_step import TimedStep

    train = {"tokens": "1T", "seq_len": 512, "batch_tokens": 4096, "micro_batch": 8}
    train |= {"precision": "bf16", "compile": "off"}
    run, problems = parse_run({"model": MODELS["small"], "train": train, "optim": {"lr": 1e-4}})
    if run is None or run.model is None:
        raise SystemExit(str(problems))
    device = detect(processor=True)
    step, took_s = TimedStep(settle(run, run.model, device), device), []
    for _ in range(WARM + STEPS):
        started_s = time.process_time()
        step()
        took_s.append(time.process_time() - started_s)
    print(json.dumps({"cpu_s": min(took_s[WARM:]), "peak_gib": peak_rss_gib()}))


def main() -> int:
    """Run all heaps in turn; 1 when ours is not quicker, or glibc is quicker than itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--train-some", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.train_some:
        train_some()
        return 0
    heaps = {"glibc": {}, "ours": better_heap(["train"], {}), "glibc that keeps": KEEPING, "glibc again": {}}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in heaps}
    for _ in range(asked.repeats):
        for name, heap in heaps.items():
            command = [sys.executable, __file__, "--train-some"]
            done = subprocess.run(command, env={**os.environ, **heap}, check=True, capture_output=True, text=True)
            found[name].append(json.loads(done.stdout))
            print(name, found[name][-1], file=sys.stderr)
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    line = {"what": "processor seconds of a step of 4,096 tokens, 99 M parameters, and peak resident GiB"}
    print(json.dumps({**line, "commit": commit.stdout.strip(), "ours": heaps["ours"], "found": found}))
    seconds = {name: [one["cpu_s"] for one in runs] for name, runs in found.items()}
    quicker = all(ours < glibc for ours, glibc in zip(seconds["ours"], seconds["glibc"], strict=True))
    return int(not quicker or abs(median(seconds["glibc again"]) / median(seconds["glibc"]) - 1) > 0.05)


if __name__ == "__main__":
    sys.exit(main())
