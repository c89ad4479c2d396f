"""Runs that stop, and go on."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from everyflop.backend.compiler import why_not
from everyflop.backend.device import detect
from everyflop.base.files import read_lines
from everyflop.checkpoint import list_checkpoints, open_checkpoint
from everyflop.train.display import Display

from .run_dirs import contents, one_line, wait_for_step, weights_of

needs_compiler = pytest.mark.skipif(why_not(detect(processor=True)) is not None, reason="there is no compiler here")

LONG = {"tokens": 256 * 40}
"""Forty steps: a signal after the first few comes long before the end."""


def stop_before_the_end(run_dir: Path, *, after_step: int) -> None:
    """Make a finished run look as if it had been killed after a checkpoint."""
    (run_dir / "summary.json").unlink()
    for checkpoint in list_checkpoints(run_dir / "checkpoints"):
        if open_checkpoint(checkpoint).step > after_step:
            shutil.rmtree(checkpoint)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_resumes_to_the_weights_of_an_uninterrupted_one(
    start_everyflop, everyflop, write_run_file, tmp_path, long_weights, number, code
):
    run_file = write_run_file(tmp_path, train=LONG, checkpoint={"every_steps": 0})
    run_dir = tmp_path / "runs" / "tiny"
    process = start_everyflop("train", run_file)
    wait_for_step(run_dir, 3, process)
    os.kill(process.pid, number)
    _, err = process.communicate()

    assert process.returncode == code, err
    assert "Traceback" not in err
    assert f"Continue with: everyflop train {run_file} --resume" in err
    (saved,) = list_checkpoints(run_dir / "checkpoints")
    assert 3 <= open_checkpoint(saved).step < 40
    ended = everyflop("train", run_file, "--resume")
    assert ended.code == 0, ended.err
    assert f"after step {open_checkpoint(saved, verify=False).step}," in one_line(ended.err)
    assert weights_of(run_dir) == long_weights
    assert [line["step"] for line in read_lines(run_dir / "metrics.jsonl")] == list(range(1, 41))


@pytest.fixture(scope="module")
def long_weights(train_in, tmp_path_factory) -> str:
    return train_in(tmp_path_factory.mktemp("long"), train=LONG).summary["weights_sha256"]


def test_the_way_to_continue_names_the_run_that_new_chose(again, everyflop, monkeypatch):
    run_file, run_dir = again
    monkeypatch.setattr(Display, "step", lambda *_: signal.raise_signal(signal.SIGINT))
    ended = everyflop("train", run_file, "train.tokens=1024", "--new")

    assert ended.code == 130
    assert ended.err.splitlines()[-1] == (
        f"Continue with: everyflop train {run_file} train.tokens=1024 run.name=tiny-2 --resume"
    )
    assert list_checkpoints(run_dir.with_name("tiny-2") / "checkpoints")


def test_a_run_with_routing_noise_resumes_bit_for_bit(train_in, everyflop, tmp_path):
    trained = train_in(tmp_path, router={"noise_warmup_steps": 10})
    weights = weights_of(trained.dir)
    stop_before_the_end(trained.dir, after_step=8)
    ended = everyflop("train", trained.run_file, "--resume")

    assert ended.code == 0, ended.err
    assert weights_of(trained.dir) == weights


@needs_compiler
def test_compiled_runs_repeat_and_resume_bit_for_bit(train_in, everyflop, plain, tmp_path_factory):
    one, other = (train_in(tmp_path_factory.mktemp(name), "train.compile=on") for name in ("one", "other"))
    weights = weights_of(one.dir)
    stop_before_the_end(other.dir, after_step=8)
    ended = everyflop("train", other.run_file, "train.compile=on", "--resume")

    assert ended.code == 0, ended.err
    assert weights_of(other.dir) == weights
    for line, uncompiled in zip(one.metrics, plain.metrics, strict=True):
        assert line["loss"] == pytest.approx(uncompiled["loss"], rel=1e-4)


@needs_compiler
def test_a_resume_that_stops_compiling_is_refused_by_its_key(train_in, everyflop, tmp_path):
    trained = train_in(tmp_path, "train.compile=on")
    stop_before_the_end(trained.dir, after_step=8)
    ended = everyflop("train", trained.run_file, "train.compile=off", "--resume")

    assert ended.code == 2
    assert "train.compile" in ended.err


def test_steps_that_are_done_again_appear_once(again, plain, everyflop):
    run_file, run_dir = again
    stop_before_the_end(run_dir, after_step=8)
    ended = everyflop("train", run_file, "--resume")

    assert ended.code == 0, ended.err
    lines = read_lines(run_dir / "metrics.jsonl")
    assert [(line["step"], line["loss"]) for line in lines] == [(line["step"], line["loss"]) for line in plain.metrics]
    (resumed,) = [event for event in read_lines(run_dir / "events.jsonl") if event["event"] == "resume"]
    assert (resumed["step"], resumed["lost_steps"]) == (8, 4)


def test_steps_that_are_done_again_are_paid_for_twice(again, plain, everyflop):
    run_file, run_dir = again
    stop_before_the_end(run_dir, after_step=8)
    everyflop("train", run_file, "--resume")

    assert read_lines(run_dir / "metrics.jsonl")[8]["seconds"] > plain.metrics[-1]["seconds"]


def test_a_resume_that_changes_the_learning_rate_is_refused_by_its_key(again, everyflop):
    run_file, run_dir = again
    stop_before_the_end(run_dir, after_step=8)
    before = contents(run_dir / "checkpoints")
    ended = everyflop("train", run_file, "--resume", "optim.lr=0.02")

    assert ended.code == 2
    assert "optim.lr: was 0.01, is now 0.02" in ended.err
    assert "--allow-change" in ended.err
    assert contents(run_dir / "checkpoints") == before


def test_an_allowed_change_is_recorded_and_kept(again, plain, everyflop):
    run_file, run_dir = again
    stop_before_the_end(run_dir, after_step=8)
    ended = everyflop("train", run_file, "--resume", "--allow-change", "optim.lr=0.02")

    assert ended.code == 0, ended.err
    (resumed,) = [event for event in read_lines(run_dir / "events.jsonl") if event["event"] == "resume"]
    assert resumed["changes"] == {"optim.lr": [0.01, 0.02]}
    assert weights_of(run_dir) != plain.summary["weights_sha256"]
    assert "lr = 0.02" in (run_dir / "run.toml").read_text()


def test_a_resume_on_other_data_is_refused(again, everyflop, stories):
    run_file, run_dir = again
    stop_before_the_end(run_dir, after_step=8)
    before = (stories / "00.txt").read_text()
    (stories / "00.txt").write_text("another story altogether\n" * 20)
    try:
        ended = everyflop("train", run_file, "--resume")
    finally:
        (stories / "00.txt").write_text(before)

    assert ended.code == 2
    assert "  - data: was " in ended.err


def test_a_resume_compares_with_the_checkpoint_even_when_run_toml_is_gone(again, everyflop):
    run_file, run_dir = again
    stop_before_the_end(run_dir, after_step=8)
    (run_dir / "run.toml").unlink()
    ended = everyflop("train", run_file, "--resume", "optim.lr=0.009")

    assert ended.code == 2
    assert "optim.lr: was " in ended.err


def test_a_resume_with_nothing_but_damaged_checkpoints_stops_and_changes_nothing(again, everyflop):
    run_file, run_dir = again
    for manifest in run_dir.glob("checkpoints/*/manifest.json"):
        manifest.write_text("{}")
    metrics = (run_dir / "metrics.jsonl").read_bytes()
    ended = everyflop("train", run_file, "--resume")

    assert ended.code == 3
    assert "none is whole" in ended.err
    assert (run_dir / "metrics.jsonl").read_bytes() == metrics


def test_a_resume_without_a_checkpoint_starts_fresh_and_says_so(train_in, plain, tmp_path):
    trained = train_in(tmp_path, "--resume")

    assert trained.code == 0, trained.err
    assert "there is no usable checkpoint, so the run starts from the beginning" in one_line(trained.err)
    assert trained.summary["weights_sha256"] == plain.summary["weights_sha256"]


def test_resuming_a_finished_run_trains_no_more(again, plain, everyflop):
    run_file, run_dir = again
    ended = everyflop("train", run_file, "--resume")

    assert ended.code == 0, ended.err
    assert weights_of(run_dir) == plain.summary["weights_sha256"]
    assert read_lines(run_dir / "metrics.jsonl") == plain.metrics


@pytest.mark.parametrize("damage", ["cut", "flipped", "no manifest"])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(again, plain, everyflop, damage):
    run_file, run_dir = again
    (run_dir / "summary.json").unlink()
    newest = run_dir / "checkpoints" / "step-00000012"
    tensors = sorted(newest.glob("*.safetensors"))[0]
    content = bytearray(tensors.read_bytes())
    if damage == "cut":
        tensors.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[-1] ^= 1
        tensors.write_bytes(content)
    else:
        (newest / "manifest.json").unlink()
    ended = everyflop("train", run_file, "--resume")

    assert ended.code == 0, ended.err
    assert "after step 8" in one_line(ended.err)
    (event,) = [event for event in read_lines(run_dir / "events.jsonl") if event["event"] == "damaged_checkpoint"]
    assert event["path"] == str(newest)
    assert weights_of(run_dir) == plain.summary["weights_sha256"]
    assert open_checkpoint(newest).step == 12  # whole again


def test_a_run_that_is_made_longer_is_not_finished_and_what_was_paid_stays_paid(
    start_everyflop, everyflop, write_run_file, tmp_path
):
    run_file = write_run_file(tmp_path, money={"price_per_device_hour": 3600.0})
    run_dir = tmp_path / "runs" / "tiny"
    assert everyflop("train", run_file).code == 0
    paid = json.loads((run_dir / "summary.json").read_text())["cost"]
    longer = ("--resume", "--allow-change", "train.tokens=10M", "money.price_per_device_hour=36")
    process = start_everyflop("train", run_file, *longer)
    wait_for_step(run_dir, 16, process)  # it had twelve
    process.kill()
    process.communicate()

    assert not (run_dir / "summary.json").exists()
    line = read_lines(run_dir / "metrics.jsonl")[-1]
    now = (line["seconds"] - paid) * 36 / 3600
    assert line["cost"] == pytest.approx(paid + now, rel=1e-6)
