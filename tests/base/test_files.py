"""Crashes are real: a child process is killed with SIGKILL while it writes."""

import errno
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from everyflop.base.errors import UsageError
from everyflop.base.files import (
    append_line,
    in_turn,
    locked,
    new_folder,
    read_lines,
    sha256_file,
    write_atomic,
    write_json,
)

BIG = 200_000


def run_child(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def kill_at() -> Callable[..., None]:
    """Run a script in a child that is killed at its n-th call into the operating system of the given name."""

    def run(script: str, call: str, n: int, *arguments: object) -> None:
        trap = f"""
import os, pathlib, signal, sys
real, seen = getattr(os, {call!r}), 0
def trapped(*a, **k):
    global seen
    seen += 1
    if seen == {n}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*a, **k)
setattr(os, {call!r}, trapped)
"""
        child = run_child(trap + script, *arguments)
        _, stderr = child.communicate(timeout=30)
        assert child.returncode == -signal.SIGKILL, stderr.decode()

    return run


WRITE = f"""
from everyflop.base.files import write_atomic
write_atomic(pathlib.Path(sys.argv[1]), b"n" * {BIG})
"""

# write_atomic flushes the file, renames it, opens the folder and flushes that: fsync, replace, open, fsync.
BEFORE_RENAME = [("fsync", 1), ("replace", 1)]
AFTER_RENAME = [("open", 1), ("fsync", 2)]


@pytest.mark.parametrize(("call", "n"), BEFORE_RENAME)
def test_a_writer_killed_before_the_rename_leaves_the_old_file(tmp_path: Path, kill_at: Callable, call: str, n: int):
    path = tmp_path / "state"
    path.write_bytes(b"old")

    kill_at(WRITE, call, n, path)

    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(("call", "n"), AFTER_RENAME)
def test_a_writer_killed_after_the_rename_leaves_the_new_file(tmp_path: Path, kill_at: Callable, call: str, n: int):
    path = tmp_path / "state"
    path.write_bytes(b"old")

    kill_at(WRITE, call, n, path)

    assert path.read_bytes() == b"n" * BIG


def test_a_reader_meets_whole_files_only_while_a_writer_is_killed_at_any_time(tmp_path: Path):
    path = tmp_path / "state"
    path.write_bytes(b"0" * BIG)
    endless = f"""
import itertools, pathlib, sys
from everyflop.base.files import write_atomic
for i in itertools.count(1):
    write_atomic(pathlib.Path(sys.argv[1]), str(i % 10).encode() * {BIG})
    print(i, flush=True)
"""
    child = run_child(endless, path)
    assert child.stdout is not None
    child.stdout.readline()

    contents = [path.read_bytes() for _ in range(50)]
    child.kill()
    child.communicate()
    contents.append(path.read_bytes())

    assert all(len(content) == BIG and len(set(content)) == 1 for content in contents)


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path):
    folder = tmp_path / "target"
    folder.mkdir()

    with pytest.raises(IsADirectoryError):
        write_atomic(folder, b"x")

    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]


def test_a_link_is_followed_and_stays_one(tmp_path: Path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")

    write_atomic(tmp_path / "link", "new")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_a_link_to_nothing_yet_makes_what_it_points_to(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/target")

    write_atomic(tmp_path / "link", "new")

    assert (tmp_path / "folder" / "target").read_text() == "new"
    assert [entry.name for entry in (tmp_path / "folder").iterdir()] == ["target"]


def test_a_pipe_is_written_into_and_stays_one(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)

    write_atomic(pipe, "through")

    assert reader.communicate(timeout=30)[0] == b"through"
    assert pipe.is_fifo()


def test_an_error_names_the_path_asked_for(tmp_path: Path):
    path = tmp_path / "missing" / "a.txt"

    with pytest.raises(FileNotFoundError) as error:
        write_atomic(path, "x")

    assert error.value.filename == str(path)


def test_text_is_written_as_utf_8(tmp_path: Path):
    write_atomic(tmp_path / "a.txt", "价格 €")

    assert (tmp_path / "a.txt").read_bytes() == "价格 €".encode()


def test_json_is_read_back_and_nan_is_refused(tmp_path: Path):
    path = tmp_path / "a.json"
    write_json(path, {"loss": 2.5})

    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"loss": float("nan")})

    assert json.loads(path.read_text()) == {"loss": 2.5}


FOLDER = """
from everyflop.base.files import new_folder
with new_folder(pathlib.Path(sys.argv[1])) as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "a").write_text("whole")
"""


@pytest.mark.parametrize(("call", "n"), [("mkdir", 1), ("mkdir", 2), ("fsync", 1), ("fsync", 3), ("rename", 1)])
def test_a_killed_writer_of_a_folder_leaves_no_folder(tmp_path: Path, kill_at: Callable, call: str, n: int):
    kill_at(FOLDER, call, n, tmp_path / "step-1")

    assert not (tmp_path / "step-1").exists()


