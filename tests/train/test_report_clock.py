import pytest

from everyflop.train.report_clock import commits_of, lanes_of
from everyflop.train.report_files import read_files


@pytest.fixture
def lanes(two_islands):
    files = read_files(two_islands())
    return {lane.name: lane for lane in lanes_of(files, commits_of(files.rounds, files.events))}


def event(at_s, kind, **facts):
    return {"time": f"2026-01-01T00:00:{at_s:02d}+00:00", "event": kind, **facts}


def test_commits_lie_where_their_time_says_and_time_without_islands_is_not_counted_as_held(two_islands):
    files = read_files(two_islands())
    commits = commits_of(files.rounds, files.events)

    assert [one.wall_s for one in commits] == [4.0, 6.0, 16.0]
    assert [one.busy_s for one in commits] == [4.0, 6.0, 10.0]  # no island was there from second 6 to 12


def test_an_island_trains_as_long_as_its_commits_say_and_waits_for_the_rest_of_the_time_held(lanes):
    assert lanes["a"].training == [(2.0, 4.0), (4.0, 5.5), (14.0, 16.0)]
    assert lanes["a"].waiting == [(1.0, 2.0), (5.5, 6.0), (12.0, 14.0)]
    assert lanes["b"].training == [(3.0, 4.0), (4.0, 5.0), (15.0, 16.0)]


def test_events_are_marks_in_the_lane_of_their_island(lanes):
    assert lanes["a"].marks == [(1.0, "joined"), (5.0, "saved"), (12.0, "joined")]
    assert lanes["the run"].marks == [(10.0, "restarted")]  # of the coordinator


def test_steps_of_a_run_without_islands_belong_to_the_process_that_did_them_last(make_run, run_dir):
    def step(number, seconds):
        fixed = {"tokens": 256, "loss": 1.0, "tokens_per_s": 1.0, "step_s": 1.0, "island": "main"}
        return {"step": number, "seconds": seconds, **fixed}

    run_dir.write_run(make_run())
    files = read_files(run_dir)
    files.metrics.extend([step(1, 1.0), step(2, 3.0), step(3, 5.0), step(4, 6.0)])
    files.events.extend([event(0, "start", step=0), event(20, "resume", step=2)])
    (lane,) = lanes_of(files, [])

    assert lane.training == [(0.0, 1.0), (2.0, 3.0), (20.0, 21.0), (21.0, 22.0)]
    assert lane.waiting == [(1.0, 2.0)]
