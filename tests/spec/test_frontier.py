"""What islands are taken to cost in learning is what the runs on record say."""

from pathlib import Path
from statistics import fmean

import pytest

from everyflop.spec.frontier import FRONTIER, FRONTIER_STEPS, measured_extra_tokens

BENCH = Path(__file__).resolve().parents[2] / "bench"

CELLS = [
    (start, islands, steps)
    for start, by_islands in FRONTIER.items()
    for islands, by_steps in by_islands.items()
    for steps in by_steps
    if steps > 1
]


@pytest.mark.parametrize(("start", "islands", "steps"), CELLS)
def test_the_penalty_is_that_of_the_runs_on_record(monkeypatch, start: float, islands: int, steps: int):
    monkeypatch.syspath_prepend(str(BENCH))
    import islands_quality

    arm = f"h{steps}{'' if islands == 2 else f'-m{islands}'}{'-start' if start else ''}"
    runs = islands_quality.ARMS[arm]

    assert (runs["steps"], len(runs["shares"])) == (FRONTIER_STEPS, islands)
    assert (runs["how"]["steps"], runs["how"].get("sync_share", 0.0)) == (steps, start)
    each = [one["penalty"] for one in islands_quality.penalties(arm, islands_quality.curves())]
    assert pytest.approx(fmean(each), abs=0.001) == FRONTIER[start][islands][steps]


def test_it_is_linear_between_steps_and_between_starts():
    (none, start), half = (measured_extra_tokens(8, share)[2] for share in (0.0, 0.2)), measured_extra_tokens(8, 0.1)[2]

    assert half == pytest.approx((none + start) / 2)
    between = (measured_extra_tokens(steps, 0.2)[2] for steps in (8, 16, 24))
    first, middle, last = between
    assert middle == pytest.approx((first + last) / 2)


def test_a_longer_start_than_any_that_was_measured_brings_nothing():
    assert measured_extra_tokens(8, 0.5) == measured_extra_tokens(8, max(FRONTIER))


def test_exchanging_at_every_step_costs_nothing():
    assert set(measured_extra_tokens(1, 0.0).values()) == {0.0}


def test_what_was_not_measured_is_not_known():
    assert 4 not in measured_extra_tokens(24, 0.2)
    assert measured_extra_tokens(1000, 0.2) == {}
