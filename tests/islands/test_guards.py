import math

import pytest

from everyflop.islands.guards import CLIP_ABOVE, FEWEST_EARLIER, REJECT_ABOVE, REJECT_GRADIENTS_ABOVE, judge

PAST = [1.0, 1.1, 0.9, 1.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("outliers", [True, False])
def test_what_is_not_finite_is_rejected_always(bad: float, outliers: bool):
    verdicts = judge({"a": bad, "b": 1.0}, {}, outliers=outliers)

    assert not verdicts["a"].accepted
    assert verdicts["a"].why == "not finite"
    assert verdicts["b"].accepted


def test_an_update_a_million_times_too_large_is_rejected_by_the_islands_own_past():
    verdict = judge({"a": 1e6}, {"a": PAST})["a"]

    assert not verdict.accepted
    assert verdict.scale == 0
    assert verdict.why == "1e+06 times the usual norm"


def test_an_update_a_million_times_too_large_is_rejected_by_two_peers():
    verdicts = judge({"a": 1e6, "b": 1.0, "c": 1.2}, {})

    assert [name for name, verdict in verdicts.items() if not verdict.accepted] == ["a"]


def test_a_round_that_is_hard_for_all_is_no_fault():
    verdicts = judge({"a": 20.0, "b": 22.0}, {"a": PAST, "b": PAST})

    assert all(verdict.accepted and verdict.scale == 1 for verdict in verdicts.values())


def test_an_island_that_always_moves_further_than_others_is_no_outlier():
    assert judge({"a": 20.0, "b": 1.0, "c": 1.0}, {"a": [20.0] * 4})["a"].scale == 1


def test_of_two_islands_without_a_past_nobody_can_say_which_is_odd():
    verdicts = judge({"a": 1e6, "b": 1.0}, {})

    assert all(verdict.accepted and verdict.scale == 1 and verdict.why == "" for verdict in verdicts.values())


def test_an_island_alone_without_a_past_is_believed():
    assert judge({"a": 1e6}, {"a": [1.0] * (FEWEST_EARLIER - 1)})["a"].accepted


def test_an_update_that_is_too_large_but_not_absurd_is_clipped_to_the_bound():
    verdict = judge({"a": 4.0}, {"a": PAST})["a"]

    assert verdict.accepted
    assert verdict.scale == pytest.approx(2.5 / 4)
    assert verdict.why == "4 times the usual norm, clipped to 2.5"


@pytest.mark.parametrize(
    ("times", "accepted", "scale"),
    [
        (CLIP_ABOVE, True, 1.0),
        (CLIP_ABOVE + 0.01, True, CLIP_ABOVE / (CLIP_ABOVE + 0.01)),
        (REJECT_ABOVE, True, 0.5),
        (REJECT_ABOVE + 0.01, False, 0.0),
    ],
)
def test_at_a_bound_the_milder_verdict_holds(times: float, accepted: bool, scale: float):
    verdict = judge({"a": times}, {"a": [1.0] * FEWEST_EARLIER})["a"]

    assert verdict.accepted == accepted
    assert verdict.scale == pytest.approx(scale)


@pytest.mark.parametrize(("times", "accepted"), [(REJECT_ABOVE + 1, True), (29.0, True), (31.0, False)])
def test_gradients_may_vary_more_and_are_never_clipped_here(times: float, accepted: bool):
    verdict = judge({"a": times}, {"a": [1.0] * FEWEST_EARLIER}, gradients=True)["a"]

    assert REJECT_GRADIENTS_ABOVE == 30
    assert verdict.accepted == accepted
    assert verdict.scale == float(accepted)


def test_a_small_update_is_no_outlier():
    assert judge({"a": 1e-6, "b": 1.0, "c": 1.0}, {"a": PAST})["a"].scale == 1


def test_what_is_not_finite_does_not_make_others_look_small():
    verdicts = judge({"a": 1.0, "b": 1.0, "c": math.inf, "d": 1e6}, {})

    assert [name for name in "abcd" if verdicts[name].accepted] == ["a", "b"]


def test_without_guards_outliers_pass():
    assert judge({"a": 1e6}, {"a": PAST}, outliers=False)["a"].scale == 1


def test_an_island_without_a_past_is_held_against_one_that_is_as_usual():
    past = {"a": [1.0] * 20}

    assert not judge({"a": 1.0, "new": 1e6}, past)["new"].accepted
    assert judge({"a": 1.0, "new": 2.0}, past)["new"].scale == 1.0
    assert judge({"a": 3.0, "new": 1e6}, past)["new"].accepted, "neither is as usual: nothing says which is odd"
