import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROWS = Path(__file__).resolve().parents[2] / "recipes" / "rows.csv"
COMMANDS = ["init", "train", "generate", "data", "checkpoint", "import", "export", "catalog", "measure"]


def test_help_names_every_command_and_exits_with_0(everyflop):
    ended = everyflop("--help")

    assert ended.code == 0
    assert [name for name in COMMANDS if f" {name} " not in ended.out] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(everyflop, command):
    ended = everyflop(command, "--help")

    assert ended.code == 0
    assert f"everyflop {command}" in ended.out


@pytest.mark.parametrize(
    "arguments", [["no-such-command"], ["train", "--no-such-option"], ["checkpoint", "merge"], ["train"]]
)
def test_wrong_usage_exits_with_2_and_points_to_the_help(everyflop, arguments):
    ended = everyflop(*arguments)

    assert ended.code == 2
    assert "--help" in ended.err
    assert "Traceback" not in ended.err


def test_without_arguments_the_help_is_shown(everyflop):
    assert "Start with: everyflop init run.toml" in " ".join(everyflop().out.split())


def test_what_a_user_can_mend_exits_with_2_and_one_message(everyflop, tmp_path):
    ended = everyflop("checkpoint", "verify", tmp_path / "missing")

    assert ended.code == 2
    assert ended.err.startswith("everyflop: ")
    assert "missing does not exist" in ended.err
    assert "Traceback" not in ended.err


def test_an_expected_no_exits_with_3(everyflop, tmp_path):
    (tmp_path / "step-00000001").mkdir()
    ended = everyflop("checkpoint", "verify", tmp_path)

    assert ended.code == 3
    assert "Traceback" not in ended.err


def test_a_defect_of_ours_exits_with_1_and_a_traceback():
    broken = "import everyflop.cli.main as cli; cli.app = lambda **_: 1 / 0; cli.main()"
    ended = subprocess.run([sys.executable, "-c", broken], capture_output=True, text=True)

    assert ended.returncode == 1
    assert "Traceback" in ended.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_first_step_ends_the_command_with_its_code(
    start_everyflop, write_run_file, tmp_path, number, code
):
    (tmp_path / "long").mkdir()
    for i in range(80):  # enough to count and tokenise for a second
        (tmp_path / "long" / f"{i}.txt").write_text(" ".join(str(i * j) for j in range(8_000)))
    data = {"sources": str(tmp_path / "long"), "prepared_dir": str(tmp_path / "prepared")}
    process = start_everyflop("train", write_run_file(tmp_path, data=data))
    while not list((tmp_path / "prepared").glob(".tmp-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    os.kill(process.pid, number)
    _, err = process.communicate()

    assert process.returncode == code, err
    assert f"stopped by {signal.Signals(number).name}; whatever was saved is intact" in err
    assert "Traceback" not in err


def test_a_guard_against_a_failing_tracker_does_not_swallow_sigterm(everyflop, write_run_file, tmp_path, monkeypatch):
    from torch.utils import tensorboard

    monkeypatch.setattr(tensorboard, "SummaryWriter", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    ended = everyflop("train", write_run_file(tmp_path))

    assert ended.code == 143
    assert not (tmp_path / "runs" / "tiny" / "metrics.jsonl").exists()


def test_a_path_that_cannot_be_written_is_said_without_a_traceback(everyflop, tmp_path):
    (tmp_path / "file").touch()
    ended = everyflop("init", tmp_path / "file" / "run.toml")

    assert ended.code == 2
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "command",
    [
        "catalog list",  # one table
        "catalog list --json",  # one text
        "--help",  # typer's own
        f"explain {ROWS}",  # lines and tables
    ],
)
def test_when_nobody_reads_on_a_command_ends_quietly(start_everyflop, command):
    process = start_everyflop(*command.split())
    process.stdout.close()
    err = process.stderr.read()
    process.wait()

    assert process.returncode == 128 + signal.SIGPIPE
    assert err == ""


def test_an_exit_of_a_command_that_is_no_broken_pipe_stays_what_it_is():
    leaves = "import everyflop.cli.main as cli; cli.app = lambda **_: cli.sys.exit(1); cli.main()"

    assert subprocess.run([sys.executable, "-c", leaves], check=False).returncode == 1
