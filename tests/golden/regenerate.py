"""The run behind loss_cpu.json: `python tests/golden/regenerate.py` trains it again and writes the file anew.

Do so only for a change that is meant to change what is computed, and say in the commit which one it is and why.
"""

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import everyflop as ef
from everyflop.base.files import read_lines, write_json
from everyflop.spec.read import parse_run

GOLDEN_FILE = Path(__file__).with_name("loss_cpu.json")

TABLES: dict[str, dict[str, Any]] = {
    "run": {"name": "golden", "threads": 1},
    "model": {
        "family": "ling-v2",
        "vocab_size": 320,
        "hidden": 64,
        "n_layers": 3,
        "dense_layers": [0],
        "dense_width": 128,
        "n_heads": 4,
        "n_kv_heads": 2,
        "head_dim": 16,
        "rotary_dim": 8,
        "n_experts": 8,
        "experts_per_token": 2,
        "expert_width": 32,
        "n_shared_experts": 1,
        "n_groups": 4,
        "keep_groups": 2,
        "n_mtp_layers": 1,
        "mtp_loss_weight": 0.1,
        "max_positions": 64,
    },
    "data": {"vocab_size": 320, "held_out_share": 0.05},
    "train": {"tokens": 30 * 512, "seq_len": 64, "batch_tokens": 512, "micro_batch": 4},
    # Steep enough that 30 steps tell a changed part from rounding, and not so steep that rounding grows to be seen.
    "optim": {"lr": 4e-3, "schedule": "cosine", "warmup_share": 0.1},
    "router": {"bias_update": 5e-2, "balance_loss": 1e-2, "z_loss": 1e-3},
}
"""Thirty steps of eight windows in two micro-batches, of a model with each part of Ling 2.0."""

WORDS = (
    "a blade cuts deep; every field grows hay in June, keeps lambs more or not. Open paths (quite rough) seem to turn"
)


def write_text(folder: Path) -> None:
    """Write 60 documents, each a phrase of its own said again and again: attention has something to find."""
    rng = np.random.default_rng(2024)
    for number in range(60):
        phrase = " ".join(rng.choice(WORDS.split(), size=7))
        (folder / f"{number:02d}.txt").write_text("\n".join([phrase] * 24))


def losses(precision: str, folder: Path) -> list[float]:
    """Train in an empty folder and return each step's loss (nats a token)."""
    (folder / "text").mkdir()
    write_text(folder / "text")
    tables = TABLES | {
        "run": {**TABLES["run"], "out_dir": str(folder)},
        "data": {**TABLES["data"], "sources": str(folder / "text")},
        "train": {**TABLES["train"], "precision": precision},
    }
    run, problems = parse_run(tables)
    assert run is not None, problems
    ef.train(run, stream=io.StringIO())
    return [line["loss"] for line in read_lines(run.dir / "metrics.jsonl")]


def main() -> None:
    """Write the golden file."""
    curves = {}
    for precision in ("fp32", "bf16"):
        with tempfile.TemporaryDirectory() as folder:
            curves[precision] = [float(f"{loss:.7g}") for loss in losses(precision, Path(folder))]
    write_json(GOLDEN_FILE, curves)
    print(f"wrote {GOLDEN_FILE}", file=sys.stderr)


if __name__ == "__main__":
    main()
