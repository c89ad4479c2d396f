"""What islands cost in quality: extra tokens to reach the loss of a synchronous run, for each H, with paired seeds.

    python bench/islands_quality.py train sync h8 --seeds 0 1 2 3 4     trains what is lacking, two at a time
    python bench/islands_quality.py table                               the table, and one JSON line
    python bench/islands_quality.py check                               whether real processes end with the same bits

Each run adds a line with its curve to bench/results/islands_quality.jsonl, which the table is made of.

Every arm trains the model of bench/islands_run.py on the same 2,000 steps of 2,048 tokens, on 1,000 where its name ends
with "-1k", and on 1,000 of 4,096 with "-4k"; "sync" on the whole batch, the others by islands_in_turn.py. Losses are of
all 839 held-out windows, 20 times in a run. The penalty of an arm is tokens(arm reaches the loss that sync has at 90 %
of its tokens) / (90 % of sync's tokens) - 1, seed by seed; bounds are Student's at 95 %. Both runs are of the same
machine, since processors round differently, which moves where a run ends; of several such pairs of a seed the first on
record counts. An arm that never gets there within its tokens is at least 11 %, and counts with what it would need if it
went on as steeply as over its last fifth: marked "beyond". "never" does not exchange: it must fail clearly.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import islands_run
import numpy as np
import torch
from islands_in_turn import InTurn
from islands_run import BATCH_TOKENS, CONFIG, ROOT, SEQ_LEN
from scipy import stats

from everyflop.base.files import append_line, read_lines
from everyflop.checkpoint import weights_sha256
from everyflop.spec.read import read_run

FOLDER = ROOT / "runs" / "quality"
RESULTS = ROOT / "bench" / "results" / "islands_quality.jsonl"
STEPS, VALIDATIONS = 2000, 20
SIZES = {"-1k": (2048, 1000), "-4k": (4096, 1000)}
"""How the names of arms end whose batches and numbers of steps are others."""
ALL_WINDOWS = 1_000_000
LR, BEST = 4e-3, 0.7
"""Arms have a factor on LR, by default the best of those that were tried over STEPS: bench/islands.toml has it. Each
sync is at the best of those tried with its batch and steps."""
Curve = list[tuple[float, float]]
Run = tuple[str, int, str]
"""Arm, seed and machine."""
TARGETS = {"h8-start": 0.05, "h24-start": 0.10}
CONTROLS = {"never": 0.2, "mix-never": 0.2}
"""They need so many extra tokens at least, or the measure measures nothing."""


def arm(
    name: str, steps: int, m: int = 2, *, lr: float = BEST, even: bool = False, **more: Any
) -> tuple[str, dict[str, Any]]:
    """Return an arm: H = steps over m islands; `lr` is a factor on LR, shares are sixteenths of a batch."""
    batch, run_steps = next((size for end, size in SIZES.items() if name.endswith(end)), (BATCH_TOKENS, STEPS))
    sixteenth = batch // SEQ_LEN // 16
    shares = [part * sixteenth for part in more.pop("shares", [16 // m] * m)]
    found = {
        "batch_tokens": batch,
        "steps": run_steps,
        "shares": shares,
        "lr": lr,
        "exchange": more.pop("exchange", True),
    }
    found |= {"paces": more.pop("paces")} if "paces" in more else {}
    found |= {"even": True} if even else {}
    found |= {"grow": more.pop("grow")} if "grow" in more else {}
    return name, {**found, "how": {"rounds": "steps", "steps": steps, **more}}


ARMS = dict(
    [
        arm("sync", 8, 1),
        *(arm(f"sync-lr{lr:g}", 8, 1, lr=lr) for lr in (0.5, 1.0, 1.4)),
        *(arm(f"h{steps}", steps) for steps in (2, 4, 8, 24, 100)),
        *(arm(f"h{steps}-start", steps, sync_share=0.2) for steps in (2, 4, 8, 24, 100)),
        *(arm(f"h{steps}-start-lr1", steps, lr=1.0, sync_share=0.2) for steps in (8, 24)),
        *(arm(f"h{steps}-m4-start", steps, 4, sync_share=0.2) for steps in (8, 24)),
        *(arm(f"h{steps}-m4", steps, 4) for steps in (4, 8)),
        *(arm(f"h{steps}-int8-start", steps, compress="int8", sync_share=0.2) for steps in (8, 24)),
        *(arm(f"h{steps}-int4-start", steps, compress="int4", sync_share=0.2) for steps in (8, 24)),
        *(arm(f"h{steps}-int4-start15", steps, compress="int4", sync_share=0.15) for steps in (8, 24)),
        arm("h24-even", 24, even=True, sync_share=0.2),
        arm("h24-nesterov", 24, outer_lr=0.7, outer_momentum=0.5, sync_share=0.2),
        arm("h24-overlap", 24, overlap=True, sync_share=0.2),
        arm("h24-unequal", 24, paces=[1.5, 0.5], even=True, sync_share=0.2),
        arm("h24-unequal-tokens", 24, paces=[1.5, 0.5], even=True, merge="tokens", sync_share=0.2),
        arm("mix", 8, shares=[10, 5, 1], sync_share=0.2),
        arm("mix-without-slowest", 8, shares=[11, 5], sync_share=0.2),
        arm("mix-never", 8, shares=[10, 5, 1], exchange=False),
        arm("never", 24, exchange=False),
        arm("sync-4k", 8, 1, lr=1.4),
        *(arm(f"sync-lr{lr:g}-4k", 8, 1, lr=lr) for lr in (1.0, 2.0)),
        arm("h8-4k", 8, lr=1.4),
        arm("h8-start5-4k", 8, lr=1.4, sync_share=0.05),
        arm("h8-grow-4k", 8, lr=1.4, grow=0.03),
        *(arm(f"h{steps}-start-4k", steps, lr=1.4, sync_share=0.2) for steps in (8, 24)),
        arm("h24-start-lr1-4k", 24, lr=1.0, sync_share=0.2),
        arm("sync-1k", 8, 1, lr=1.0),
        *(arm(f"h{steps}-1k", steps) for steps in (4, 8, 24)),
        arm("h4-int4-1k", 4, compress="int4"),
        arm("h8-lr1-1k", 8, lr=1.0),
        arm("h8-start-lr1-1k", 8, lr=1.0, sync_share=0.2),
        *(arm(f"h{steps}-start-1k", steps, sync_share=0.2) for steps in (8, 24)),
        *(arm(f"h{steps}-m4-1k", steps, 4) for steps in (4, 8)),
        arm("never-1k", 24, exchange=False),
    ]
)


def settings_of(name: str) -> dict[str, Any]:
    """Return all that an arm's curve depends on besides seed and code, as plain JSON."""
    common = {
        "lr_of_factor_1": LR,
        "windows": "all",
        "file": hashlib.sha256(CONFIG.read_bytes()).hexdigest()[:16],
    }
    own = dict(ARMS[name])
    if own["steps"] == 1000:
        del own["steps"]  # the first lines on record do not name them
    return json.loads(json.dumps({**common, **own}))


