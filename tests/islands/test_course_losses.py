"""What becomes of a run when islands or the coordinator are lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def test_who_comes_after_all_others_left_is_waited_for_anew(new_run):
    run = new_run(join_s=60.0)
    run.join_all()
    for name in "ab":
        run.hand_in(name, leave=True)
    run.course.advance()
    for name in "ab":
        run.answer(name)
        run.lose(name)
    run.now_s += 1000

    assert run.join("a") is None
    assert run.join("b")["kind"] == "begin"


def test_the_newest_anchor_wins_and_who_has_an_older_one_fetches_it(new_run):
    run = new_run()
    run.join_all()
    run.round("a", "b")
    old = run.stands["b"] | {"round": 0, "hash": "h0", "record": None}
    run.restart()
    run.stands["b"] = old
    run.join("a")

    assert run.join("b") == {"kind": "fetch"}
    assert run.part("a")["round"] == 1
    assert [donor.name for donor in run.course.donors(run.members["b"])] == ["a"]


@pytest.fixture
def behind_its_log(new_run):
    """A run of five rounds whose coordinator is new, and in which only an island from its start has joined."""
    run = new_run(batches=20, join_s=120.0)
    run.join_all()
    for _ in range(5):
        run.round("a", "b")
    run.restart()
    run.old.clear()
    run.join("a", 0)
    return run


def test_islands_with_an_old_anchor_wait_long_for_one_that_has_what_the_log_knows_of(behind_its_log):
    run = behind_its_log
    run.now_s += 500
    run.course.advance()

    assert run.course.round is None
    run.join("b", 5, run.stands["b"]["hash"], record=run.stands["b"]["record"])
    run.course.advance()
    assert run.course.number == 5
    assert not run.kinds("rewind")


def test_they_go_on_from_what_they_have_when_nobody_comes(behind_its_log):
    behind_its_log.now_s += 601
    behind_its_log.course.advance()

    assert behind_its_log.course.number == 0
    assert behind_its_log.kinds("rewind")


def test_of_different_anchors_of_the_same_round_that_of_most_islands_wins(new_run):
    run = new_run("abc")
    run.join("a", 0, "aa")
    run.join("b", 0, "bb")
    run.join("c", 0, "bb")

    assert run.part("a") == {"kind": "fetch"}
    assert run.part("b")["kind"] == run.part("c")["kind"] == "begin"


def test_an_anchor_of_another_past_is_fetched_anew_though_its_round_is_the_same(new_run):
    run = new_run("ab", batches=8, join_s=60.0)
    run.join_all()
    run.round("a", "b")
    run.lose("b")  # with a commit that the others are about to lose
    run.hand_in("a")
    run.restart()
    run.stands["a"] = {"round": 0, "hash": "h0", "record": None}
    run.join("a")
    run.now_s += 60
    run.course.advance()
    run.part("a")
    run.round("a")

    assert run.course.number == run.stands["b"]["round"] == 1
    assert run.join("b") == {"kind": "fetch"}


def test_the_samples_of_a_lost_island_return_and_the_others_commit_without_it(new_run):
    run = new_run()
    run.join_all()
    run.hand_in("b")
    run.lose("a")

    assert run.course.advance()
    assert run.answer("b")["begin"]["ranges"] == [[0, 4], [8, 4]]
    assert run.kinds("lost")[0]["island"] == "a"


def test_what_an_island_handed_in_before_it_was_lost_counts(new_run):
    run = new_run()
    run.join_all()
    run.hand_in("a")
    run.lose("a")
    run.hand_in("b")
    run.course.advance()

    assert sorted(run.used()) == list(range(8))
    assert set(run.course.begins) == {"b"}


def test_who_comes_back_after_it_handed_in_waits_for_the_commit_and_fetches_what_came_of_it(new_run):
    run = new_run()
    run.join_all()
    run.hand_in("a")
    run.lose("a")

    assert run.join("a") is None
    run.round("b")
    assert set(run.course.begins) == {"b"}
    assert run.part("a") == {"kind": "fetch"}


def test_what_came_of_a_round_is_lost_with_the_last_island_that_held_it(new_run):
    run = new_run("a", batches=2)
    run.join("a")
    run.part("a")
    run.hand_in("a")
    run.lose("a")
    run.join("a")
    run.course.advance()

    assert run.course.ended == ""
    assert run.part("a")["ranges"] == [[0, 8]]


def test_a_finished_run_is_finished_by_an_island_that_holds_its_end(new_run):
    run = new_run(batches=2)
    run.join_all()
    run.hand_in("a")
    run.lose("a")
    run.round("b")
    run.restart()
    run.join_all()

    assert run.part("a") == run.part("b") == {"kind": "ended", "how": "finished", "leader": "b"}


def test_an_island_that_was_lost_in_a_round_can_come_back_in_it(new_run):
    run = new_run("ab", by="clock", batches=20)
    run.join_all()
    run.lose("a")
    run.now_s += 10
    run.join("a")
    run.round("a", "b")

    assert len(run.used()) == len(set(run.used())) == run.course.table.consumed


def test_an_island_that_sends_no_sign_of_life_is_gone(new_run):
    run = new_run(heartbeat_s=5.0)
    run.join_all()
    run.now_s += 5.1
    run.members["b"].last_seen_s = run.now_s

    assert [(member.name, why) for member, why in run.course.gone()] == [("a", "silent for 5 s")]


def test_an_island_that_lives_but_makes_no_progress_hangs(new_run):
    run = new_run()
    run.join_all()
    run.hand_in("b")
    run.members["a"].longest_step_s = 6.0
    run.now_s += 30.1
    for member in run.members.values():
        member.last_seen_s = run.now_s

    # five of its longest steps; who has handed in waits for others and hangs never
    assert [(member.name, why) for member, why in run.course.gone()] == [("a", "no progress for 30.0 s: it hangs")]


def test_a_run_without_islands_waits_and_goes_on_from_the_newest_that_returns(new_run):
    run = new_run(batches=8)
    run.join_all()
    run.round("a", "b")
    for name in "ab":
        run.lose(name)
    run.course.advance()

    assert run.kinds("empty")
    assert run.join("a") is None
    assert run.join("b", 0) == {"kind": "fetch"}
    assert run.part("a")["ranges"] == [[8, 8]]


@pytest.mark.parametrize("keep_log", [True, False])
def test_a_new_coordinator_goes_on_from_what_its_islands_know(new_run, keep_log: bool):
    run = new_run(batches=8)
    run.join_all()
    run.now_s += 7
    run.round("a", "b")
    if not keep_log:
        run.log.unlink()
    run.restart()
    run.join_all()
    record = run.round("a", "b")["a"]["record"]

    assert (record["round"], record["step"], record["tokens"], record["samples"]) == (1, 4, 160, 16)
    assert record["members"]["a"]["ranges"] == [[8, 4]]
    assert (record["accounts"]["a"]["joins"], record["accounts"]["a"]["held_s"]) == (2, 7.0)


def test_a_new_coordinator_does_not_wait_long_for_who_was_there_a_moment_ago(new_run):
    run = new_run(batches=8, join_s=600.0, heartbeat_s=5.0)
    run.join_all()
    run.round("a", "b")
    run.restart()
    run.join("a")
    run.now_s += 2
    early = run.course.advance()
    run.now_s += 0.5

    assert not early
    assert run.course.advance()
    assert run.part("a")["round"] == 1


def test_a_commit_that_no_island_heard_of_is_dropped_and_its_samples_are_used_again(new_run):
    run = new_run(batches=2)
    run.join_all()
    for name in "ab":
        run.hand_in(name)
    run.course.advance()
    run.restart()
    run.join_all()

    assert run.kinds("rewind") == [{"kind": "rewind", "round": 0, "dropped_rounds": 1}]
    run.round("a", "b")
    assert sorted(run.used()) == list(range(8))


ACTIONS = ["join", "join", "hand in", "hand in", "part of it", "lose", "tick", "tick", "crash"]
SCHEDULES = st.lists(st.tuples(st.sampled_from(ACTIONS), st.sampled_from("abc"), st.integers(0, 9)), max_size=60)


@settings(max_examples=60)
@given(schedule=SCHEDULES, by=st.sampled_from(["steps", "clock", "gradients"]))
def test_the_anchor_has_seen_every_sample_exactly_once_whatever_is_lost_and_when(make_run, schedule, by):
    run = make_run("abc", batches=9, by=by, join_s=2.0)
    for action, name, n in schedule:
        run.live(action, name, n)
    for _ in range(100):
        for name in "abc":
            run.live("join", name, 0)
            run.live("hand in", name, 0)
        run.live("tick", "a", 3)

    assert run.course.ended == "finished"
    newest = max(run.stands.values(), key=lambda stand: stand["round"])
    assert sorted(run.past[newest["hash"]]) == list(range(36))


@pytest.mark.parametrize(("batches", "ended"), [(2, "finished"), (20, "")])
def test_a_run_that_was_made_longer_or_shorter_ends_where_it_says_now(new_run, batches, ended):
    run = new_run(batches=8)
    run.join_all()
    run.round("a", "b")
    run.facts["train"]["tokens"] = 40 * batches
    run.restart()
    run.join_all()

    assert (run.course.table.total, run.course.ended) == (4 * batches, ended)


def test_a_past_that_the_run_has_gone_back_from_does_not_come_back(new_run):
    run = new_run(batches=60, join_s=1.0)
    run.join_all()
    for _ in range(10):
        run.round("a", "b")
    old = dict(run.stands["b"])
    run.restart()
    run.old.clear()
    run.join("a", 0)
    run.now_s += 601
    run.course.advance()
    run.part("a")
    for _ in range(8):
        run.round("a")
    run.restart()
    run.stands["b"] = old
    run.join("a")

    assert run.join("b") == {"kind": "fetch"}
    assert run.course.number == 8


def test_who_has_gone_on_from_an_old_anchor_is_not_waited_for_again(behind_its_log):
    run = behind_its_log
    run.now_s += 601
    run.course.advance()
    run.part("a")
    run.round("a")
    run.lose("a")
    run.course.advance()
    run.old.clear()
    run.join("a")
    run.now_s += 120
    run.course.advance()

    assert run.course.round is not None
