"""What an island that hands in bad updates does to a run: nothing, if they are told from good ones.

    python bench/islands_bad_updates.py [--steps 400]

Four islands, real processes that meet over sockets, train what bench/islands_run.py says in rounds of 8 steps; one of
them spoils every fifth of its updates: a NaN in it, all of it 10^6 times too large, 64 bits flipped before the update
is sent, or one while it travels. Prints one JSON line: which updates were rejected and why, and the final validation
loss, which must be within 1 % of the same run's without that; every sample must be used once. A run whose guards are
off, the control, must fail. Ten minutes.
"""

import argparse
import json
import math
import secrets
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from islands_run import ROOT, write_run

from everyflop.base.files import read_lines
from everyflop.islands.checksum import checksum
from everyflop.islands.codec import Payload
from everyflop.islands.member import Member
from everyflop.islands.samples import numbers
from everyflop.islands.wire import Header

ISLANDS, BAD, EVERY, H = 4, "island-3", 5, 8
FAULTS = ("nan", "scaled", "flipped", "damaged")


def spoiled(fault: str, payload: Payload, rng: np.random.Generator) -> bytes:
    """Return an update in fp32 with a fault in it."""
    values = np.frombuffer(payload, dtype=np.float32).copy()
    if fault == "nan":
        values[rng.integers(values.size)] = math.nan
    elif fault == "scaled":
        values *= 1e6
    else:
        bits = values.view(np.uint32)
        for place in rng.integers(values.size, size=64 if fault == "flipped" else 1):
            bits[place] ^= np.uint32(1) << np.uint32(rng.integers(32))
    return values.tobytes()


def be_bad(fault: str, noted: Path, arguments: list[str]) -> None:
    """Be an island's process that spoils every fifth update which it hands in."""
    from everyflop.cli.main import main

    hand_in, rng = Member.hand_in, np.random.default_rng(0)

    def hand_in_spoiled(self: Member, header: Header, payload: Payload) -> Any:
        if header["round"] % EVERY == EVERY - 1 and len(payload):
            bad = spoiled(fault, payload, rng)
            if fault == "damaged":
                header = {**header, "checksum": checksum(payload)}
            with noted.open("a") as file:
                file.write(f"{header['round']}\n")
            return hand_in(self, header, bad)
        return hand_in(self, header, payload)

    Member.hand_in = hand_in_spoiled
    sys.argv = ["everyflop", "train", *arguments]
    main()


def train(folder: Path, name: str, steps: int, fault: str | None, **how: Any) -> dict[str, Any]:
    """Train once; return what came of it."""
    islands = [{"name": f"island-{number}"} for number in range(ISLANDS)]
    path = write_run(folder, name, steps, islands, {"rounds": "steps", "steps": H, **how})
    secret, noted = folder / "secret", folder / f"{name}.spoiled"
    secret.write_text(secrets.token_hex(16))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    everyflop = [sys.executable, "-m", "everyflop"]
    hub = [*everyflop, "coordinator", str(path), "--port", port, "--secret", str(secret)]
    processes = [subprocess.Popen(hub, stdout=sys.stderr)]
    for island in islands:
        there = ["--coordinator", f"127.0.0.1:{port}", "--secret", str(secret)]
        arguments = [str(path), "--island", island["name"], *there]
        bad = [sys.executable, __file__, "--be", fault or "", str(noted), *arguments]
        command = bad if fault and island["name"] == BAD else [*everyflop, "train", *arguments]
        processes.append(subprocess.Popen(command, stdout=sys.stderr))
    codes = [process.wait() for process in processes]
    return {"codes": codes, **outcome(folder / name, noted)}


def outcome(run_dir: Path, noted: Path) -> dict[str, Any]:
    """Return which updates were spoiled and which rejected, and how the run ended."""
    records = read_lines(run_dir / "rounds.jsonl")
    members = [(record["round"], name, one) for record in records for name, one in record["members"].items()]
    used = sorted(n for _, _, one in members for n in numbers(one["ranges"]))
    summary = run_dir / "summary.json"
    loss = json.loads(summary.read_text())["validation"]["held_out"]["loss"] if summary.exists() else math.inf
    return {
        "spoiled": [int(line) for line in noted.read_text().split()] if noted.exists() else [],
        "rejected": [[number, name, one["why"]] for number, name, one in members if not one["accepted"]],
        "every_sample_once": used == list(range(len(used))),
        "rounds": len(records),
        "loss": loss,
    }


def holds(found: dict[str, Any], undisturbed: dict[str, Any]) -> bool:
    """Whether a run with bad updates ended as it would have without."""
    only_bad = {(number, name) for number, name, _ in found["rejected"]} <= {(n, BAD) for n in found["spoiled"]}
    within = abs(found["loss"] / undisturbed["loss"] - 1) <= 0.01
    return not any(found["codes"]) and bool(found["spoiled"]) and only_bad and within and found["every_sample_once"]


def main() -> int:
    """Run everything; 1 when a claim does not hold or the control does not fail."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--be", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.be:
        be_bad(asked.be[0], Path(asked.be[1]), asked.be[2:])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        undisturbed = train(folder, "undisturbed", asked.steps, None)
        found = {fault: train(folder, fault, asked.steps, fault) for fault in FAULTS}
        control = train(folder, "control", asked.steps, "scaled", guards=False)
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    line = {
        "what": f"four islands, H = {H}, every fifth update of one spoiled; measured",
        "commit": commit.stdout.strip(),
        "loss_within": 0.01,
        "undisturbed": undisturbed,
        "found": found,
        "control_without_guards": control,
    }
    print(json.dumps(line))
    good = all(holds(one, undisturbed) for one in found.values())
    told = all(len(found[name]["rejected"]) == len(found[name]["spoiled"]) for name in ("nan", "scaled", "damaged"))
    return 0 if good and told and not holds(control, undisturbed) else 1


if __name__ == "__main__":
    sys.exit(main())
