import pytest

from everyflop.base.errors import UsageError
from everyflop.islands.replay import refuse_what_no_log_repeats


def record(number: int, *, members=("a", "b"), joins=1, ahead=0, hash="2d06800538d394c2", rejected=()) -> dict:
    return {
        "round": number,
        "tokens": 100 * (number + 1),
        "members": {name: {"hash": hash, "weights": hash, "accepted": name not in rejected} for name in members},
        "accounts": {name: {"joins": joins} for name in ("a", "b")},
        "ahead": ahead,
    }


def test_a_log_whose_islands_stayed_can_be_replayed():
    refuse_what_no_log_repeats([record(0), record(1, rejected=("a", "b")), record(2, rejected=("a",))], tokens=300)


def test_a_log_that_ends_before_the_run_does_is_refused():
    with pytest.raises(UsageError, match=r"ends after 200 of the run's 300 tokens"):
        refuse_what_no_log_repeats([record(0), record(1)], tokens=300)


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ([], "no round"),
        ([record(0, hash="8f01c2d3")], "hashes are those of an older everyflop"),
        ([record(0), record(1, hash="8f01c2d3")], "hashes are those of an older everyflop"),
        ([record(0), record(2), record(3)], "round 1 is not in it"),
        ([record(0), {}], "a line is none of a round log: KeyError"),
        ([record(0, hash=None)], "a line is none of a round log: TypeError"),
        ([record(1)], "begins with round 1"),
        ([record(0), record(1, members=("a",))], "round 1 had other islands: a"),
        ([record(0), record(1, joins=2)], "joined again before round 1"),
        ([record(0), record(1, ahead=3)], "trained ahead of round 1"),
        ([record(0, rejected=("b",)), record(1)], "b took the state of another after round 0"),
    ],
)
def test_a_log_that_does_not_hold_all_is_refused_with_the_reason(records, why):
    with pytest.raises(UsageError, match=why):
        refuse_what_no_log_repeats(records)
