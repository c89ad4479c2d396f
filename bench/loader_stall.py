"""Measure how long a training step waits for its batch.

    python bench/loader_stall.py

trains bench/qwen3_24m.toml for some steps as a user does, compiled where that is possible, and prints one JSON line:
the share of each step's time that passes until its batch is there, which must be below 1 % in the median and in nine
of ten steps. In the control, the last steps of the same run, each batch comes 50 ms later, and it must not be. Files
that were just prepared lie in the system's memory. Takes about three minutes.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import everyflop as ef
from everyflop.backend.compiler import why_not
from everyflop.backend.device import detect
from everyflop.data.stream import TrainStream
from everyflop.data.windows import WindowBatch

ROOT = Path(__file__).resolve().parent.parent
BATCH_TOKENS = 8 * 512
MOST, LATE_S = 0.01, 0.05
FIRST, MEASURED, CONTROL = 3, 60, 20
"""Steps: left out, as they compile and warm caches; measured; with batches that are late."""


def train_timed(out_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Train; return the seconds that each step waited and took."""
    waited_s: list[float] = []
    batch = TrainStream.batch

    def timed(self: TrainStream, first: int, count: int) -> WindowBatch:
        began_s = time.perf_counter()
        if len(waited_s) >= FIRST + MEASURED:
            time.sleep(LATE_S)
        found = batch(self, first, count)
        waited_s.append(time.perf_counter() - began_s)
        return found

    TrainStream.batch = timed
    overrides = [f"run.out_dir={out_dir}", f"train.tokens={BATCH_TOKENS * (FIRST + MEASURED + CONTROL)}"]
    overrides += ["train.compile=off" if why_not(detect()) else "train.compile=on"]
    run = ef.read_run(ROOT / "bench" / "qwen3_24m.toml", overrides)
    ef.train(run)
    lines = [json.loads(line) for line in (run.dir / "metrics.jsonl").read_text().splitlines()]
    return np.array(waited_s), np.array([line["step_s"] for line in lines])


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        waited_s, step_s = train_timed(Path(scratch))
    share = waited_s / step_s
    measured, control = np.split(share[FIRST:], [MEASURED])
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    line = {
        "what": f"share of a step's time that it waits for its batch, {MEASURED} steps, measured",
        "commit": commit.stdout.strip(),
        "share": {"median": float(np.median(measured)), "p90": float(np.quantile(measured, 0.9)), "below": MOST},
        "loader_tokens_per_s": round(BATCH_TOKENS / float(np.median(waited_s[FIRST : FIRST + MEASURED]))),
        "step_s": float(np.median(step_s[FIRST : FIRST + MEASURED])),
        f"control_{1000 * LATE_S:.0f}_ms_late": float(np.median(control)),
    }
    print(json.dumps(line))
    return 0 if line["share"]["p90"] < MOST <= np.median(control) else 1


if __name__ == "__main__":
    sys.exit(main())
