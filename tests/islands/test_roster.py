from typing import Any

import pytest

from everyflop.islands.roster import Member


def member(speed: float) -> Member:
    nobody: Any = None
    return Member("a", nobody, speed=speed)


def test_the_first_rounds_replace_a_guessed_speed():
    one = member(10.0)
    one.note_speed(100.0, rounds=1)
    one.note_speed(50.0, rounds=2)

    assert one.speed == 50.0


def test_later_a_speed_counts_in_part():
    one = member(100.0)
    one.note_speed(110.0, rounds=10)

    assert one.speed == pytest.approx(103.0)


def test_a_slow_round_does_not_take_an_islands_share_at_once():
    one = member(100.0)
    one.note_speed(10.0, rounds=10)

    assert one.speed == pytest.approx(73.0)


def test_an_island_that_ran_out_of_samples_is_as_fast_as_it_was():
    one = member(100.0)
    one.note_speed(200.0, rounds=10)

    assert one.speed == 200.0
