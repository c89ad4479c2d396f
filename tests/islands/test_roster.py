from dataclasses import dataclass
from typing import Any

import pytest

from everyflop.islands.roster import Member
from everyflop.spec.islands import IslandsSpec


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


@dataclass
class Wire:
    received_bytes: int = 0
    sent_bytes: int = 0


def in_round(main: Any, pulse: Any) -> Member:
    return Member("a", main, pulse=pulse, phase="in round", longest_step_s=1.0)


def gone_at(one: Member, now_s: float) -> str:
    return one.gone(now_s, IslandsSpec(heartbeat_s=5.0))


def test_an_island_whose_state_is_on_its_way_is_not_silent():
    pulse = Wire()
    one = in_round(Wire(), pulse)
    for second in range(4, 20, 4):
        pulse.received_bytes += 1000
        assert gone_at(one, second) == ""

    assert gone_at(one, 22.0) == "silent for 5 s"


def test_an_island_whose_update_is_on_its_way_does_not_hang_and_signs_of_life_are_no_progress():
    main, pulse = Wire(), Wire()
    one = in_round(main, pulse)
    for second in range(0, 60, 2):
        main.received_bytes += 1000
        pulse.received_bytes += 10
        assert gone_at(one, second) == ""
    said = []
    for second in range(60, 90, 2):
        pulse.received_bytes += 10
        said.append(gone_at(one, second))

    assert said[0] == ""
    assert said[-1] == "no progress for 20.0 s: it hangs"


def test_an_island_that_gives_its_state_does_not_hang():
    pulse = Wire()
    one = in_round(Wire(), pulse)
    for second in range(0, 60, 2):
        pulse.received_bytes += 10_000
        assert gone_at(one, second) == ""


def test_an_island_that_saves_has_as_long_as_for_its_first_step():
    one = in_round(Wire(), Wire())
    one.note_sign({"progress": 1, "step_s": 1.0, "busy": True}, 0.0)
    one.last_seen_s = 601.0

    assert gone_at(one, 599.0) == ""
    assert gone_at(one, 601.0) == "no progress for 600.0 s: it hangs"
    one.note_sign({"progress": 1, "step_s": 1.0, "busy": False}, 599.0)
    assert gone_at(one, 601.0) == ""
