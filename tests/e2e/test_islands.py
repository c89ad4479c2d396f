"""`everyflop train` with islands: real processes, real sockets, real kills."""

import contextlib
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from everyflop.base.files import read_lines
from everyflop.base.units import short_count

from .run_dirs import events, used_samples, wait_for_round

ISLANDS = [
    {"name": "fast", "price_per_device_hour": 2.0},
    {"name": "slow", "price_per_device_hour": 0.5, "slowdown": 2.0},
]
ROUNDS = {"steps": 4, "sync_share": 0.2, "join_s": 60.0}
SHORT = {"island": ISLANDS, "islands": ROUNDS, "train": {"tokens": 256 * 24}}
LONG = {**SHORT, "train": {"tokens": 256 * 400}, "checkpoint": {"every_steps": 20, "keep": 2}}


def process_of(run_dir: Path, name: str) -> int:
    """Return the number of the process that is an island, or the coordinator."""
    for folder in Path("/proc").iterdir():
        words: list[str] = []
        with contextlib.suppress(OSError, UnicodeDecodeError):
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        if str(run_dir / "islands" / "run.toml") in words and name in words:
            return int(folder.name)
    raise AssertionError(f"no process is {name}")


@pytest.fixture(scope="module")
def finished(train_in, tmp_path_factory):
    trained = train_in(tmp_path_factory.mktemp("islands"), **SHORT)

    assert trained.code == 0, trained.err
    return trained


def test_islands_train_a_run_to_its_end(finished):
    assert finished.summary["tokens"] == 256 * 24
    assert finished.summary["validation"]["held_out"]["loss"] < 5.5
    assert sorted(used_samples(finished.dir)) == list(range(8 * 24))


def test_the_bill_is_the_sum_over_islands_of_time_held_times_price(finished):
    islands = finished.summary["islands"]
    prices = {"fast": 2.0, "slow": 0.5}

    for name, one in islands.items():
        assert one["cost"] == pytest.approx(one["held_s"] / 3600 * prices[name])
    assert finished.summary["cost"] == pytest.approx(sum(one["cost"] for one in islands.values()))


def test_what_is_simulated_says_so(finished):
    assert finished.summary["simulated"] == ["slow"]


def test_before_it_starts_a_run_says_what_will_be_trained_and_then_what_to_expect(finished):
    before, started, _ = finished.err.partition(" tokens to train: about ")

    assert started
    assert all(word in before for word in ("model", "exchange", "slowed to 1/", "writes to"))


def test_at_its_end_a_run_shows_the_bill_by_island(finished):
    (fast,) = [line for line in finished.out.splitlines() if line.startswith("│ fast ")]
    (slow,) = [line for line in finished.out.splitlines() if line.startswith("│ slow (simulated) ")]
    tokens = finished.summary["islands"]["fast"]["tokens"]

    assert all("MiB" in line and "%" in line and "USD" in line for line in (fast, slow))
    assert f" {short_count(tokens)} " in fast


def test_every_step_of_every_island_is_in_the_metrics(finished):
    steps = {"fast": 0, "slow": 0}
    for record in read_lines(finished.dir / "rounds.jsonl"):
        for name, member in record["members"].items():
            steps[name] += member["steps"]

    for name, count in steps.items():
        assert sum(line["island"] == name for line in finished.metrics) == count


def test_every_island_keeps_the_round_log(finished):
    log = [json.dumps(record["table"]) for record in read_lines(finished.dir / "rounds.jsonl")]

    for name in ("fast", "slow"):
        kept = read_lines(finished.dir / "islands" / name / "rounds.jsonl")
        assert [json.dumps(record["table"]) for record in kept] == log


def test_a_run_by_the_clock_is_replayed_bit_for_bit(finished, everyflop):
    log, other = finished.dir / "rounds.jsonl", finished.dir.parent / "replayed"
    ended = everyflop("train", finished.run_file, "run.name=replayed", "--replay", log)
    again = [{n: m["hash"] for n, m in record["members"].items()} for record in read_lines(other / "rounds.jsonl")]

    assert ended.code == 0, ended.err
    assert again == [{n: m["hash"] for n, m in record["members"].items()} for record in read_lines(log)]
    assert json.loads((other / "summary.json").read_text())["weights_sha256"] == finished.summary["weights_sha256"]


