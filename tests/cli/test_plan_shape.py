"""`everyflop plan` without a model, as its user meets it."""

from pathlib import Path

import pytest

from everyflop.spec.plan_file import read_plan
from everyflop.spec.read import read_run

FLEET = Path(__file__).resolve().parents[2] / "recipes" / "fleets" / "ling_table.toml"


def test_a_budget_alone_gives_a_run_file_and_a_plan_that_belong_together(everyflop, tmp_path):
    out = tmp_path / "plan.json"
    done = everyflop("plan", FLEET, "--budget", "5M", "--currency", "CNY", "--max-islands", 1, "--out", out)
    run, plan = read_run(tmp_path / "plan.toml", files=False), read_plan(out)

    assert done.code == 0, done.out
    assert run.model == plan.workload.model
    assert (run.train.tokens, run.train.batch_tokens) == (plan.workload.tokens, plan.workload.batch_tokens)
    assert 4.9e6 < plan.total.cost.p50 <= 5e6
    assert f"everyflop train {tmp_path / 'plan.toml'} --plan {out}" == plan.launch
    assert "implied by the law, not measured" in done.out
    assert "above the laws' fitted range" in " ".join(done.out.split())


@pytest.mark.parametrize(
    "options", [(), ("--budget", "5M", "--tokens", "1T"), ("--budget", "5M", "--objective", "time")]
)
def test_without_a_model_only_a_budget_is_enough(everyflop, options, tmp_path):
    done = everyflop("plan", FLEET, *options, "--out", tmp_path / "plan.json")

    assert done.code == 2
    assert "without --model" in " ".join((done.out + done.err).split())
    assert not list(tmp_path.iterdir())
