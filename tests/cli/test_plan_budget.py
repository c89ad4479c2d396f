"""`everyflop plan` without a model: what to train for a budget."""

import json
from pathlib import Path

import pytest

from everyflop.spec.plan_file import read_plan
from everyflop.spec.read import read_run

LING = Path(__file__).resolve().parents[2] / "recipes" / "fleets" / "ling_table.toml"

EIGHT = """
name = "eight"
[[pool]]
name = "h100"
device = "h100-sxm"
count = 8
price_per_device_hour = 2.5
currency = "USD"
"""


def words(page: str) -> str:
    """Return a page without its line breaks."""
    return " ".join(page.split())


@pytest.fixture
def eight(tmp_path) -> Path:
    """One node, so that a question takes a second."""
    path = tmp_path / "eight.toml"
    path.write_text(EIGHT)
    return path


def test_a_budget_alone_says_what_to_train_and_writes_its_run(everyflop, eight, tmp_path):
    ended = everyflop("plan", eight, "--budget", "5K", "--out", tmp_path / "plan.json")
    plan, run = read_plan(tmp_path / "plan.json"), read_run(tmp_path / "plan.toml")

    assert ended.code == 0
    assert "What to train for 5.00 K USD on eight" in words(ended.out)
    assert "What reshaping ling-plus would save" not in words(ended.out)  # 8 devices cannot train it
    assert 0.97 * 5000 < plan.total.cost.p50 <= 5000
    assert run.model == plan.workload.model
    assert (run.train.tokens, run.train.batch_tokens) == (plan.workload.tokens, plan.workload.batch_tokens)
    assert f"everyflop train {tmp_path / 'plan.toml'}" in plan.launch


def test_a_budget_may_be_a_fraction_and_a_plan_may_be_called_anything(everyflop, eight, tmp_path):
    ended = everyflop("plan", eight, "--budget", "4999.5", "--out", tmp_path / "_my plan=1.json")

    assert ended.code == 0, ended.err
    assert read_run(tmp_path / "_my plan=1.toml").run.name == "my-plan-1"


def test_a_deadline_makes_the_run_smaller_and_the_page_says_that_money_is_left(everyflop, eight, tmp_path):
    days = ("--deadline-days", "2")
    ended = everyflop("plan", eight, "--budget", "5K", *days, "--out", tmp_path / "plan.json")
    plan = read_plan(tmp_path / "plan.json")

    assert ended.code == 0
    assert 1.9 < plan.total.days.p50 <= 2
    assert plan.total.cost.p50 == pytest.approx(8 * 2.5 * 24 * plan.total.days.p50, rel=1e-3)
    assert "of the budget is spent" in words(ended.out)


def test_what_reshaping_would_save_is_labelled_as_implied(everyflop, tmp_path):
    ended = everyflop("plan", LING, "--budget", "5M", "--currency", "CNY", "--out", tmp_path / "plan.json")

    assert ended.code == 0
    assert "What reshaping ling-plus would save (implied by the law, not measured)" in words(ended.out)
    assert "26 % less" in words(ended.out)  # 1 - 5.2 / 7
    assert "an extrapolation" in words(ended.out)


def test_too_small_a_budget_exits_3_and_writes_nothing(everyflop, eight, tmp_path):
    ended = everyflop("plan", eight, "--budget", "1", "--out", tmp_path / "plan.json")

    assert ended.code == 3
    assert "a budget of" in ended.err
    assert not (tmp_path / "plan.json").exists()
    assert not (tmp_path / "plan.toml").exists()


def test_a_run_file_of_the_users_is_not_overwritten(everyflop, eight, tmp_path):
    (tmp_path / "run.toml").write_text("[train]\n")

    ended = everyflop("plan", eight, "--budget", "5K", "--out", tmp_path / "run.json")

    assert ended.code == 2
    assert "Give another --out" in ended.err
    assert (tmp_path / "run.toml").read_text() == "[train]\n"


def test_planning_again_writes_the_run_again_with_the_same_bytes(everyflop, eight, tmp_path):
    written = []
    for _ in range(2):
        assert everyflop("plan", eight, "--budget", "5K", "--out", tmp_path / "plan.json").code == 0
        written.append(((tmp_path / "plan.json").read_bytes(), (tmp_path / "plan.toml").read_bytes()))

    assert written[0] == written[1]


@pytest.mark.parametrize("more", [(), ("--budget", "5K", "--tokens", "1T"), ("--budget", "5K", "--objective", "time")])
def test_without_a_model_a_budget_is_needed_and_nothing_that_the_laws_choose(everyflop, eight, more):
    ended = everyflop("plan", eight, *more)

    assert ended.code == 2
    assert "give --budget" in ended.err


def test_the_plan_names_the_shapes_own_run_in_measurements(everyflop, eight, tmp_path):
    everyflop("plan", eight, "--budget", "5K", "--out", tmp_path / "plan.json")
    made = json.loads((tmp_path / "plan.json").read_text())

    assert all(f"--run {tmp_path / 'plan.toml'}" in m["command"] for m in made["measure_next"])
