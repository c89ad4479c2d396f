import numpy as np
import pytest

from everyflop.train.report_clock import commits_of
from everyflop.train.report_curves import place_steps, smooth, smooth_over, validations, whole_speed
from everyflop.train.report_files import read_files


def test_the_steps_of_a_round_are_spread_over_its_time_and_money(two_islands):
    steps = place_steps(read_files(two_islands()).metrics, {0: 4.0, 1: 6.0, 2: 10.0})

    assert steps["a"].seconds == [4.0, 5.0, 6.0, 10.0]
    assert steps["b"].seconds == [4.0, 6.0, 10.0]
    assert steps["a"].cost == pytest.approx([0.001, 0.0015, 0.002, 0.004])


def test_steps_of_a_run_without_islands_are_where_they_were_written():
    line = {"step": 1, "tokens": 8, "loss": 1.0, "tokens_per_s": 1.0, "step_s": 8.0, "island": "main", "cost": None}
    (steps,) = place_steps([{**line, "seconds": 8.0}, {**line, "seconds": 17.0}], {}).values()

    assert (steps.seconds, steps.cost, steps.own_tokens) == ([8.0, 17.0], [None, None], [8.0, 8.0])


def test_few_steps_are_not_smoothed():
    assert smooth([3.0, 1.0, 2.0]).tolist() == [3.0, 1.0, 2.0]


def test_a_smoothed_value_is_the_mean_of_its_neighbours_and_the_first_is_left():
    smoothed = smooth([9.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 6.0])

    assert smoothed[[0, 1, 2, 8, 9]].tolist() == [9.0, 5.0, 3.0, 4.0, 4.5]


def test_steps_at_the_same_place_are_one_point_weighted_by_their_tokens():
    x, y = smooth_over([2.0, 1.0, 2.0, 3.0], [4.0, 9.0, 8.0, None], [3.0, 1.0, 1.0, 1.0])

    assert (x.tolist(), y.tolist()) == ([1.0, 2.0], [9.0, 5.0])


def test_no_steps_are_no_points():
    assert [len(part) for part in smooth_over([], [], [])] == [0, 0]


def test_the_speed_of_all_islands_counts_the_time_in_which_one_was_there(two_islands):
    files = read_files(two_islands())
    seconds, tokens_per_s = whole_speed(files, commits_of(files.rounds, files.events))

    assert seconds == [4.0, 6.0, 10.0]
    assert np.array(tokens_per_s).tolist() == [64.0, 256.0, 128.0]  # 256 in 4 s, 512 in 2 s, 512 in 4 s


def test_a_validation_stands_at_the_tokens_and_time_of_its_step_and_the_last_of_a_step_counts(two_islands):
    time = {"time": "2026-01-01T00:00:20+00:00", "event": "validation", "set": "held_out"}
    events = [{**time, "step": 3, "loss": 9.0}, {**time, "step": 3, "loss": 2.5}, {**time, "step": 99, "loss": 1.0}]
    found = validations(read_files(two_islands(events=events)), {1: 6.0})

    assert found == {"held_out": [(768, 6.0, 0.002, 2.5)]}
