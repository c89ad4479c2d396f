"""Time each kernel against what it replaces, forward and backward, on one thread and in turns.

    python bench/kernels.py

prints one JSON line: milliseconds (median of the turns) and the ratio. Attention: blocks against torch's fused kernel,
8 sequences of 512. Experts: rows in whole blocks against rows as they come, new numbers of rows every time, as in
training. Loss: chunks against all logits at once.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from everyflop.accounting.expert_rows import block_rows
from everyflop.backend.device import detect
from everyflop.kernels import cross_entropy
from everyflop.kernels.attention import attention, fused
from everyflop.kernels.grouped_mm import matrices_times_rows, rows_times_rows

TURNS = 7
HEADS = {
    "8 heads of 32, 4 keys": (8, 4, 32),
    "8 heads of 64, 4 keys": (8, 4, 64),
    "16 heads of 128, 4 keys": (16, 4, 128),
}
BF16 = torch.bfloat16


def in_turns(ours: Callable[[], object], other: Callable[[], object]) -> dict[str, float]:
    """Return the median milliseconds of both, and how many times as long the other takes."""
    took: dict[str, list[float]] = {"ours_ms": [], "other_ms": []}
    for turn in range(TURNS + 2):
        for name, function in (("ours_ms", ours), ("other_ms", other)):
            began_s = time.perf_counter()
            function()
            if turn >= 2:  # the first ones warm up
                took[name].append(1000 * (time.perf_counter() - began_s))
    medians = {name: round(statistics.median(times), 2) for name, times in took.items()}
    return {**medians, "ratio": round(medians["other_ms"] / medians["ours_ms"], 2)}


def of_attention(heads: int, keys: int, width: int) -> dict[str, float]:
    q, k, v = (torch.randn(8, 512, n, width).to(BF16).requires_grad_() for n in (heads, keys, keys))
    grad = torch.randn(8, 512, heads, width).to(BF16)
    scale = width**-0.5
    return in_turns(
        lambda: attention(q, k, v, None, scale).backward(grad),
        lambda: fused(q, k, v, None, scale, causal=True).backward(grad),
    )


def of_experts() -> dict[str, float]:
    """32 experts, 16,384 copies of tokens, 256 -> 256 channels."""
    copies, experts = 16_384, 32
    w = torch.randn(experts, 256, 256).to(BF16)
    generator, whole = torch.Generator().manual_seed(0), block_rows(copies, experts)

    def run(block: int) -> None:
        favour = torch.rand(experts, generator=generator) + 1.0
        counts = torch.bincount(
            torch.multinomial(favour, copies, replacement=True, generator=generator), minlength=experts
        )
        ends = ((counts + block - 1) // block * block).cumsum(0).to(torch.int32)
        matrices_times_rows(w, rows[block], ends)
        matrices_times_rows(w.mT, grads[block], ends)
        rows_times_rows(grads[block], rows[block], ends)

    rows, grads = (
        {b: torch.randn(copies + experts * (b - 1), 256).to(BF16) for b in (1, whole)} for _ in ("rows", "grads")
    )
    return in_turns(lambda: run(whole), lambda: run(1))


def of_loss() -> dict[str, float]:
    """4,096 tokens, 256 channels, 8,192 words."""
    hidden = torch.randn(4096, 256).to(BF16).requires_grad_()
    weight = torch.randn(8192, 256).requires_grad_()
    targets = torch.randint(0, 8192, (4096,))
    return in_turns(
        lambda: cross_entropy.linear_cross_entropy(hidden, weight, targets).backward(),
        lambda: cross_entropy.reference(hidden, weight, targets).backward(),
    )


def main() -> int:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    line = {
        "what": "kernels in bf16, forward and backward, one thread, in turns",
        "commit": commit,
        "device": detect(processor=True).name,
        "attention": {name: of_attention(*shape) for name, shape in HEADS.items()},
        "experts": of_experts(),
        "loss": of_loss(),
    }
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