def test_a_replay_from_another_start_stops_at_the_first_round(finished, everyflop):
    ended = everyflop(
        "train", finished.run_file, "run.name=other", "run.seed=7", "--replay", finished.dir / "rounds.jsonl"
    )

    assert ended.code == 3
    assert "another anchor" in ended.err


@pytest.mark.full
def test_killed_islands_and_a_killed_coordinator_cost_nothing_that_was_committed(
    start_everyflop, write_run_file, tmp_path
):
    process = start_everyflop("train", write_run_file(tmp_path, **LONG))
    run_dir = tmp_path / "runs" / "tiny"
    for victim, after in (("slow", 10), ("coordinator", 30), ("fast", 60)):
        wait_for_round(run_dir, read_lines(run_dir / "rounds.jsonl")[-1]["round"] + 5 if after > 10 else after, process)
        os.kill(process_of(run_dir, victim), signal.SIGKILL)
    _out, err = process.communicate(timeout=200)

    assert process.returncode == 0, err
    assert sorted(used_samples(run_dir)) == list(range(8 * 400))
    assert {event["process"] for event in events(run_dir, "restart")} == {"fast", "slow", "coordinator"}


@pytest.mark.full
def test_a_coordinator_that_is_killed_when_all_is_done_holds_nobody_up(start_everyflop, write_run_file, tmp_path):
    run_file = write_run_file(tmp_path, **SHORT)
    for name in ("one", "two", "three", "four"):  # on a busy machine all may be over before the kill
        process, run_dir = start_everyflop("train", run_file, f"run.name={name}"), tmp_path / "runs" / name
        while not events(run_dir, "left") and process.poll() is None:  # the first that knows of the end
            time.sleep(0.01)
        with contextlib.suppress(AssertionError, ProcessLookupError):
            os.kill(process_of(run_dir, "coordinator"), signal.SIGKILL)
        _, err = process.communicate(timeout=60)

        assert process.returncode == 0, err
        assert json.loads((run_dir / "summary.json").read_text())["tokens"] == 256 * 24
        if events(run_dir, "restart"):
            return
    pytest.fail("no coordinator could be killed in time")


@pytest.mark.full
def test_an_island_that_is_not_started_again_leaves_the_run_to_the_others(start_everyflop, write_run_file, tmp_path):
    process = start_everyflop("train", write_run_file(tmp_path, **LONG), "islands.restarts=0")
    run_dir = tmp_path / "runs" / "tiny"
    wait_for_round(run_dir, 10, process)
    os.kill(process_of(run_dir, "fast"), signal.SIGKILL)
    _, err = process.communicate(timeout=200)

    assert process.returncode == 0, err
    assert sorted(used_samples(run_dir)) == list(range(8 * 400))
    assert [event["process"] for event in events(run_dir, "given_up")] == ["fast"]


@pytest.mark.full
def test_an_island_that_hangs_is_killed_and_holds_nobody_up(start_everyflop, write_run_file, tmp_path):
    process = start_everyflop("train", write_run_file(tmp_path, **LONG), "islands.heartbeat_s=1")
    run_dir = tmp_path / "runs" / "tiny"
    wait_for_round(run_dir, 10, process)
    os.kill(process_of(run_dir, "slow"), signal.SIGSTOP)
    _, err = process.communicate(timeout=200)

    assert process.returncode == 0, err
    assert "slow hangs; it is killed" in err
    assert sorted(used_samples(run_dir)) == list(range(8 * 400))


@pytest.mark.full
def test_a_run_with_islands_that_is_stopped_while_it_starts_ends_at_once(start_everyflop, write_run_file, tmp_path):
    process = start_everyflop("train", write_run_file(tmp_path, **LONG))
    run_dir = tmp_path / "runs" / "tiny"
    while not (run_dir / "islands" / "slow" / "log.txt").exists():  # the last process has just been started
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.terminate()
    _, err = process.communicate(timeout=60)  # an island alone waits twice as long for a coordinator

    assert process.returncode == 143, err
    assert "Stopped" in err


