"""When a process that holds a run up is killed; tests/e2e/test_islands.py kills real ones."""

import sys

import pytest

from everyflop.train.local_islands import AWAY_S, HUNG_S, Child, holds_up

NOW_S = 10_000.0


@pytest.mark.parametrize(
    ("given_up_s", "away_s", "ended_s", "killed"),
    [
        (None, None, None, False),
        (HUNG_S - 1, None, None, False),
        (HUNG_S + 1, HUNG_S + 1, None, True),
        (None, AWAY_S - 1, None, False),
        (None, AWAY_S + 1, None, True),
        (None, None, HUNG_S - 1, False),
        (None, AWAY_S - 1, HUNG_S + 1, True),
    ],
)
def test_an_island_that_hangs_or_never_comes_or_is_left_at_the_end_is_killed(given_up_s, away_s, ended_s, killed):
    since = [None if gone_s is None else NOW_S - gone_s for gone_s in (given_up_s, away_s, ended_s)]

    assert holds_up(0.0, *since, now_s=NOW_S) is killed


def test_an_island_that_was_started_again_has_time_to_come_back():
    started_s = NOW_S - 15

    assert not holds_up(started_s, NOW_S - 100, NOW_S - AWAY_S - 100, None, now_s=NOW_S)


def test_a_process_gets_the_secret_and_sees_the_accelerators_that_it_was_given(tmp_path):
    shown = "import os; print(os.environ['EVERYFLOP_SECRET'], os.environ['CUDA_VISIBLE_DEVICES'])"
    child = Child("a", [sys.executable, "-c", shown], tmp_path / "a" / "log.txt", {"CUDA_VISIBLE_DEVICES": "3"})

    child.start("known")
    assert child.process is not None
    child.process.wait()

    assert child.last_words() == "known 3"
