"""SIGKILL of the real command at bad moments: nothing is lost, and resuming gives the very same weights.

The parent watches the run's files and strikes a random moment after what it waits for has begun: while data is
prepared, a step is computed, a checkpoint is written, a line of metrics is added.
"""

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from everyflop.base.files import read_lines
from everyflop.checkpoint import list_checkpoints
from everyflop.checkpoint.manifest import verify

STEPS = 40
CHANGES = {"train": {"tokens": 256 * STEPS}, "checkpoint": {"every_steps": 3, "keep": 2}}

Begun = Callable[[], bool]


def preparation(folder: Path) -> Begun:
    return lambda: any((folder / "prepared").glob(".tmp-*"))


def step(folder: Path) -> Begun:
    """Wait for a line of metrics: the next step begins then."""
    return metrics_line(folder, more=1)


def metrics_line(folder: Path, *, more: int = 3) -> Begun:
    metrics = folder / "runs" / "tiny" / "metrics.jsonl"
    sizes: list[int] = []

    def begun() -> bool:
        size = metrics.stat().st_size if metrics.exists() else 0
        if not sizes or size != sizes[-1]:
            sizes.append(size)  # the first is from before this process, and a rewind may shrink it
        return len(sizes) > more

    return begun


def checkpoint(folder: Path) -> Begun:
    """Wait for the second checkpoint of the process, so that the next one has something to go on from."""
    checkpoints, has_saved = folder / "runs" / "tiny" / "checkpoints", removal(folder)
    return lambda: has_saved() and any(checkpoints.glob(".tmp-step-*"))


def removal(folder: Path) -> Begun:
    """Wait until a new checkpoint stands: the oldest is removed then."""
    checkpoints = folder / "runs" / "tiny" / "checkpoints"
    before = set(list_checkpoints(checkpoints))
    return lambda: bool(set(list_checkpoints(checkpoints)) - before)


AIMS = {  # what to wait for, and how long after it the blow may fall
    "preparation": (preparation, 0.05),
    "step": (step, 0.05),
    "checkpoint": (checkpoint, 0.03),
    "metrics line": (metrics_line, 0.002),
    "removal": (removal, 0.01),
}


def kill_when(begun: Begun, process: subprocess.Popen[str], delay_s: float) -> bool:
    """Kill the process a moment after something began; return False if it ended before."""
    while not begun():
        if process.poll() is not None:
            assert process.returncode == 0, process.communicate()
            return False
        time.sleep(0.0005)
    time.sleep(delay_s)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def assert_usable(folder: Path) -> None:
    """What stands under its name is whole, whenever the blow fell."""
    for path in list_checkpoints(folder / "runs" / "tiny" / "checkpoints"):
        assert verify(path) == []
    for manifest in (folder / "prepared").glob("[!.]*/manifest.json"):
        json.loads(manifest.read_text())


@pytest.fixture(scope="module")
def undisturbed(write_run_file, everyflop, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("undisturbed")
    ended = everyflop("train", write_run_file(folder, **CHANGES))

    assert ended.code == 0, ended.err
    return {
        "weights": json.loads((folder / "runs/tiny/summary.json").read_text())["weights_sha256"],
        "losses": [line["loss"] for line in read_lines(folder / "runs/tiny/metrics.jsonl")],
    }


@pytest.fixture
def survive(start_everyflop, everyflop, write_run_file, undisturbed, tmp_path):
    """Kill a run at each of the aims in turn, resume it every time, and hold its end against the undisturbed run."""

    def survive(aims: list[str], rng: random.Random) -> tuple[int, int]:
        data = {"prepared_dir": str(tmp_path / "prepared")}
        run_file = write_run_file(tmp_path, data=data, **CHANGES)
        kills = 0
        for aim in aims:
            watch, spread_s = AIMS[aim]
            begun = watch(tmp_path)
            process = start_everyflop("train", run_file, "--resume")
            kills += kill_when(begun, process, rng.uniform(0, spread_s))
            assert_usable(tmp_path)
        ended = everyflop("train", run_file, "--resume")
        lines = read_lines(tmp_path / "runs/tiny/metrics.jsonl")

        assert ended.code == 0, ended.err
        assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
        assert [line["loss"] for line in lines] == undisturbed["losses"]
        assert json.loads((tmp_path / "runs/tiny/summary.json").read_text())["weights_sha256"] == undisturbed["weights"]
        assert not list(tmp_path.glob("runs/tiny/checkpoints/.tmp-*"))
        events = read_lines(tmp_path / "runs/tiny/events.jsonl")
        resumes = [event for event in events if event["event"] == "resume"]
        assert resumes
        return kills, sum(event["lost_steps"] for event in resumes)

    return survive


def test_a_run_killed_at_bad_moments_ends_with_the_weights_of_an_undisturbed_one(survive):
    kills, lost_steps = survive(["preparation", "checkpoint", "metrics line", "step"], random.Random(0))

    assert kills == 4
    assert lost_steps > 0  # a blow after a metrics line and before the next save


@pytest.mark.full
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(5))
def test_so_does_a_run_killed_again_and_again(survive, seed):
    rng = random.Random(seed)
    aims = ["preparation", *rng.choices(["checkpoint", "metrics line", "step", "removal"], k=5)]

    kills, _ = survive(aims, rng)  # how many steps are lost depends on the machine's load

    assert kills >= 5  # the last blow may come after the end
