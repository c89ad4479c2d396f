"""Time the training step beside transformers' on the same model and batch: forward, backward, clipping, AdamW.

    python bench/train_step.py [SIZE ...] [--repeats 5] [--steps 8] [--only VARIANT] [--same-heap] [--no-losses]

SIZE is 24m, 100m or ling-mini (the default is 24m). Every measurement is a process of its own, so that memory is its
own too. First each of transformers' variants runs once (how experts are computed, type, torch.compile); then its
fastest and everyflop alternate. everyflop keeps parameters, gradients and moments in fp32, whatever the variant keeps,
and chooses its heap (backend/heap.py); transformers has the system's, as it comes, or with --same-heap that one too.
Prints one JSON line for each size: tokens/s (median over a process's steps, then over processes), the ratio of each
pair, peak resident memory, MFU against the peak measured in the type that is timed.

Losses of 20 steps in fp32 are compared at a learning rate of 1e-4: at 1e-3 from the first step on, a token whose two
next experts are as good as equal changes its choice by rounding alone, and losses of transformers' own variants are
1e-3 apart after 20 steps. The control is the same model with another epsilon in its norms, 1e-5 for 1e-6.

A Ling-mini-2.0 slice has its hidden and expert widths, 256 experts of which 8 are chosen, and two layers, one of them
dense; 16 GiB of memory are needed for it.
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from everyflop.backend.heap import better_heap

SIZES: dict[str, dict[str, Any]] = {
    "24m": {
        **{"vocab_size": 8192, "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 8},
        **{"num_key_value_heads": 4, "head_dim": 32, "num_experts": 32, "num_experts_per_tok": 4},
        **{"moe_intermediate_size": 128, "intermediate_size": 512},
    },
    "100m": {
        **{"vocab_size": 16384, "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8},
        **{"num_key_value_heads": 4, "head_dim": 64, "num_experts": 32, "num_experts_per_tok": 4},
        **{"moe_intermediate_size": 192, "intermediate_size": 1024},
    },
    "ling-mini": {
        **{"vocab_size": 16384, "hidden_size": 2048, "num_hidden_layers": 2, "num_attention_heads": 16},
        **{"num_key_value_heads": 4, "head_dim": 128, "num_experts": 256, "num_experts_per_tok": 8},
        **{"moe_intermediate_size": 512, "intermediate_size": 5120, "mlp_only_layers": [0]},
    },
}
ROWS, SEQ_LEN, LR = 8, 512, 1e-3
SYSTEMS: dict[str, str] = {}
"""What chooses the system's heap."""
COMPARED_LR, COMPARED_STEPS = 1e-4, 20
VARIANTS = list(product(("grouped_mm", "eager"), ("bf16", "fp32", "autocast"), ("compile", "plain")))
"""Of transformers: experts, type (of the parameters too, but for autocast), torch.compile of the whole model."""


def make(size: str, folder: Path) -> None:
    """Write a model with seeded weights."""
    import torch
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    torch.manual_seed(0)
    config = Qwen3MoeConfig(**SIZES[size], norm_topk_prob=True, max_position_embeddings=4096, router_aux_loss_coef=0.0)
    Qwen3MoeForCausalLM(config).save_pretrained(folder)


