from pathlib import Path

import pytest

from everyflop.islands.round_log import RoundLog, newest_speed


@pytest.fixture
def log(tmp_path: Path) -> RoundLog:
    return RoundLog(tmp_path / "rounds.jsonl")


def rounds(log: RoundLog) -> list[str]:
    return log.path.read_text().splitlines()


def test_a_log_that_nobody_wrote_is_empty(log: RoundLog):
    assert log.last() is None
    assert log.cut(0) == 0


def test_the_last_commit_is_the_newest(log: RoundLog):
    for number in range(3):
        log.append({"round": number, "table": {"free": [[0, 2]]}})

    assert log.last() == {"round": 2, "table": {"free": [[0, 2]]}}


def test_a_commit_is_one_line(log: RoundLog):
    log.append({"round": 0, "why": "two\nlines"})
    log.append({"round": 1})

    assert len(rounds(log)) == 2


def test_a_line_that_a_crash_tore_was_never_written(log: RoundLog):
    log.append({"round": 0})
    with log.path.open("a") as file:
        file.write('{"round": 1, "tab')

    assert log.last() == {"round": 0}
    log.append({"round": 1})
    assert len(rounds(log)) == 2


def test_cutting_drops_the_commits_from_a_round_on_and_counts_them(log: RoundLog):
    for number in range(5):
        log.append({"round": number})

    assert log.cut(3) == 2
    assert log.last() == {"round": 2}


def test_cutting_beyond_the_end_changes_nothing(log: RoundLog):
    log.append({"round": 0})
    before = log.path.read_bytes()

    assert log.cut(1) == 0
    assert log.path.read_bytes() == before


def test_cutting_at_the_start_leaves_an_empty_log_that_can_be_written_again(log: RoundLog):
    log.append({"round": 0})

    assert log.cut(0) == 1
    assert log.last() is None
    log.append({"round": 0, "again": True})
    assert log.last() == {"round": 0, "again": True}


def test_an_islands_speed_is_that_of_its_newest_rounds(log: RoundLog):
    for tokens in (1000, 100, 200, 300):
        log.append({"members": {"a": {"tokens": tokens, "train_s": 2.0}, "idle": {"tokens": 0, "train_s": 0.0}}})
    log.append({"members": {"b": {"tokens": 7, "train_s": 1.0}}})

    assert newest_speed(log.path, "a") == 100.0
    assert newest_speed(log.path, "b") == 7.0
    assert newest_speed(log.path, "idle") is None
    assert newest_speed(log.path.parent / "none.jsonl", "a") is None
