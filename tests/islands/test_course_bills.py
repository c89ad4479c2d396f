"""What time, joins and money come to, whatever is lost."""

import pytest


def test_time_and_joins_of_an_island_are_counted_once_whatever_happens(new_run):
    run = new_run(batches=8)
    run.join_all()
    run.now_s += 7
    run.round("a", "b")
    run.now_s += 5
    for name in "ab":
        run.lose(name)
    run.course.advance()
    run.join_all()
    run.now_s += 3
    run.round("a", "b")
    account = run.kinds("commit")[-1]["record"]["accounts"]["a"]

    assert (account["joins"], account["held_s"]) == (2, pytest.approx(15.0))
    assert (account["tokens"], account["rounds"]) == (80, 2)


def test_what_was_paid_stays_paid_when_prices_change_and_islands_leave(new_run):
    run = new_run(batches=8)
    run.prices = {"a": 3600.0, "b": 7200.0}
    run.restart()
    run.join_all()
    run.now_s += 7
    run.round("a", "b")
    run.prices, run.names = {"a": 36000.0}, "a"
    run.restart()
    run.join("a")
    run.now_s += 3
    record = run.round("a")["a"]["record"]

    assert {name: account["cost"] for name, account in record["accounts"].items()} == pytest.approx({"a": 37, "b": 14})


def test_time_of_which_no_price_is_known_makes_the_cost_unknown(new_run):
    run = new_run(batches=8)
    run.join_all()
    run.now_s += 7
    run.round("a", "b")
    run.prices = {"a": 3600.0, "b": 3600.0}
    run.restart()
    run.join_all()
    record = run.round("a", "b")["a"]["record"]

    assert [account["cost"] for account in record["accounts"].values()] == [None, None]


def test_time_goes_on_when_the_island_that_was_held_longest_is_lost_and_stands_still_without_any(new_run):
    run = new_run(batches=8, join_s=0.0)
    run.join("a")
    run.now_s += 6
    run.join("b")
    run.now_s += 1
    run.lose("a")
    run.now_s += 2
    run.lose("b")
    run.course.advance()
    run.now_s += 50
    run.join("b")
    run.now_s += 4
    record = run.round("b")["b"]["record"]

    assert record["busy_s"] == 13.0
    assert {name: account["held_s"] for name, account in record["accounts"].items()} == {"a": 7.0, "b": 7.0}


def test_what_was_paid_stays_paid_when_rounds_are_done_again(new_run):
    run = new_run(batches=20)
    run.prices = {"a": 3600.0, "b": 3600.0}
    run.restart()
    run.join_all()
    saved = {}
    for number in range(6):
        run.now_s += 10
        run.round("a", "b")
        saved = saved if number > 1 else {name: dict(stand) for name, stand in run.stands.items()}
    run.stands = saved
    run.restart()
    run.join_all()
    run.now_s += 10
    record = run.round("a", "b")["a"]["record"]

    assert record["round"] == 2
    assert {name: one["cost"] for name, one in record["accounts"].items()} == pytest.approx({"a": 70, "b": 70})
    assert (record["busy_s"], record["accounts"]["a"]["joins"]) == (pytest.approx(70), 2)
    assert record["accounts"]["a"]["rounds"] == 3
