"""What islands cost in quality: extra tokens to reach the loss of a synchronous run, for each H, with paired seeds.

    python bench/islands_quality.py train sync h8 --seeds 0 1 2 3 4     trains what is lacking, two at a time
    python bench/islands_quality.py table                               the table, and one JSON line
    python bench/islands_quality.py check                               whether real processes end with the same bits

Each run adds a line with its curve to bench/results/islands_quality.jsonl, which the table is made of.

Every arm trains bench/islands.toml on the same 1,000 steps of 2,048 tokens; "sync" on the whole batch, the others by
islands_in_turn.py. Losses are those of the same 128 held-out windows, each 50 steps. The penalty of an arm is
tokens(arm reaches the loss that sync has at 90 % of its tokens) / (90 % of sync's tokens) - 1, seed by seed; bounds are
Student's at 95 %. Both runs are of the same machine, since processors round differently, which moves where a run ends;
of several such pairs of a seed the first on record counts. An arm that never gets there within its tokens is at least
11 %, and counts with what it would need if it went on as steeply as over its last fifth: marked "beyond". "never" does
not exchange: it must fail clearly.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from islands_in_turn import InTurn
from scipy import stats

from everyflop.base.files import append_line, read_lines
from everyflop.checkpoint import weights_sha256
from everyflop.spec.read import read_run

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "runs" / "quality"
CONFIG = ROOT / "bench" / "islands.toml"
RESULTS = ROOT / "bench" / "results" / "islands_quality.jsonl"
STEPS, BATCH_TOKENS, SEQ_LEN, EVERY, WINDOWS = 1000, 2048, 128, 50, 128
SYNC_LR = 5.6e-3
"""The best of 2.8e-3, 4e-3 and 5.6e-3 (seed 0); arms with lr0.7 and lr1.4 are beside it."""
ROUNDS = {"sync_share": 0.2, "round_share": 0.03}
"""Of arms that say nothing else. Curves on record are of these: with others, settings_of must hold them."""
FIRST_MACHINE = "Intel(R) Xeon(R) Processor, AVX512, bf16 by AMX, torch 2.13.0+cpu"
UNNAMED = {"e283e65": "another one", "92bedf2": "AMD EPYC, AVX512, bf16 by AVX-512, torch 2.13.0+cpu"}
"""Machines of lines that do not name theirs, by commit; all others are of FIRST_MACHINE, where the synchronous run of
seed 0 ended with the same bits when it was trained again."""
Curve = list[tuple[float, float]]
Run = tuple[str, int, str]
"""Arm, seed and machine."""
TARGETS = {"h8": 0.05, "h24": 0.10}
CONTROLS = {"never": 0.2, "mix-never": 0.2}
"""They need so many extra tokens at least, or the measure measures nothing."""


def arm(
    name: str, steps: int, m: int = 2, *, lr: float = 1.0, optim: dict[str, Any] | None = None, **more: Any
) -> tuple[str, dict[str, Any]]:
    """Return an arm: H = steps over m islands; `lr` is a factor on the synchronous run's learning rate."""
    shares = more.pop("shares", [BATCH_TOKENS // SEQ_LEN // m] * m)
    found = {"shares": shares, "exchange": more.pop("exchange", True), "lr": lr, "optim": optim or {}}
    found |= {"paces": more.pop("paces")} if "paces" in more else {}
    return name, {**found, "how": {"rounds": "steps", "steps": steps, **more}}


ARMS = dict(
    [
        arm("sync", 8, 1),
        arm("sync-lr0.5", 8, 1, lr=0.5),
        arm("sync-lr0.7", 8, 1, lr=0.7),
        arm("sync-lr1.4", 8, 1, lr=1.4),
        arm("h2", 2),
        arm("h4", 4),
        arm("h8", 8),
        arm("h24", 24),
        arm("h100", 100),
        arm("h100-constant", 100, round_share=1.0),
        arm("h100-constant-int8", 100, round_share=1.0, compress="int8"),
        arm("never", 24, exchange=False),
        arm("h8-m4", 8, 4),
        arm("h24-m4", 24, 4),
        arm("h8-m4-lr0.7", 8, 4, lr=0.7),
        arm("h8-lr0.7", 8, lr=0.7),
        arm("h8-lr1.4", 8, lr=1.4),
        arm("h24-lr0.7", 24, lr=0.7),
        arm("h24-lr1.4", 24, lr=1.4),
        arm("h24-constant", 24, round_share=1.0),
        arm("h24-unequal", 24, paces=[1.5, 0.5], round_share=1.0),
        arm("h24-unequal-tokens", 24, paces=[1.5, 0.5], round_share=1.0, merge="tokens"),
        arm("h24-sync0.1", 24, sync_share=0.1),
        arm("h24-sync0.05", 24, sync_share=0.05),
        arm("h24-sync0", 24, sync_share=0.0),
        arm("h8-nosync", 8, sync_share=0.0, round_share=1.0),
        arm("h24-nesterov", 24, outer_lr=0.7, outer_momentum=0.5),
        arm("h24-int8", 24, compress="int8"),
        arm("h8-overlap", 8, overlap=True),
        arm("h24-overlap", 24, overlap=True),
        arm("mix", 8, shares=[10, 5, 1]),
        arm("mix-without-slowest", 8, shares=[11, 5]),
        arm("mix-nosync", 8, shares=[10, 5, 1], sync_share=0.0, round_share=1.0),
        arm("mix-never", 8, shares=[10, 5, 1], exchange=False),
        arm("sync-beta0.95", 8, 1, optim={"betas": [0.9, 0.95]}),
        arm("h24-beta0.95", 24, optim={"betas": [0.9, 0.95]}),
    ]
)


def settings_of(name: str) -> dict[str, Any]:
    """Return all that an arm's curve depends on besides seed and code, as plain JSON."""
    common = {
        "batch_tokens": BATCH_TOKENS,
        "sync_lr": SYNC_LR,
        "file": hashlib.sha256(CONFIG.read_bytes()).hexdigest()[:16],
    }
    return json.loads(json.dumps({**common, **ARMS[name]}))


def write_run(name: str, seed: int, steps: int = STEPS) -> Path:
    """Write an arm's run file; return its path."""
    found = ARMS[name]
    run = tomllib.loads(CONFIG.read_text())
    run["run"] |= {"name": f"{name}-{seed}", "out_dir": str(FOLDER), "seed": seed}
    run["data"]["prepared_dir"] = str(ROOT / "runs" / "prepared")
    run["train"] |= {"tokens": steps * BATCH_TOKENS, "batch_tokens": BATCH_TOKENS, "seq_len": SEQ_LEN}
    run["train"] |= {"validate_every_steps": EVERY, "validate_windows": WINDOWS}
    run["optim"] |= {"lr": SYNC_LR * found["lr"], **found["optim"]}
    most = max(found["shares"])
    run["island"] = [{"name": f"i{n}", "slowdown": most / share} for n, share in enumerate(found["shares"])]
    run["islands"] = {**ROUNDS, **found["how"]}
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}-{seed}.toml"
    path.write_text(tomli_w.dumps(run))
    return path


def train(name: str, seed: int) -> None:
    """Train an arm with a seed, and keep its curve."""
    found, started_s, path = ARMS[name], time.monotonic(), write_run(name, seed)
    points = InTurn(read_run(path), found["shares"], exchange=found["exchange"], paces=found.get("paces")).train()
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    line = {"arm": name, "seed": seed, "commit": commit.stdout.strip(), "settings": settings_of(name), "curve": points}
    append_line(RESULTS, {**line, "machine": machine(), "seconds": time.monotonic() - started_s})
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
    """Whether real processes end with the bits of islands in turn, where gradients are never exchanged."""
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
    """Return tokens and validation loss of every run whose settings are those of its arm now; the newest counts."""
    lines = read_lines(RESULTS) if RESULTS.exists() else []
    return {
        (line["arm"], line["seed"], line.get("machine") or UNNAMED.get(line["commit"], FIRST_MACHINE)): line["curve"]
        for line in lines
        if line.get("arm") in ARMS and line["settings"] == settings_of(line["arm"])
    }


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
    for arm, seed, where in found:
        if arm == name and ("sync", seed, where) in found:
            paired.setdefault(seed, (found[name, seed, where], found["sync", seed, where]))
    return dict(sorted(paired.items()))


def penalties(name: str, found: dict[Run, Curve]) -> list[dict[str, Any]]:
    """Return an arm's penalty for every seed that both it and the synchronous run have."""
    penalties, goal = [], 0.9 * STEPS * BATCH_TOKENS
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
        return int(not all([check("h8-nosync"), check("mix-nosync")]))
    else:
        line = table()
        print(json.dumps(line))
        held = all(name in line and line[name]["penalty"] <= most for name, most in TARGETS.items())
        failed = all(name in line and line[name]["penalty"] >= least for name, least in CONTROLS.items())
        return int(not (held and failed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
