import io
from typing import Any

import pytest

from everyflop.train.islands_display import IslandsDisplay

ISLANDS = [{"name": "fast", "price_per_device_hour": 3.0, "devices": 2}, {"name": "slow", "slowdown": 2.0}]


def status(
    *, tokens: int = 0, exchange: str | None = "gradients", steps: int = 4, ended: str = "", **speeds: float
) -> dict[str, Any]:
    islands = {
        name: {"state": "in round" if speed else "away", "tokens_per_s": speed, "share": 1, "rounds": 0}
        for name, speed in speeds.items()
    }
    whole = {
        "round": 0,
        "exchange": exchange,
        "steps": steps,
        "ended": ended,
        "step": 0,
        "tokens": tokens,
        "total_tokens": 90_000,
    }
    return {**whole, "loss": None, "islands": islands}


@pytest.fixture
def shown(make_run):
    """What a display prints for statuses, one after the other, each a minute later."""

    def show(*statuses: dict[str, Any], money: dict[str, Any] | None = None) -> list[str]:
        run = make_run(island=ISLANDS, islands={}, money=money or {})
        stream, clock = io.StringIO(), iter(range(0, 6000, 60))
        with IslandsDisplay(run, stream=stream, now_s=lambda: float(next(clock))) as display:
            for one in statuses:
                display.show(one)
        return stream.getvalue().splitlines()

    return show


def test_when_the_first_round_begins_time_and_cost_are_expected_from_what_islands_measured(shown):
    money = {"currency": "CNY", "price_per_device_hour": 4.0, "example": True}
    (line,) = shown(status(exchange=None, fast=600, slow=300), status(fast=600, slow=300), money=money)

    # 90,000 tokens at 900 a second, in which two devices at 3 an hour and one at the run's 4 cost 100 s x 10 / 3600.
    assert line.startswith("90.0 K tokens to train: about 1 min 40 s and 0.28 CNY at example prices")


def test_without_every_price_no_cost_is_expected_and_who_lacks_one_is_named(shown):
    (line,) = shown(status(fast=600, slow=300))

    assert line.startswith("90.0 K tokens to train: about 1 min 40 s and an unknown cost (slow: no price), at 900 ")


def test_it_is_said_once_and_of_the_islands_that_are_there(shown):
    lines = shown(status(tokens=45_000, fast=0, slow=300), status(tokens=45_000, fast=600, slow=300))

    assert lines[0].startswith("45.0 K tokens to train: about 2 min 30 s")
    assert [line for line in lines if "to train" in line] == lines[:1]


@pytest.mark.parametrize(
    ("exchange", "steps", "said"),
    [("gradients", 4, "every step"), ("weights", 1, "every step"), ("weights", 4, "every 4 steps")],
)
def test_the_line_says_how_often_islands_exchange(shown, exchange, steps, said):
    _, line = shown(status(exchange=exchange, steps=steps, tokens=100, fast=600, slow=300))

    assert f"(exchange {said})" in line


def test_an_island_that_is_away_is_shown_so_until_the_run_has_ended(shown):
    _, line = shown(status(tokens=100, fast=0, slow=300))

    assert line.endswith("fast away, slow (simulated) 300")


def test_at_its_end_a_run_is_said_to_be_validated_once(shown):
    ended = status(tokens=90_000, exchange=None, ended="finished", fast=600, slow=0)
    lines = shown(ended, ended)

    assert len(lines) == 1
    assert "the last validation is under way" in lines[0]
    assert "away" not in lines[0]
    assert " left" not in lines[0]
