import pytest

from everyflop.train.report import all_reduce_bytes, build_report
from everyflop.train.report_files import read_files

PARAMETERS = 40_800
"""Of the tiny run: 2 x 320 x 32 for embedding and head, and what its two layers have."""


@pytest.fixture
def report(two_islands):
    return build_report(read_files(two_islands()))


def test_each_island_has_what_the_newest_commit_says_of_it(report):
    a, b = report.islands

    assert (a.name, a.account.held_s, a.account.train_s, a.account.tokens) == ("a", 9.0, 5.5, 960)
    assert (a.account.joins, a.account.sent_bytes) == (2, 3000)
    assert (b.name, b.simulated, b.account.received_bytes) == ("b", True, 6000)


def test_the_bill_is_time_held_times_price(report):
    assert [island.cost for island in report.islands] == pytest.approx([0.005, 0.0025])  # 9 s at 2 and at 1 an hour
    assert report.cost == pytest.approx(0.0075)


def test_what_was_not_training_is_a_share_of_all_devices_time(report):
    assert report.waiting_share == pytest.approx(1 - (5.5 + 3.0) / 18)
    assert report.islands[1].waiting_share == pytest.approx(6 / 9)


def test_the_time_of_the_run_is_that_with_an_island(report):
    assert report.seconds == 10.0


def test_an_all_reduce_sends_twice_the_gradients_but_for_the_own_part():
    assert all_reduce_bytes(10, islands=4, steps=3) == 10 * 4 * 2 * 0.75 * 3
    assert all_reduce_bytes(10, islands=1, steps=3) == 0


def test_the_yardstick_of_traffic_is_that_of_the_steps_done(report):
    assert report.parameters == PARAMETERS
    assert report.all_reduce_bytes == PARAMETERS * 4 * 2 * 1 / 2 * 5


def test_an_exchange_with_an_island_alone_in_its_run_and_no_commit_is_nothing(two_islands):
    report = build_report(read_files(two_islands(rounds=[], metrics=[], events=[])))

    assert (report.seconds, report.cost, report.waiting_share) == (0.0, 0.0, None)
    assert [island.account.tokens for island in report.islands] == [0, 0]


def test_guards_are_those_of_the_commits_and_of_single_steps(two_islands):
    files = read_files(two_islands())
    files.rounds[1]["members"]["b"] |= {"accepted": False, "why": "9 times the usual norm"}
    files.rounds[1]["members"]["a"] |= {"why": "3 times the usual norm, clipped to 2.5"}
    files.rounds[2]["applied"] = False
    files.metrics[-1]["fault"] = "loss nan"
    found = [(one.where, one.island, one.verdict) for one in build_report(files).decisions]

    assert found == [
        ("round 1", "a", "clipped"),
        ("round 1", "b", "rejected"),
        ("step 4", "b", "step skipped"),
        ("round 2", "all", "rolled back"),
    ]


def test_a_run_without_islands_is_one_that_is_called_main(make_run, run_dir):
    run_dir.write_run(make_run(money={"price_per_device_hour": 36.0}))
    files = read_files(run_dir)
    fixed = {"loss": 1.0, "tokens_per_s": 128.0, "step_s": 2.0, "island": "main"}
    files.metrics.extend({"step": n, "cost": 0.01 * n, "tokens": 256 * n, "seconds": 3.0 * n, **fixed} for n in (1, 2))
    files.events.append({"event": "skip", "time": "2026-01-01T00:00:00+00:00", "step": 2, "cause": "loss nan"})
    report = build_report(files)
    (main,) = report.islands

    assert (main.name, main.account.held_s, main.account.train_s, main.account.tokens) == ("main", 6.0, 4.0, 512)
    assert report.cost == pytest.approx(0.02), "as it was paid, whatever today's price"
    assert [(one.where, one.why) for one in report.decisions] == [("step 2", "loss nan")]


def test_a_plan_is_held_against_what_was_trained_so_far(two_islands, plan_for):
    import json

    run_dir = two_islands()
    run_dir.plan.write_text(json.dumps(plan_for(run_dir.read_run())))
    plan = build_report(read_files(run_dir)).plan

    assert plan["cost"]["measured"] == pytest.approx(0.0075)
    assert plan["cost"]["predicted"]["p50"] == pytest.approx(0.02 * 1280 / 3072)


def test_an_island_that_left_stands_in_the_bill_with_what_was_paid_and_no_price_of_today(two_islands):
    files = read_files(two_islands())
    files.rounds[-1]["accounts"]["gone"] = {"held_s": 20.0, "train_s": 10.0, "tokens": 7, "joins": 1, "cost": 4.0}
    report = build_report(files)
    gone = report.islands[-1]

    assert (gone.name, gone.cost, gone.price_per_device_hour, gone.account.tokens) == ("gone", 4.0, None, 7)
    assert report.cost == pytest.approx(4.0075)
