"""`everyflop train --plan`: a run that follows a plan, from its first line to its summary."""

import json
import shutil

import pytest

from everyflop.base.files import read_lines
from everyflop.checkpoint import list_checkpoints, open_checkpoint
from everyflop.spec.read import read_run


@pytest.fixture
def write_plan(plan_for, write_run_file, tmp_path):
    def write(**changes):
        run_file = write_run_file(tmp_path)
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(plan_for(read_run(run_file), **changes), indent=1))
        return run_file, path

    return write


@pytest.fixture
def followed(write_plan, everyflop, tmp_path):
    """A finished run of the plan: its run file, the plan, the run directory, and what the command said."""
    run_file, plan = write_plan()
    ended = everyflop("train", run_file, "--plan", plan)

    assert ended.code == 0, ended.err
    return run_file, plan, tmp_path / "runs" / "tiny", ended


def test_the_run_takes_the_plans_settings_and_keeps_the_plan(followed):
    _, plan, run_dir, _ = followed
    kept = read_run(run_dir / "run.toml")

    assert (run_dir / "plan.json").read_bytes() == plan.read_bytes()
    assert (kept.train.micro_batch, kept.train.recompute) == (2, "layer")
    assert (kept.money.currency, kept.money.price_per_device_hour, kept.money.example) == ("CNY", 36.0, True)


def test_the_summary_holds_what_was_measured_against_what_was_predicted(followed):
    _, _, run_dir, _ = followed
    summary = json.loads((run_dir / "summary.json").read_text())
    steps = sorted(line["tokens_per_s"] for line in read_lines(run_dir / "metrics.jsonl"))
    plan = summary["plan"]

    assert plan["tokens_per_s"]["measured"] == pytest.approx((steps[5] + steps[6]) / 2)  # of twelve steps
    assert plan["tokens_per_s"]["ratio"] == pytest.approx(plan["tokens_per_s"]["measured"] / 2000)
    assert plan["cost"]["measured"] == summary["cost"] == pytest.approx(summary["seconds"] * 36 / 3600)
    assert plan["cost"]["ratio"] == pytest.approx(summary["cost"] / 0.02)


def test_the_plan_is_an_event(followed):
    _, _, run_dir, _ = followed
    (event,) = [event for event in read_lines(run_dir / "events.jsonl") if event["event"] == "plan"]

    assert (event["choice"], event["tokens_per_s"]["predicted"]["p50"]) == ("laptop alone", 2000.0)


def test_predicted_and_measured_are_shown_before_and_after(followed):
    _, _, run_dir, ended = followed

    assert "laptop alone: predicted 2.00 K tokens/s" in " ".join(ended.err.split())
    assert "Against the plan: laptop alone" in ended.out
    assert "2.00 K tokens/s (1.00 K to 4.00 K)" in ended.out
    assert "<h2>Plan and run</h2>" in (run_dir / "report.html").read_text()


def test_a_run_without_a_plan_says_nothing_of_plans(plain):
    assert "plan" not in plain.summary
    assert "predicted" not in plain.out
    assert not (plain.dir / "plan.json").exists()


def test_a_resumed_run_keeps_its_plan_to_the_same_weights(followed, everyflop):
    run_file, _, run_dir, _ = followed
    weights = json.loads((run_dir / "summary.json").read_text())["weights_sha256"]
    (run_dir / "summary.json").unlink()
    newest = list_checkpoints(run_dir / "checkpoints")[-1]
    shutil.rmtree(newest)
    ended = everyflop("train", run_file, "--resume")
    summary = json.loads((run_dir / "summary.json").read_text())

    assert ended.code == 0, ended.err
    assert open_checkpoint(newest).step == 12
    assert summary["weights_sha256"] == weights
    assert summary["plan"]["choice"] == "laptop alone"
    assert summary["currency"] == "CNY"


def test_what_the_kept_plan_decides_cannot_be_set_on_a_resume(followed, everyflop):
    run_file, _, run_dir, _ = followed
    (run_dir / "summary.json").unlink()
    ended = everyflop("train", run_file, "--resume", "train.micro_batch=4")

    assert ended.code == 2
    assert "train.micro_batch cannot be set beside the plan that the run follows" in ended.err


def test_a_resume_under_a_plan_that_changes_the_micro_batch_is_refused(followed, everyflop, write_plan):
    run_file, _, run_dir, _ = followed
    _, other = write_plan(island={"micro_batch": 4, "layout": {"micro_batch": 4, "recompute": "full"}})
    ended = everyflop("train", run_file, "--resume", "--plan", other)

    assert ended.code == 2
    assert "train.micro_batch: was 2, is now 4" in ended.err
    assert json.loads((run_dir / "plan.json").read_text())["islands"][0]["micro_batch"] == 2


@pytest.mark.parametrize(
    ("arguments", "changes", "code", "message"),
    [
        (["train.tokens=512"], {}, 2, "train.tokens: 512 in the run, 3,072 in the plan"),
        (["train.micro_batch=1"], {}, 2, "train.micro_batch cannot be set beside the plan"),
        ([], {"schema": 2}, 2, "schema 2"),
        ([], {"island": {"devices": 2}}, 3, "more than one device is not built yet"),
        (["--replay", "rounds.jsonl"], {}, 2, "leave one of them out"),
        ([], {"islands": {"../x": {}, "b": {}}}, 2, "islands[0].name"),
        (["--island", "a", "--resume"], {}, 2, "--resume: that is for a run as a whole"),
    ],
)
def test_a_plan_that_cannot_be_followed_stops_before_anything_is_written(
    write_plan, everyflop, tmp_path, arguments, changes, code, message
):
    run_file, plan = write_plan(**changes)
    ended = everyflop("train", run_file, *arguments, "--plan", plan)

    assert ended.code == code
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "runs").exists()


def test_a_plan_that_is_not_there_is_named(write_run_file, everyflop, tmp_path):
    ended = everyflop("train", write_run_file(tmp_path), "--plan", tmp_path / "plan.json")

    assert ended.code == 2
    assert "plan.json" in ended.err


def test_a_plan_of_several_islands_trains_them_and_holds_each_against_it(write_plan, everyflop, tmp_path):
    exchange = {"steps_between": 4, "bytes_per_parameter": 2.0, "extra_tokens_share": {"2": 0.1}, "source": "a test"}
    run_file, plan = write_plan(islands={"a": {}, "b": {"price_per_device_hour": 18.0}}, exchange=exchange)
    ended = everyflop("train", run_file, "--plan", plan)
    run_dir = tmp_path / "runs" / "tiny"
    summary = json.loads((run_dir / "summary.json").read_text())
    islands = summary["plan"]["islands"]

    assert ended.code == 0, ended.err
    assert (run_dir / "plan.json").read_bytes() == plan.read_bytes()
    assert islands["b"]["cost"]["measured"] == summary["islands"]["b"]["cost"]
    assert all(island["tokens_per_s"]["ratio"] > 0 for island in islands.values())
    assert "speed of b" in ended.out
    assert "a + b: predicted" in " ".join(ended.err.split())
