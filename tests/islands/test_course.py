import numpy as np
import pytest

from everyflop.islands.samples import count
from everyflop.islands.status import status_of


def test_a_run_begins_when_all_its_islands_are_there(new_run):
    run = new_run()

    assert run.join("a") is None
    assert run.join("b")["kind"] == "begin"
    assert run.part("a")["ranges"] == [[0, 4]]
    assert run.part("b")["ranges"] == [[4, 4]]


def test_who_has_not_come_in_time_is_not_waited_for(new_run):
    run = new_run(join_s=60.0)
    run.join("b")
    run.now_s += 59

    assert not run.course.advance()
    run.now_s += 1
    assert run.course.advance()
    assert run.part("b")["leader"] == "b"


def test_an_island_that_the_run_file_does_not_name_is_refused(new_run):
    assert new_run().join("c") == "the run has no island 'c'; it has a, b"


def test_two_processes_cannot_be_the_same_island(new_run):
    run = new_run()
    run.join("a")

    assert "another process is the island 'a'" in run.join("a")


def test_an_island_of_another_model_is_refused_with_what_differs(new_run):
    run = new_run()
    run.join("a")
    run.facts = {**run.facts, "seed": 2}

    assert "seed: 2 there, 1 in the run" in run.join("b")
    assert run.kinds("refused")


def test_the_first_island_is_refused_too_if_it_is_not_what_the_coordinator_runs(new_run):
    run = new_run()
    run.course.asked = {"train": {"tokens": 80}}

    assert "train.tokens: 160 there, 80 in the run" in run.join("a")
    run.course.asked = {"train": {"tokens": 160}}
    assert not isinstance(run.join("a"), str)


def test_a_round_commits_when_everybody_has_handed_in(new_run):
    run = new_run()
    run.join_all()
    run.hand_in("a")

    assert not run.course.advance()
    assert run.course.answer(run.members["a"], 0) is None
    run.hand_in("b")
    assert run.course.advance()
    assert run.answer("a")["begin"]["round"] == 1
    assert run.kinds("commit")[0]["record"]["samples"] == 8


def test_who_joins_in_a_round_by_the_clock_gets_a_part_of_what_is_left(new_run):
    run = new_run("abc", by="clock", batches=100, join_s=0.0)
    run.join("a", speed=20.0)  # 2 s for a step, 20 s for the round
    run.part("a")
    run.now_s += 10
    begin = run.join("b", speed=20.0)

    # half of the round and half of the batch: 5 steps of 2 sequences, and one step more in reserve
    assert (begin["steps"], begin["sequences"], begin["seconds"]) == (5, 2, pytest.approx(10.0))
    assert count(begin["ranges"]) == 12


@pytest.mark.parametrize(("by", "passed_s"), [("clock", 17.0), ("steps", 0.0), ("gradients", 0.0)])
def test_who_joins_near_the_end_of_a_round_or_where_steps_are_counted_gets_none_of_it(new_run, by, passed_s):
    run = new_run(by=by, batches=100, join_s=0.0)
    run.join("a", speed=20.0)
    run.part("a")
    run.now_s += passed_s
    begin = run.join("b")

    assert (begin["steps"], begin["sequences"], begin["ranges"]) == (0, 0, [])
    assert run.round("a", "b")["b"]["begin"]["ranges"]


def test_a_commit_waits_for_who_is_being_given_the_anchor_but_not_for_ever(new_run):
    run = new_run("abc", join_s=0.0)
    run.join("a", 5)
    run.part("a")
    run.join("b", 2)
    run.hand_in("a")
    run.now_s += 9

    assert not run.course.advance()
    run.course.stand(run.members["b"], run.stands["b"] | {"fresh": True, "arithmetic": "one"})
    assert run.part("b") == {"kind": "fetch"}  # it got nothing, and asks again
    run.now_s += 9
    assert run.course.advance()


def test_a_commit_waits_for_as_long_as_the_anchor_travels(new_run):
    run = new_run("abc", join_s=0.0, heartbeat_s=1000.0)
    run.join("a", 5)
    run.part("a")
    run.join("b", 2)
    run.hand_in("a")
    run.members["b"].fetching = True
    for _ in range(10):
        run.now_s += 9
        run.members["b"].connection.sent_bytes += 100_000
        assert not run.course.gone()
        assert not run.course.advance()

    run.now_s += 11
    assert run.course.advance(), "nothing has arrived for longer than that"


def test_an_island_that_leaves_is_not_in_the_next_round(new_run):
    run = new_run()
    run.join_all()
    run.hand_in("a", leave=True)
    run.hand_in("b")
    run.course.advance()

    assert run.answer("a")["begin"] is None
    assert run.answer("b")["begin"]["ranges"] == [[8, 8]]
    run.lose("a")
    assert run.kinds("left")[0]["island"] == "a"


