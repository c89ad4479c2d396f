"""Kill real processes in the middle of a save, and look at what they leave behind.

A fork server imports torch once; each process that it forks saves checkpoint after checkpoint until it is killed.
"""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from everyflop.checkpoint import list_checkpoints, newest_good, open_checkpoint

FORK_SERVER = """
import os, signal, sys, tempfile
from pathlib import Path
import torch
import everyflop.checkpoint as ck

EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.listdir", "os.scandir", "shutil.rmtree"}

def die_at_file_event(number, folder):
    seen = 0
    def hook(event, args):
        nonlocal seen
        if event in EVENTS and str(args[0]).startswith(folder):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

def save_on(folder, n_saves, die_at=0):
    newest = ck.newest_good(folder, print)
    first = newest.step + 1 if newest else 1
    if die_at:
        die_at_file_event(die_at, str(folder))
    for step in range(first, first + n_saves):
        tensors = {"model.w": torch.full((20_000,), float(step)), "exp_avg.w": torch.full((20_000,), -float(step))}
        ck.save(folder, step, tensors=tensors, state={"step": step}, files={"model.json": b"%d" % step}, keep=2)

with tempfile.TemporaryDirectory() as folder:
    save_on(Path(folder), 1)  # so that forked processes find everything imported
for line in sys.stdin:
    folder, n_saves, die_at = line.split()
    if (pid := os.fork()) == 0:
        save_on(Path(folder), int(n_saves), int(die_at))
        os._exit(0)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class ForkServer:
    def __init__(self) -> None:
        command = [sys.executable, "-W", "ignore", "-c", FORK_SERVER]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)

    def start(self, folder: Path, *, n_saves: int, die_at: int = 0) -> int:
        """Start a process that saves n_saves checkpoints, or dies at a file operation; returns its id."""
        assert self.process.stdin
        assert self.process.stdout
        print(folder, n_saves, die_at, file=self.process.stdin)
        return int(self.process.stdout.readline())

    def wait(self) -> bool:
        """Wait for the process started last; returns whether SIGKILL ended it."""
        assert self.process.stdout
        status = int(self.process.stdout.readline())
        assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
        return status != 0


@pytest.fixture(scope="module")
def fork_server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.process.communicate()


def newest_step_if_all_whole(folder: Path, *, at_least: int) -> int:
    """Check that each checkpoint there holds what was saved for its step; returns the newest step."""
    damaged: list[str] = []
    newest = newest_good(folder, lambda path, what: damaged.append(what))
    found = [open_checkpoint(path) for path in list_checkpoints(folder)]

    assert damaged == []
    assert len(found) >= at_least
    for checkpoint in found:
        step = checkpoint.step
        assert (checkpoint.path.name, checkpoint.state) == (f"step-{step:08d}", {"step": step})
        assert checkpoint.file("model.json") == str(step).encode()
        loaded = checkpoint.load("")
        assert torch.equal(loaded["model.w"], torch.full((20_000,), float(step)))
        assert torch.equal(loaded["exp_avg.w"], torch.full((20_000,), -float(step)))
    assert newest
    return newest.step


def kill_at_random_instants(fork_server: ForkServer, folder: Path, n_kills: int) -> None:
    fork_server.start(folder, n_saves=1)
    assert not fork_server.wait()
    rng = random.Random(0)
    step = 1
    for _ in range(n_kills):
        process = fork_server.start(folder, n_saves=10_000)
        time.sleep(rng.uniform(0.0, 0.1))
        os.kill(process, signal.SIGKILL)
        assert fork_server.wait()

        newest = newest_step_if_all_whole(folder, at_least=1)

        assert newest >= step
        step = newest


def test_after_a_kill_at_a_random_instant_the_newest_checkpoint_is_whole(fork_server: ForkServer, tmp_path: Path):
    kill_at_random_instants(fork_server, tmp_path, 4)


@pytest.mark.full
def test_after_many_kills_at_random_instants_the_newest_checkpoint_is_whole(fork_server: ForkServer, tmp_path: Path):
    kill_at_random_instants(fork_server, tmp_path, 60)


def test_after_a_kill_at_any_file_operation_of_a_save_all_checkpoints_are_whole(
    fork_server: ForkServer, tmp_path: Path
):
    before, folder = tmp_path / "before", tmp_path / "folder"
    fork_server.start(before, n_saves=2)
    assert not fork_server.wait()
    for die_at in itertools.count(1):
        shutil.copytree(before, folder)
        fork_server.start(folder, n_saves=1, die_at=die_at)
        killed = fork_server.wait()
        newest_step_if_all_whole(folder, at_least=2)
        if not killed:
            break
        shutil.rmtree(folder)

    assert die_at > 30
    assert [path.name for path in list_checkpoints(folder)] == ["step-00000002", "step-00000003"]