def theirs(folder: Path, experts: str, precision: str, how: str, steps: int, lr: float) -> dict[str, Any]:
    """Train with transformers on the batch that `everyflop profile` takes, and time each step."""
    import torch
    from transformers import Qwen3MoeForCausalLM

    from everyflop.train.random_windows import random_windows

    kept = torch.bfloat16 if precision == "bf16" else torch.float32
    model = Qwen3MoeForCausalLM.from_pretrained(folder, dtype=kept, experts_implementation=experts).train()
    batch = random_windows(model.config.vocab_size, ROWS, seq_len=SEQ_LEN)
    inputs, targets = torch.from_numpy(batch.inputs_BT), torch.from_numpy(batch.targets_BT)
    groups = [  # matrices decay, norms do not, as in everyflop
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), fused=True)
    forward = torch.compile(model) if how == "compile" else model
    step_s, losses = [], []
    for _ in range(steps):
        began_s = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        cast = torch.autocast("cpu", torch.bfloat16) if precision == "autocast" else contextlib.nullcontext()
        with cast:
            loss = forward(inputs, labels=targets, shift_labels=targets, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        step_s.append(time.perf_counter() - began_s)
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    tokens_per_s = ROWS * SEQ_LEN / statistics.median(step_s[1:])
    return {"tokens_per_s": tokens_per_s, "step_s": step_s, "losses": losses, "peak_rss_gib": peak_gib}


def run_theirs(
    folder: Path, variant: tuple[str, str, str], steps: int, lr: float = LR, heap: Mapping[str, str] = SYSTEMS
) -> dict[str, Any]:
    """Run transformers in a process of its own, with variables that choose its heap."""
    command = [sys.executable, __file__, "--theirs", str(folder), *variant, "--steps", str(steps), "--lr", str(lr)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | heap)
    return json.loads(done.stdout.splitlines()[-1])


def run_ours(folder: Path, precision: str, steps: int, lr: float = LR) -> dict[str, Any]:
    """Run `everyflop profile` in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "profile.json"
        command = [sys.executable, "-m", "everyflop", "profile", "--hf", str(folder), "--batch", str(ROWS)]
        command += ["--seq-len", str(SEQ_LEN), "--steps", str(steps), "--precision", precision, "--json", str(out)]
        subprocess.run([*command, f"optim.lr={lr}"], capture_output=True, check=True)
        return json.loads(out.read_text())


def race(
    size: str,
    folder: Path,
    repeats: int,
    steps: int,
    variants: list[tuple[str, str, str]],
    *,
    same_heap: bool,
    with_losses: bool,
) -> dict[str, Any]:
    """Return the figures of a size: every variant once, then the fastest against ours in turns."""
    ours = better_heap(["profile"], os.environ)
    heap = ours if same_heap else SYSTEMS
    screened = {variant: run_theirs(folder, variant, steps, heap=heap)["tokens_per_s"] for variant in variants}
    best = max(screened, key=lambda variant: screened[variant])
    pairs = [(run_ours(folder, "bf16", steps), run_theirs(folder, best, steps, heap=heap)) for _ in range(repeats)]
    ratios = [ours["tokens_per_s"] / other["tokens_per_s"] for ours, other in pairs]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return {
        "what": "tokens/s of a training step, ours in bf16 with fp32 parameters, transformers' fastest variant",
        "size": size,
        "commit": commit,
        "heaps": {"ours": ours, "theirs": heap},
        "screened": {" ".join(variant): round(speed) for variant, speed in screened.items()},
        "fastest_of_theirs": " ".join(best),
        "ours": [round(ours["tokens_per_s"]) for ours, _ in pairs],
        "theirs": [round(other["tokens_per_s"]) for _, other in pairs],
        "ratio": {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)},
        "mfu": statistics.median(ours["mfu"] for ours, _ in pairs),
        "peak_gflop_per_s": statistics.median(ours["peak_flops_per_s"] for ours, _ in pairs) / 1e9,
        "peak_rss_gib": {
            "ours": [round(ours["peak_rss_gib"], 2) for ours, _ in pairs],
            "theirs": [round(other["peak_rss_gib"], 2) for _, other in pairs],
        },
        **({"fp32_losses": compare_losses(folder)} if with_losses else {}),
    }


def compare_losses(folder: Path) -> dict[str, float]:
    """Return how far losses in fp32 are apart at most, ours and theirs, and with a mistake planted in ours."""
    reference = run_theirs(folder, ("grouped_mm", "fp32", "compile"), COMPARED_STEPS, COMPARED_LR)["losses"]

    def furthest(of: Path) -> float:
        losses = run_ours(of, "fp32", COMPARED_STEPS, COMPARED_LR)["losses"]
        return max(abs(a - b) / b for a, b in zip(losses, reference, strict=True))

    with tempfile.TemporaryDirectory() as scratch:
        planted = Path(scratch) / "planted"
        shutil.copytree(folder, planted)
        config = json.loads((planted / "config.json").read_text())
        (planted / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))
        return {"differ_by": furthest(folder), "with_another_epsilon": furthest(planted)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", default=["24m"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--only", action="append", help='one of their variants, such as "grouped_mm autocast compile"')
    parser.add_argument("--same-heap", action="store_true", help="give transformers the heap of everyflop too")
    parser.add_argument("--no-losses", action="store_true", help="leave the comparison in fp32 out")
    parser.add_argument("--lr", type=float, default=LR, help=argparse.SUPPRESS)
    parser.add_argument("--theirs", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.theirs:
        folder, *variant = asked.theirs
        print(json.dumps(theirs(Path(folder), *variant, asked.steps, asked.lr)))
        return 0
    variants = [v for v in VARIANTS if not asked.only or " ".join(v) in asked.only]
    for size in asked.sizes:
        with tempfile.TemporaryDirectory() as folder:
            make(size, Path(folder))
            how = {"same_heap": asked.same_heap, "with_losses": not asked.no_losses}
            print(json.dumps(race(size, Path(folder), asked.repeats, asked.steps, variants, **how)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
