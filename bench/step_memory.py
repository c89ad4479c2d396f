"""Hold the memory of a training step against its prediction (`accounting/step_memory.py`).

    python bench/step_memory.py [--heap train|pages|glibc]

trains a few steps in twelve configurations, each in a process of its own, and prints one JSON line: by how much the
resident memory of the process rose at most over one that has only imported torch, and what was predicted. Layers are
not compiled. Every rise is 1.5 GiB or more, and each prediction must be within 8 %. Two controls must not be in
some: the same predictions without what the backward pass keeps, and with the other precision's.

The heap is by default the one that `everyflop train` takes, tcmalloc where the system has it; "pages" makes glibc give
tensors of 1 MiB and more pages of their own, and with "glibc" as it is, freed blocks between others stay resident.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from everyflop.accounting.step_memory import step_memory
from everyflop.backend.heap import better_heap
from everyflop.base.units import GIB
from everyflop.spec.model import ModelSpec

ROOT = Path(__file__).resolve().parent.parent
MOST, LEAST_RISE_GIB = 0.08, 1.5
CODE_GIB = 0.2
"""What everyflop's imports and the libraries' matmul kernels take: *fitted* to these twelve, one number for all."""
STEPS = 3
HEAPS = {"train": better_heap(["train"], {}), "pages": {"MALLOC_MMAP_THRESHOLD_": str(2**20)}, "glibc": {}}

SMALL = {
    "family": "qwen3-moe",
    **{"vocab_size": 16384, "hidden": 512, "n_layers": 8, "n_heads": 8, "n_kv_heads": 4, "head_dim": 64},
    **{"n_experts": 32, "experts_per_token": 4, "expert_width": 192},
}
LING = {
    "family": "ling-v2",
    **{"vocab_size": 32768, "hidden": 768, "n_layers": 6, "n_heads": 12, "n_kv_heads": 4, "head_dim": 64},
    **{"dense_layers": [0], "dense_width": 2048, "n_experts": 32, "experts_per_token": 4, "expert_width": 256},
    **{"n_shared_experts": 1, "n_groups": 4, "keep_groups": 2},
}
CONFIGURATIONS: list[dict[str, Any]] = [
    *({"model": "small", "rows": rows, "precision": "bf16", "recompute": "none"} for rows in (2, 8, 16)),
    *({"model": "small", "rows": rows, "precision": "bf16", "recompute": "layer"} for rows in (4, 16)),
    *({"model": "small", "rows": rows, "precision": "fp32", "recompute": "none"} for rows in (4, 8)),
    {"model": "small", "rows": 4, "precision": "bf16", "recompute": "none", "micro_batches": 2},
    *({"model": "ling", "rows": rows, "precision": "bf16", "recompute": "none"} for rows in (4, 8)),
    {"model": "ling", "rows": 8, "precision": "bf16", "recompute": "layer"},
    {"model": "ling", "rows": 4, "precision": "fp32", "recompute": "layer", "micro_batches": 2},
]
MODELS = {"small": SMALL, "ling": LING}
SEQ_LEN = 512


def risen_gib(configuration: dict[str, Any]) -> float:
    """Train some steps in this process, which has imported torch alone so far; return the rise of its peak."""
    import torch  # noqa: F401

    with open("/proc/self/statm") as file:
        before = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / GIB

    from everyflop.backend.device import detect
    from everyflop.backend.memory import peak_rss_gib
    from everyflop.spec.read import parse_run
    from everyflop.train.settings import settle
    from everyflop.train.timed_step import TimedStep

    rows, micro_batches = configuration["rows"], configuration.get("micro_batches", 1)
    train = {"tokens": "1T", "seq_len": SEQ_LEN, "batch_tokens": rows * micro_batches * SEQ_LEN, "micro_batch": rows}
    train |= {"precision": configuration["precision"], "recompute": configuration["recompute"], "compile": "off"}
    run, problems = parse_run({"model": MODELS[configuration["model"]], "train": train, "optim": {"lr": 1e-4}})
    if run is None or run.model is None:
        raise SystemExit(str(problems))
    device = detect(processor=True)
    step = TimedStep(settle(run, run.model, device), device)
    for _ in range(STEPS):
        step()
    return peak_rss_gib() - before


def predicted_gib(configuration: dict[str, Any], **changed: Any) -> dict[str, float]:
    """Return the prediction and its parts."""
    asked = configuration | changed
    found = step_memory(
        ModelSpec.model_validate(MODELS[asked["model"]]),
        rows=asked["rows"],
        seq_len=SEQ_LEN,
        precision=asked["precision"],
        recompute=asked["recompute"] == "layer",
        micro_batches=asked.get("micro_batches", 1),
    )
    parts = {name: getattr(found, name) / GIB for name in found.__slots__}
    return {"total": found.total / GIB + CODE_GIB, **parts}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--heap", choices=HEAPS, default="train")
    asked = parser.parse_args()
    if asked.one:
        print(risen_gib(json.loads(asked.one)))
        return 0
    lines, environment = [], os.environ | HEAPS[asked.heap]
    for configuration in CONFIGURATIONS:
        command = [sys.executable, __file__, "--one", json.dumps(configuration)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        risen, predicted = float(done.stdout.split()[-1]), predicted_gib(configuration)
        other = "fp32" if configuration["precision"] == "bf16" else "bf16"
        lines.append(
            {
                **configuration,
                "risen_gib": round(risen, 3),
                "predicted_gib": {name: round(gib, 3) for name, gib in predicted.items()},
                "off_by": round(predicted["total"] / risen - 1, 3),
                "off_without_kept": round((predicted["total"] - predicted["kept"]) / risen - 1, 3),
                "off_with_other_precision": round(
                    predicted_gib(configuration, precision=other)["total"] / risen - 1, 3
                ),
            }
        )
        print(lines[-1], file=sys.stderr, flush=True)
    checks = {
        "within": all(abs(line["off_by"]) <= MOST for line in lines),
        "rises": all(line["risen_gib"] >= LEAST_RISE_GIB for line in lines),
        "controls_fail": all(
            any(abs(line[control]) > MOST for line in lines)
            for control in ("off_without_kept", "off_with_other_precision")
        ),
    }
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    what = "resident memory of training steps over torch's own, measured, against its prediction"
    heap = {"heap": asked.heap, "by": HEAPS[asked.heap]}
    print(json.dumps({"what": what, "commit": commit.stdout.strip(), **heap, "runs": lines, "checks": checks}))
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
