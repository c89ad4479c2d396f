"""Looking at run directories."""

import json
import time
from pathlib import Path

from everyflop.base.files import read_lines
from everyflop.islands.samples import numbers


def one_line(text: str) -> str:
    """Return text without the line breaks that the width of a screen puts in."""
    return " ".join(text.split())


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def wait_for_step(run_dir: Path, step: int, process) -> None:
    while not any(line["step"] >= step for line in read_lines(run_dir / "metrics.jsonl")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def weights_of(run_dir: Path) -> str:
    return json.loads((run_dir / "summary.json").read_text())["weights_sha256"]


def used_samples(run_dir: Path) -> list[int]:
    records = read_lines(run_dir / "rounds.jsonl")
    return [n for record in records for member in record["members"].values() for n in numbers(member["ranges"])]


def events(run_dir: Path, kind: str) -> list[dict]:
    return [event for event in read_lines(run_dir / "events.jsonl") if event["event"] == kind]


def wait_for_round(run_dir: Path, number: int, process) -> None:
    while not any(record["round"] >= number for record in read_lines(run_dir / "rounds.jsonl")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