def write_run(name: str, seed: int, steps: int | None = None) -> Path:
    """Write an arm's run file; return its path."""
    found = ARMS[name]
    batch, most = found["batch_tokens"], max(found["shares"])
    islands = [{"name": f"i{n}", "slowdown": most / share} for n, share in enumerate(found["shares"])]
    train = {"batch_tokens": batch, "micro_batch": batch // SEQ_LEN // 2}
    steps = steps or found["steps"]
    train |= {"validate_every_steps": max(1, steps // VALIDATIONS), "validate_windows": ALL_WINDOWS}
    more = {"run": {"seed": seed}, "train": train, "optim": {"lr": LR * found["lr"]}}
    return islands_run.write_run(FOLDER, f"{name}-{seed}", steps, islands, found["how"], **more)


def train(name: str, seed: int) -> None:
    """Train an arm with a seed, and keep its curve."""
    found, started_s, path = ARMS[name], time.monotonic(), write_run(name, seed)
    how = {"paces": found.get("paces"), "even": found.get("even", False), "grow": found.get("grow")}
    run = InTurn(read_run(path), found["shares"], exchange=found["exchange"], **how)
    points = run.train()
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    line = {"arm": name, "seed": seed, "commit": commit.stdout.strip(), "settings": settings_of(name), "curve": points}
    line |= {"exchanges": run.exchanges, "machine": machine(), "seconds": time.monotonic() - started_s}
    append_line(RESULTS, line)
    print(name, seed, points[-1], flush=True)


def machine() -> str:
    """Return what decides how a run's numbers are rounded."""
    facts = Path("/proc/cpuinfo").read_text()
    name = next(line.partition(":")[2].strip() for line in facts.splitlines() if line.startswith("model name"))
    units = "AMX" if "amx_bf16" in facts else "AVX-512" if "avx512_bf16" in facts else "fp32"
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}, bf16 by {units}, torch {torch.__version__}"


def train_all(names: list[str], seeds: list[int]) -> None:
    """Train what is lacking, each arm in a process of its own, two at a time."""
    there, here = curves(), machine()
    lacking = [(name, seed) for seed in seeds for name in names if (name, seed, here) not in there]
    command = [sys.executable, __file__, "train-one"]
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(lambda one: subprocess.run([*command, one[0], "--seeds", str(one[1])], check=True), lacking):
            pass


def check(name: str, steps: int = 40) -> bool:
    """Whether real processes end with the bits of islands in turn, where no gradients are exchanged in fp32."""
    path = write_run(name, 0, steps)
    run_dir = path.with_suffix("")
    mine = InTurn(read_run(path), ARMS[name]["shares"])
    mine.train()
    shutil.rmtree(run_dir, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "everyflop", "train", str(path)], check=True, stdout=sys.stderr)
    real = json.loads((run_dir / "summary.json").read_text())["weights_sha256"]
    here = weights_sha256(dict(mine.replicas[0].session.model.named_parameters()))
    print(f"in turn {here}\nreal    {real}", file=sys.stderr)
    return here == real


def curves() -> dict[Run, Curve]:
    """Return tokens and validation loss of every run with the settings of an arm, whatever it was called then; the
    newest counts."""
    lines = read_lines(RESULTS) if RESULTS.exists() else []
    names = {json.dumps(settings_of(name), sort_keys=True): name for name in ARMS}
    found = [(names.get(json.dumps(line.get("settings"), sort_keys=True)), line) for line in lines]
    return {(name, line["seed"], line["machine"]): line["curve"] for name, line in found if name}


def tokens_to(points: Curve, loss: float) -> tuple[float, bool]:
    """Return after how many tokens a curve reaches a loss, and whether that lies beyond its end."""
    for (t0, l0), (t1, l1) in pairwise(points):
        if l1 <= loss < l0:
            return t0 + (t1 - t0) * (l0 - loss) / (l0 - l1), False
    (t0, l0), (t1, l1) = points[-max(2, len(points) // 5)], points[-1]
    return t1 + (t1 - t0) * (l1 - loss) / max(l0 - l1, 1e-9), True


def loss_at(points: Curve, tokens: float) -> float:
    """Return a curve's loss after that many tokens."""
    return float(np.interp(tokens, *zip(*points, strict=True)))


def pairs(name: str, found: dict[Run, Curve]) -> dict[int, tuple[Curve, Curve]]:
    """Return the curves of an arm and of the synchronous run by seed, of one machine each."""
    paired: dict[int, tuple[Curve, Curve]] = {}
    sync = "sync" + next((end for end in SIZES if name.endswith(end)), "")
    for arm, seed, where in found:
        if arm == name and (sync, seed, where) in found:
            paired.setdefault(seed, (found[name, seed, where], found[sync, seed, where]))
    return dict(sorted(paired.items()))


def penalties(name: str, found: dict[Run, Curve]) -> list[dict[str, Any]]:
    """Return an arm's penalty for every seed that both it and the synchronous run have."""
    penalties, goal = [], 0.9 * ARMS[name]["steps"] * ARMS[name]["batch_tokens"]
    for seed, (mine, sync) in pairs(name, found).items():
        tokens, beyond = tokens_to(mine, loss_at(sync, goal))
        ends = {"loss": mine[-1][1], "sync": sync[-1][1]}
        penalties.append({"seed": seed, "penalty": tokens / goal - 1, "beyond": beyond, **ends})
    return penalties


def bounds(values: list[float]) -> tuple[float, list[float] | None]:
    """Return the mean and Student's bounds at 95 %; a single value has none."""
    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return mean, None
    half = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / n**0.5)
    return mean, [mean - half, mean + half]


def table() -> dict[str, Any]:
    """Print the table; return the same as a dictionary."""
    line: dict[str, Any] = {}
    all_curves = curves()
    for name in ARMS:
        if not (found := penalties(name, all_curves)):
            continue
        mean, between = bounds([one["penalty"] for one in found])
        beyond = sum(one["beyond"] for one in found)
        loss, sync = (float(np.mean([one[key] for one in found])) for key in ("loss", "sync"))
        line[name] = {"seeds": len(found), "penalty": mean, "bounds": between, "beyond": beyond, "loss": loss}
        line[name] |= {"sync": sync, "each": [round(one["penalty"], 4) for one in found]}
        shown = f"[{between[0]:+7.2%}, {between[1]:+7.2%}]" if between else " " * 18
        note = f"  beyond the end in {beyond}" if beyond else ""
        print(f"{name:16} {len(found)} seeds {mean:+7.2%} {shown} {loss:.4f} / {sync:.4f}{note}", file=sys.stderr)
    return line


def main() -> int:
    """Train, or print what was found; 1 when a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["train", "train-one", "check", "table"], nargs="?", default="table")
    parser.add_argument("arms", nargs="*", metavar="ARM", help=", ".join(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    asked = parser.parse_args()
    if asked.do == "train":
        train_all(asked.arms or [*ARMS], asked.seeds)
    elif asked.do == "train-one":
        train(asked.arms[0], asked.seeds[0])
    elif asked.do == "check":
        return int(not all([check("h8"), check("h8-int4-start15")]))
    else:
        line = table()
        print(json.dumps(line))
        held = all(name in line and line[name]["penalty"] <= most for name, most in TARGETS.items())
        failed = all(name in line and line[name]["penalty"] >= least for name, least in CONTROLS.items())
        return int(not (held and failed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
