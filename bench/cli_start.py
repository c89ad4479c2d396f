"""Measure how long `everyflop --help` takes, from start to exit, and print one JSON line."""

import json
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

REPEATS = 10


def main() -> None:
    command = [str(Path(sys.executable).with_name("everyflop")), "--help"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)  # the first start compiles and fills caches
    seconds = sorted(timed(command) for _ in range(REPEATS))
    record = {
        "what": "everyflop --help, from start to exit",
        "median_s": round(statistics.median(seconds), 4),
        "least_s": round(seconds[0], 4),
        "most_s": round(seconds[-1], 4),
        "repeats": REPEATS,
        "device": cpu(),
        "python": platform.python_version(),
        "typer": version("typer"),
        "commit": git("rev-parse", "--short", "HEAD"),
        "changed": bool(git("status", "--porcelain", "--untracked-files=no")),
    }
    print(json.dumps(record))


def timed(command: list[str]) -> float:
    start_s = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start_s


def cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