def test_who_reads_its_answer_late_still_gets_that_of_its_round(new_run):
    run = new_run(batches=8)
    run.join_all()
    run.hand_in("a", leave=True)
    run.round("b")
    run.round("b")

    assert run.answer("a")["record"]["round"] == 0


def test_an_island_whose_update_is_rejected_must_rejoin_and_fetch(new_run):
    run = new_run()
    run.join_all()
    run.hand_in("b", whole=False)
    run.round("a")

    assert run.answer("b")["rejoin"] == "damaged on the way"
    assert run.kinds("guard")[0]["island"] == "b"
    assert run.part("b") == {"kind": "fetch"}


def test_what_a_rejected_update_was_trained_on_is_trained_on_again(new_run):
    run = new_run(batches=4)
    run.join_all()
    run.hand_in("b", whole=False)
    again = run.round("a")["a"]["begin"]["ranges"]
    rejected = run.kinds("guard")[0]

    assert (rejected["ranges"], rejected["freed"]) == ([], [[4, 4]])
    assert (run.course.tokens, again) == (40, [[4, 4], [8, 4]])


def test_when_all_updates_are_rejected_the_anchor_stays_and_everybody_goes_on(new_run):
    run = new_run()
    run.join_all()
    run.hand_in("a", np.nan)
    run.hand_in("b", np.inf)
    run.course.advance()

    assert not run.answer("a")["applied"]
    assert run.answer("b")["begin"]["round"] == 1
    assert run.course.step == 0
    assert sorted(run.used()) == list(range(8))  # on them alone a run might never get on


def test_what_comes_for_a_round_that_is_over_cannot_count(new_run):
    run = new_run()
    run.join_all()
    run.round("a", "b")

    assert run.hand_in("a", round=0)["rejoin"] == "round 0 is over"


def test_more_samples_than_an_island_held_cannot_count(new_run):
    run = new_run()
    run.join_all()

    assert "5 samples with 50 tokens, where it held 4" in run.hand_in("a", samples=5)["rejoin"]


def test_a_run_is_finished_when_its_last_sample_is_used(new_run):
    run = new_run(batches=3)  # 12 samples: a round of two steps and one of one
    run.join_all()

    assert "ended" not in run.round("a", "b")["a"]
    assert run.round("a", "b")["b"]["ended"] == "finished"
    assert run.course.ended == "finished"
    assert sorted(run.used()) == list(range(12))


def test_the_last_commit_closes_the_accounts_whoever_is_still_busy_then(new_run):
    run = new_run(batches=2)
    run.join_all()
    run.now_s += 10
    run.round("a", "b")
    (*_, last) = run.kinds("commit")
    run.now_s += 100
    run.course.drop(run.members["b"], "it left")
    held_s = {name: one["held_s"] for name, one in status_of(run.course)["islands"].items()}

    assert held_s == {name: account["held_s"] for name, account in last["record"]["accounts"].items()}
    assert held_s == {"a": 10.0, "b": 10.0}


def test_who_joins_a_run_that_has_ended_is_told_so_and_does_not_finish_it_for_all(new_run):
    run = new_run("ab", batches=2, join_s=0.0)
    run.join("b")
    run.part("b")
    run.round("b")

    assert run.join("a") == {"kind": "ended", "how": "finished", "leader": "b"}


def test_a_leader_that_came_back_without_the_end_does_not_finish_the_run(new_run):
    run = new_run(batches=2)
    run.join_all()
    run.round("a", "b")
    run.lose("a")

    assert run.join("a", 0, record=None) == {"kind": "ended", "how": "finished", "leader": ""}


def test_the_first_island_of_the_run_file_leads(new_run):
    run = new_run()
    run.join_all()

    assert run.part("a")["leader"] == run.part("b")["leader"] == "a"


def test_an_island_that_has_no_part_in_a_round_does_not_lead_it(new_run):
    run = new_run(join_s=0.0)
    run.join("b", 5)
    run.part("b")
    run.join("a", 2)
    run.now_s += 60
    begin = run.round("b")["b"]["begin"]

    assert run.part("a") == {"kind": "fetch"}
    assert begin["leader"] == "b"


def test_when_the_leader_is_lost_in_the_last_round_another_island_finishes_for_all(new_run):
    run = new_run(batches=1)
    run.join_all()
    run.hand_in("a")
    run.lose("a")
    answer = run.round("b")["b"]

    assert (answer["ended"], answer["leader"]) == ("finished", "b")


def test_a_run_that_is_to_stop_stops_at_the_next_commit(new_run):
    run = new_run()
    run.join_all()
    run.course.stopping = True

    assert not run.course.advance()
    assert run.round("a", "b")["a"]["ended"] == "stopped"