@pytest.mark.full
def test_a_run_whose_coordinator_is_gone_when_it_is_stopped_ends_at_once(start_everyflop, write_run_file, tmp_path):
    process = start_everyflop("train", write_run_file(tmp_path, **LONG))
    run_dir = tmp_path / "runs" / "tiny"
    wait_for_round(run_dir, 10, process)
    process.terminate()
    os.kill(process_of(run_dir, "coordinator"), signal.SIGKILL)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 143, err
    assert list(run_dir.rglob("checkpoints/step-*")), "islands saved what was committed"


@pytest.mark.full
def test_a_run_with_islands_that_is_stopped_goes_on_where_it_was(start_everyflop, write_run_file, tmp_path):
    run_file, run_dir = write_run_file(tmp_path, **LONG), tmp_path / "runs" / "tiny"
    process = start_everyflop("train", run_file)
    wait_for_round(run_dir, 20, process)
    process.terminate()
    _, err = process.communicate(timeout=60)
    stopped_at = read_lines(run_dir / "rounds.jsonl")[-1]["tokens"]

    assert process.returncode == 143, err
    again = start_everyflop("train", run_file, "--resume")
    _, err = again.communicate(timeout=200)
    assert again.returncode == 0, err
    assert sorted(used_samples(run_dir)) == list(range(8 * 400))
    assert not events(run_dir, "rewind"), "what was committed before the stop was saved"
    assert stopped_at > 0


@pytest.mark.full
def test_islands_die_with_the_process_that_started_them_and_the_run_goes_on(start_everyflop, write_run_file, tmp_path):
    run_file, run_dir = write_run_file(tmp_path, **LONG), tmp_path / "runs" / "tiny"
    by_steps = "islands.rounds=steps"
    process = start_everyflop("train", run_file, by_steps)
    wait_for_round(run_dir, 110, process)  # 80 steps with gradients, and 30 rounds after them
    process.kill()
    process.communicate()

    again = start_everyflop("train", run_file, by_steps, "--resume")
    straight = start_everyflop("train", run_file, by_steps, "run.name=straight")
    for one in (again, straight):
        _, err = one.communicate(timeout=200)
        assert one.returncode == 0, err
    ends = [json.loads((run_dir.with_name(name) / "summary.json").read_text()) for name in ("tiny", "straight")]

    assert sorted(used_samples(run_dir)) == list(range(8 * 400))
    assert ends[0]["weights_sha256"] == ends[1]["weights_sha256"]


@pytest.mark.full
def test_a_run_moves_to_other_islands_and_its_report_says_where(start_everyflop, write_run_file, everyflop, tmp_path):
    run_file, run_dir = write_run_file(tmp_path, **LONG), tmp_path / "runs" / "tiny"
    process = start_everyflop("train", run_file)
    wait_for_round(run_dir, 30, process)
    process.terminate()
    process.communicate(timeout=60)
    moved_at = read_lines(run_dir / "rounds.jsonl")[-1]["tokens"]
    others = write_run_file(tmp_path, **{**LONG, "island": [{"name": "one"}, {"name": "two"}, {"name": "three"}]})
    again = start_everyflop("train", others, "--resume")
    _, err = again.communicate(timeout=200)
    stayed = start_everyflop("train", write_run_file(tmp_path, **LONG), "run.name=stayed")
    _, trouble = stayed.communicate(timeout=200)

    assert (again.returncode, stayed.returncode) == (0, 0), err + trouble
    assert sorted(used_samples(run_dir)) == list(range(8 * 400))
    assert everyflop("report", run_dir, "--against", run_dir.with_name("stayed")).code == 0
    page = (run_dir / "report.html").read_text()
    assert "it moved to one, three, two in place of fast, slow." in page
    assert moved_at < 256 * 400
    (before, after) = re.search(r"training loss: ([+-][\d.]+) before, ([+-][\d.]+) after", page).groups()
    assert abs(float(before)) < 0.1, "until it moved it was the same run, by another clock"
    assert abs(float(after)) < 0.3
