"""What islands send, and what a thin link costs them: real processes, bytes counted by the sockets' owners.

    python bench/islands_link.py [--only traffic|thin] [--rounds 8] [--no-namespaces]

Trains what bench/islands_run.py says with two islands and prints one JSON line:

- traffic: bytes that exact exchange at every step would send (ring all-reduce in fp32) over those sent, over a whole
  run of 1,000 steps: without a synchronous start at least 0.95 H in fp32, 3.8 H in int8 and 7.6 H in int4, and 3.8 H
  in int4 after a start of 15 %. Control: exchange at every step.
- thin link, 100 Mbit/s and 50 ms each way: the share of time not spent training, below 3 % with overlap, in int4 and in
  int8; by the simulated link, and by network namespaces where they are permitted: the rate is the kernel's then (tc,
  token bucket), and the latency is simulated still, since few kernels have netem. Beside it int4 over a link that is
  not thin, which is what islands lose by copying alone. Control: fp32 without overlap.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from islands_run import ROOT, write_run

from everyflop.base.files import read_lines

ISLANDS, STEPS = 2, 1000
GBIT_PER_S, LATENCY_MS, PORT = 0.1, 50.0, 7711
AT_LEAST = {"fp32": 0.95, "int8": 3.8, "int4": 7.6, "int4-start15": 3.8}
"""What a run sends less than all-reduce at every step, over H."""
H, AT_MOST = 8, 0.03
LINK = {"link_gbit_per_s": GBIT_PER_S, "link_latency_ms": LATENCY_MS}


def islands(**link: float) -> list[dict[str, Any]]:
    """Return the tables of the islands over such a link."""
    return [{"name": f"i{number}", **link} for number in range(ISLANDS)]


def train(path: Path) -> Path:
    """Train with local islands; return the run's folder."""
    subprocess.run([sys.executable, "-m", "everyflop", "train", str(path)], check=True, stdout=sys.stderr)
    return path.with_suffix("")


@contextmanager
def namespaces() -> Iterator[list[str]]:
    """Make a network namespace for each island, whose link to here is thin; yield their names."""
    names = [f"everyflop-{number}" for number in range(ISLANDS)]
    shape = ["tbf", "rate", f"{GBIT_PER_S * 1000:g}mbit", "burst", "64kb", "latency", "400ms"]
    try:
        for number, name in enumerate(names):
            here, there = f"ef{number}a", f"ef{number}b"
            _ip("netns", "add", name)
            _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
            _ip("addr", "add", f"10.77.{number}.1/24", "dev", here)
            _ip("link", "set", here, "up")
            _ip("-n", name, "addr", "add", f"10.77.{number}.2/24", "dev", there)
            _ip("-n", name, "link", "set", there, "up")
            subprocess.run(["tc", "qdisc", "add", "dev", here, "root", *shape], check=True)
            subprocess.run(["tc", "-n", name, "qdisc", "add", "dev", there, "root", *shape], check=True)
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def train_in_namespaces(path: Path) -> Path:
    """Train with a coordinator here and each island in a namespace of its own; return the run's folder."""
    secret = path.with_suffix(".secret")
    secret.write_text(secrets.token_hex(32))
    everyflop = [sys.executable, "-m", "everyflop"]
    shared = [str(path), "--secret", str(secret)]
    with namespaces() as names:
        coordinator = [*everyflop, "coordinator", *shared, "--host", "0.0.0.0", "--port", str(PORT)]
        started = [subprocess.Popen(coordinator, stdout=sys.stderr)]
        for number, name in enumerate(names):
            inside = ["ip", "netns", "exec", name, *everyflop, "train", *shared, "--island", f"i{number}"]
            started.append(subprocess.Popen([*inside, "--coordinator", f"10.77.{number}.1:{PORT}"], stdout=sys.stderr))
        codes = [process.wait() for process in started]
    if any(codes):
        raise SystemExit(f"processes ended with {codes}")
    return path.with_suffix("")