def test_what_a_killed_writer_left_is_cleared_away_by_the_next(tmp_path: Path, kill_at: Callable):
    kill_at(FOLDER, "rename", 1, tmp_path / "step-1")
    with new_folder(tmp_path / "step-1") as folder:
        (folder / "b").write_text("new")

    assert [entry.name for entry in tmp_path.iterdir()] == ["step-1"]
    assert [entry.name for entry in (tmp_path / "step-1").iterdir()] == ["b"]


def test_a_folder_vanishes_when_its_block_fails(tmp_path: Path):
    def fail_half_way() -> None:
        with new_folder(tmp_path / "new") as folder:
            (folder / "a").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_never_replaced(tmp_path: Path):
    (tmp_path / "old").mkdir()

    with pytest.raises(FileExistsError, match="exists already"), new_folder(tmp_path / "old"):
        pass

    assert [entry.name for entry in tmp_path.iterdir()] == ["old"]


def test_a_missing_parent_of_a_folder_is_made(tmp_path: Path):
    with new_folder(tmp_path / "runs" / "a"):
        pass

    assert (tmp_path / "runs" / "a").is_dir()


def test_lines_come_back_in_order(tmp_path: Path):
    for step in range(3):
        append_line(tmp_path / "metrics.jsonl", {"step": step})

    assert read_lines(tmp_path / "metrics.jsonl") == [{"step": 0}, {"step": 1}, {"step": 2}]


def test_a_missing_file_has_no_lines(tmp_path: Path):
    assert read_lines(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize("cut", range(1, 13))
def test_a_last_line_torn_at_any_byte_is_left_out_and_the_next_one_is_kept(tmp_path: Path, cut: int):
    path = tmp_path / "metrics.jsonl"
    append_line(path, {"step": 1})
    path.write_bytes(path.read_bytes() + b'{"step": 2}\n'[:-cut])

    assert read_lines(path) == [{"step": 1}]

    append_line(path, {"step": 3})

    assert read_lines(path) == [{"step": 1}, {"step": 3}]


@pytest.mark.parametrize("line", [b"{]", b"3", b'"text"', b"\xff\xfe"])
def test_a_whole_line_that_is_no_json_object_is_named(tmp_path: Path, line: bytes):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line + b"\n")

    with pytest.raises(UsageError, match=r"metrics\.jsonl, line 2: no"):
        read_lines(path)


def test_nan_is_refused_in_a_line_before_anything_is_written(tmp_path: Path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_line(tmp_path / "metrics.jsonl", {"loss": float("nan")})

    assert not (tmp_path / "metrics.jsonl").exists()


def test_the_digest_of_a_file_is_its_sha_256(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"abc")

    # The test vector of FIPS 180-2, appendix B.1.
    assert sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_digest_tells_of_each_byte_once_as_it_goes(tmp_path: Path):
    (tmp_path / "a").write_bytes(bytes(10_000_001))
    counts: list[int] = []
    sha256_file(tmp_path / "a", advance=counts.append)

    assert sum(counts) == 10_000_001
    assert len(counts) > 1


HOLD = """
import pathlib, sys
from everyflop.base.files import locked
with locked(pathlib.Path(sys.argv[1]), busy="busy"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_while_the_first_holds_the_lock_and_served_once_it_is_killed(tmp_path: Path):
    path = tmp_path / "run" / ".lock"
    child = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"

    with pytest.raises(UsageError, match="run a is in use"), locked(path, busy="run a is in use"):
        pass
    child.kill()
    child.communicate()

    with locked(path, busy="run a is in use"):
        pass


def test_an_error_names_the_file_that_was_to_be_written(tmp_path):
    with pytest.raises(OSError) as refused:
        write_atomic(tmp_path / "nowhere" / "x.toml", "text")

    assert refused.value.filename == str(tmp_path / "nowhere" / "x.toml")


def test_a_folder_in_the_way_is_named_by_its_own_name(tmp_path):
    (tmp_path / "x.toml").mkdir()
    with pytest.raises(OSError) as refused:
        write_atomic(tmp_path / "x.toml", "text")

    assert refused.value.filename == str(tmp_path / "x.toml")
    assert [path.name for path in tmp_path.iterdir()] == ["x.toml"]


def test_a_line_that_does_not_fit_on_the_disk_is_an_error_and_no_line(tmp_path):
    path = tmp_path / "lines.jsonl"
    append_line(path, {"n": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 4, before[1]))
    try:
        with pytest.raises(OSError):
            append_line(path, {"n": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    append_line(path, {"n": 3})

    assert read_lines(path) == [{"n": 1}, {"n": 3}]


@pytest.mark.parametrize("hold", [locked, in_turn])
def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, hold):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)

    with pytest.raises(UsageError, match="has no locks"), hold(tmp_path / "lock", busy="busy"):
        pass