def lost_share(run_dir: Path) -> float:
    """Return the share of islands' time that was not spent training, in full rounds but the first.

    With overlap, only rounds whose update before travelled while islands trained: at its end a run does without, so
    that every sample is used.
    """
    records = [one for one in read_lines(run_dir / "rounds.jsonl") if one["exchange"] == "weights"]
    overlaps = any(record["ahead"] for record in records)
    full = max(record["planned_steps"] for record in records)
    members = [
        member
        for before, record in pairwise(records)
        if record["planned_steps"] == full and bool(before["ahead"]) == overlaps
        for member in record["members"].values()
    ]
    lost, trained = sum(m["lost_s"] for m in members), sum(m["train_s"] for m in members)
    return lost / (lost + trained)


def traffic(run_dir: Path) -> dict[str, float]:
    """Return bytes of exact exchange over bytes sent in the whole run, and the loss at its end."""
    last, summary = read_lines(run_dir / "rounds.jsonl")[-1], json.loads((run_dir / "summary.json").read_text())
    exact = last["step"] * 2 * (ISLANDS - 1) / ISLANDS * 4 * summary["parameters"]
    ratios = [exact / account["sent_bytes"] for account in last["accounts"].values()]
    return {"whole_run": sum(ratios) / len(ratios), "loss": summary["validation"]["held_out"]["loss"]}


def all_traffic(folder: Path) -> dict[str, dict[str, float]]:
    """Train once in each way; return what each sent, and its control."""
    ways = {
        **{compress: {"steps": H, "compress": compress} for compress in ("fp32", "int8", "int4")},
        "int4-start15": {"steps": H, "compress": "int4", "sync_share": 0.15},
        "control": {"steps": 1},
    }
    return {
        name: traffic(train(write_run(folder, name, STEPS, islands(), {"rounds": "steps", **how})))
        for name, how in ways.items()
    }


def all_lost(folder: Path, rounds: int, in_namespaces: bool) -> dict[str, float]:
    """Train over thin links; return the shares of time that were lost, and the control's."""
    thin = {"steps": 24, "compress": "int4", "overlap": True}
    steps, even = rounds * 24, {"schedule": "constant"}  # rounds are all alike, as the learning rate is
    ways = {
        "int4_overlap": (LINK, thin),
        "int8_overlap": (LINK, {**thin, "compress": "int8"}),
        "link_not_thin": ({}, thin),
        "control": (LINK, {"steps": 24}),
    }
    lost = {
        name: lost_share(train(write_run(folder, f"thin-{name}", steps, islands(**link), how, optim=even)))
        for name, (link, how) in ways.items()
    }
    if in_namespaces:
        path = write_run(folder, "namespaces", steps, islands(link_latency_ms=LATENCY_MS), thin, optim=even)
        lost["int4_overlap_namespaces"] = lost_share(train_in_namespaces(path))
    return lost


def main() -> int:
    """Run everything; 1 when a claim does not hold or a control does not fail."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["traffic", "thin"])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--no-namespaces", action="store_true", help="where they are not permitted")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sent = all_traffic(Path(scratch)) if asked.only != "thin" else {}
        in_namespaces = not asked.no_namespaces and os.geteuid() == 0
        lost = all_lost(Path(scratch), asked.rounds, in_namespaces) if asked.only != "traffic" else {}
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    line = {
        "what": "two islands, bench/islands.toml; traffic over that of all-reduce at every step; lost time, thin link",
        "commit": commit.stdout.strip(),
        "traffic": {"H": H, "found": sent, "at_least": {compress: part * H for compress, part in AT_LEAST.items()}},
        "thin_link": {
            "gbit_per_s": GBIT_PER_S,
            "latency_ms": LATENCY_MS,
            "H": 24,
            "lost_share": lost,
            "at_most": AT_MOST,
        },
    }
    print(json.dumps(line))
    good = all(sent[compress]["whole_run"] >= part * H for compress, part in AT_LEAST.items() if sent)
    good &= all(lost[name] < AT_MOST for name in lost if "overlap" in name)
    good &= not sent or sent["control"]["whole_run"] < 0.95 * H
    return 0 if good and (not lost or lost["control"] > AT_MOST) else 1


if __name__ == "__main__":
    sys.exit(main())
