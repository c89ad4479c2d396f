"""`everyflop train` from a run file to its summary."""

import io
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

import everyflop as ef
from everyflop.backend.compiler import why_not
from everyflop.backend.device import detect
from everyflop.base.files import locked, read_lines
from everyflop.checkpoint import list_checkpoints, open_checkpoint
from everyflop.train.display import Display

needs_compiler = pytest.mark.skipif(why_not(detect(processor=True)) is not None, reason="there is no compiler here")

LONG = {"tokens": 256 * 40}
"""Forty steps: a signal after the first few comes long before the end."""


def one_line(text: str) -> str:
    """Return text without the line breaks that the width of a screen puts in."""
    return " ".join(text.split())


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def wait_for_step(run_dir: Path, step: int, process) -> None:
    while not any(line["step"] >= step for line in read_lines(run_dir / "metrics.jsonl")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


@pytest.fixture
def again(plain, tmp_path):
    """A copy of the finished plain run that a test may change, with a run file that leads to it."""
    shutil.copytree(plain.dir, tmp_path / "runs" / "tiny")
    text = plain.run_file.read_text().replace(str(plain.run_file.parent), str(tmp_path))
    (tmp_path / "run.toml").write_text(text)
    return tmp_path / "run.toml", tmp_path / "runs" / "tiny"


def stop_before_the_end(run_dir: Path, *, after_step: int) -> None:
    """Make a finished run look as if it had been killed after a checkpoint."""
    (run_dir / "summary.json").unlink()
    for checkpoint in list_checkpoints(run_dir / "checkpoints"):
        if open_checkpoint(checkpoint).step > after_step:
            shutil.rmtree(checkpoint)


def weights_of(run_dir: Path) -> str:
    return json.loads((run_dir / "summary.json").read_text())["weights_sha256"]


# What a run leaves.


def test_the_run_directory_holds_every_file_of_the_contract(plain):
    files = ("run.toml", "metrics.jsonl", "events.jsonl", "tokenizer.json", "summary.json", "loss.png", "report.html")

    assert [name for name in files if not (plain.dir / name).is_file()] == []
    assert list((plain.dir / "tensorboard").iterdir())
    newest = plain.dir / "checkpoints" / "step-00000012"
    assert (newest / "manifest.json").is_file()
    assert list(newest.glob("*.safetensors"))


def test_no_temporary_file_is_left(plain):
    assert list(plain.dir.rglob(".tmp-*")) == []


def test_metrics_have_each_step_once_with_the_keys_of_the_contract(plain):
    keys = {"schema", "step", "tokens", "loss", "grad_norm", "lr", "tokens_per_s", "step_s", "mfu", "cost", "island"}

    assert [line["step"] for line in plain.metrics] == list(range(1, 13))
    assert all(keys <= line.keys() for line in plain.metrics)


def test_the_cost_of_a_step_is_the_time_so_far_at_the_price(plain):
    assert [line["cost"] for line in plain.metrics] == pytest.approx([line["seconds"] / 500 for line in plain.metrics])


def test_the_summary_has_the_keys_of_the_contract(plain):
    summary = plain.summary

    assert {"loss", "bits_per_byte"} <= summary["validation"]["held_out"].keys()
    assert (summary["schema"], summary["tokens"], summary["steps"]) == (1, 3072, 12)
    assert (summary["currency"], summary["example_price"]) == ("CNY", True)
    assert summary["cost"] == pytest.approx(summary["seconds"] / 500)
    assert len(summary["weights_sha256"]) == 64


def test_the_model_learns(plain):
    losses = [line["loss"] for line in plain.metrics]

    assert losses[0] == pytest.approx(5.77, abs=0.1)  # ln 320: it knows nothing
    assert losses[-1] < 4.8
    assert plain.summary["validation"]["held_out"]["loss"] < 4.8


def test_events_tell_the_start_the_saves_and_the_validations(plain):
    (start,) = plain.events("start")

    assert (start["step"], start["changes"]) == (0, {})
    assert {"torch", "device", "instruction_set", "kernels"} <= start["environment"].keys()
    assert {event["step"] for event in plain.events("save")} == {4, 8, 12}
    assert [event["step"] for event in plain.events("validation")] == [5, 10, 12]


def test_only_the_newest_checkpoints_are_kept(plain):
    assert [path.name for path in list_checkpoints(plain.dir / "checkpoints")] == ["step-00000008", "step-00000012"]


def test_the_first_screen_comes_before_anything_else(plain):
    labels = [line.split(" ")[0] for line in plain.err.splitlines()]

    assert labels[0] == "run"
    for label in ("model", "device", "precision", "training", "data", "time", "cost", "writes"):
        assert labels.index(label) < labels.index("step")


def test_the_end_shows_results_yardsticks_a_sample_and_what_to_try(plain):
    for expected in ("held_out", "gzip", "xz", "byte_5gram", "A sample", "loss.png", "at the example price"):
        assert expected in plain.out
    for command in ("everyflop generate", "everyflop checkpoint list", "everyflop export"):
        assert f"{command} {plain.dir}" in plain.out


def test_the_kept_run_file_trains_the_same_weights_again(plain, everyflop, tmp_path):
    ended = everyflop("train", plain.dir / "run.toml", f"run.out_dir={tmp_path}")

    assert ended.code == 0, ended.err
    assert weights_of(tmp_path / "tiny") == plain.summary["weights_sha256"]


# A run that exists.


def test_a_second_run_of_the_same_name_is_refused_and_nothing_changes(plain, everyflop):
    before = contents(plain.dir)
    ended = everyflop("train", plain.run_file)

    assert ended.code == 2
    assert "holds a finished run, which is never overwritten" in ended.err
    assert "Traceback" not in ended.err
    assert contents(plain.dir) == before


def test_new_takes_the_next_free_name(again, everyflop):
    run_file, run_dir = again
    before = contents(run_dir)
    ended = everyflop("train", run_file, "--new")

    assert ended.code == 0, ended.err
    assert weights_of(run_dir.with_name("tiny-2")) == weights_of(run_dir)
    assert contents(run_dir) == before


def test_new_and_resume_contradict_each_other(plain, everyflop):
    ended = everyflop("train", plain.run_file, "--new", "--resume")

    assert ended.code == 2
    assert "choose one of them" in ended.err


def test_a_run_in_use_is_refused(again, everyflop):
    run_file, run_dir = again
    with locked(run_dir / ".lock", busy=""):
        ended = everyflop("train", run_file, "--resume")

    assert ended.code == 2
    assert "in use by another process" in ended.err


# Determinism.


def test_two_processes_with_two_threads_train_the_same_weights(start_everyflop, write_run_file, tmp_path):
    run_file = write_run_file(tmp_path, run={"threads": 2}, train={"tokens": 256 * 6})
    names = ("first", "second")
    for process in [start_everyflop("train", run_file, f"run.name={name}") for name in names]:
        _, err = process.communicate()
        assert process.returncode == 0, err
    first, second = (tmp_path / "runs" / name for name in names)

    assert weights_of(first) == weights_of(second)
    assert [line["loss"] for line in read_lines(first / "metrics.jsonl")] == [
        line["loss"] for line in read_lines(second / "metrics.jsonl")
    ]


def test_python_trains_what_the_command_trains(plain, write_run_file, tmp_path, monkeypatch):
    monkeypatch.setattr("everyflop.train.first_screen.MEASURE_S", 0.0)
    summary = ef.train(ef.read_run(write_run_file(tmp_path)), stream=io.StringIO())

    assert summary["weights_sha256"] == plain.summary["weights_sha256"]
    assert summary == json.loads((tmp_path / "runs" / "tiny" / "summary.json").read_text())


def test_another_seed_trains_other_weights(plain, train_in, tmp_path):
    assert train_in(tmp_path, "run.seed=1").summary["weights_sha256"] != plain.summary["weights_sha256"]


# Stop and resume.


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


# What a run file can ask for.


def test_bad_run_files_are_refused_with_all_problems_and_no_traceback(everyflop, write_run_file, tmp_path):
    run_file = write_run_file(
        tmp_path,
        train={"micro_batch": 3, "tokens": "many"},
        money={"price_per_device_hour": -1.0},
        optim={"learning_rate": 0.1},
        data={"sources": str(tmp_path / "missing")},
    )
    ended = everyflop("train", run_file, "model.n_heads=3", "model.n_kv_heads=2")

    assert ended.code == 2
    assert "Traceback" not in ended.err
    for key in (
        "train.tokens",
        "train.batch_tokens",
        "price_per_device_hour",
        "optim.learning_rate",
        "missing",
        "n_heads",
    ):
        assert key in ended.err, key
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "arguments",
    [["--no-such-option"], ["{run_file}", "optim.lr"], ["{run_file}", "optim.lr=fast"], ["missing.toml"], []],
)
def test_wrong_arguments_exit_with_2_and_no_traceback(everyflop, write_run_file, tmp_path, arguments):
    run_file = write_run_file(tmp_path)
    ended = everyflop("train", *(argument.format(run_file=run_file) for argument in arguments))

    assert ended.code == 2
    assert ended.err
    assert "Traceback" not in ended.err


def test_overrides_win_over_the_file(train_in, tmp_path):
    trained = train_in(tmp_path, "train.tokens=512", "checkpoint.keep=1")

    assert [line["step"] for line in trained.metrics] == [1, 2]


def test_weights_can_start_from_a_checkpoint_and_train_on(plain, train_in, tmp_path):
    model = {"init_from": str(plain.dir / "checkpoints")}
    started = train_in(tmp_path, model=model, train={"tokens": 512}, run={"seed": 3})

    assert started.code == 0, started.err
    assert started.metrics[0]["loss"] < 4.8 < plain.metrics[0]["loss"]


def test_a_checkpoint_alone_gives_the_model_too(plain, everyflop, write_run_file, tmp_path):
    run_file = write_run_file(tmp_path, train={"tokens": 512})
    text = run_file.read_text()
    start, end = text.index("[model]"), text.index("[data]")
    run_file.write_text(f'{text[:start]}[model]\ninit_from = "{plain.dir}"\n\n{text[end:]}')
    ended = everyflop("train", run_file)

    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "runs" / "tiny" / "summary.json").read_text())["parameters"] == 40_800


def test_validation_sets_carry_the_names_that_the_user_gave(train_in, tmp_path):
    for name in ("easy", "hard"):
        (tmp_path / f"{name}.txt").write_text(f"a {name} text to validate on, long enough for a few windows " * 5)
    sets = [{"name": name, "sources": str(tmp_path / f"{name}.txt")} for name in ("easy", "hard")]
    trained = train_in(tmp_path, data={"validation": sets, "held_out_share": None}, train={"validate_every_steps": 6})

    assert trained.code == 0, trained.err
    assert list(trained.summary["validation"]) == ["easy", "hard"]
    assert {(event["step"], event["set"]) for event in trained.events("validation")} == {
        (step, name) for step in (6, 12) for name in ("easy", "hard")
    }


def test_bf16_computes_in_bf16_and_learns_like_fp32(train_in, plain, tmp_path):
    trained = train_in(tmp_path, "train.precision=bf16")

    assert trained.code == 0, trained.err
    assert trained.summary["precision"] == "bf16"
    losses = [line["loss"] for line in plain.metrics]
    assert [line["loss"] for line in trained.metrics] == pytest.approx(losses, rel=0.02)  # bf16 keeps 8 bits
    assert trained.summary["weights_sha256"] != plain.summary["weights_sha256"]
    checkpoint = open_checkpoint(trained.dir / "checkpoints" / "step-00000012")
    assert {info.dtype for name, info in checkpoint.tensors.items() if name.startswith("model.")} == {"float32"}


def test_recomputing_layers_gives_the_same_weights(train_in, plain, tmp_path):
    trained = train_in(tmp_path, "train.recompute=layer")

    assert trained.summary["weights_sha256"] == plain.summary["weights_sha256"]


def test_smaller_micro_batches_change_rounding_only(train_in, plain, tmp_path):
    trained = train_in(tmp_path, "train.micro_batch=1")
    losses = [line["loss"] for line in trained.metrics]

    assert losses == pytest.approx([line["loss"] for line in plain.metrics], rel=1e-3)
    assert losses[0] == pytest.approx(plain.metrics[0]["loss"], rel=1e-6)


def test_all_of_the_routers_losses_and_mtp_can_be_trained_together(train_in, tmp_path):
    trained = train_in(
        tmp_path,
        model={"n_mtp_layers": 1, "mtp_loss_weight": 0.3},
        router={"balance_loss": 0.01, "z_loss": 1e-3, "noise_warmup_steps": 4},
    )

    assert trained.code == 0, trained.err
    assert {"balance_loss", "router_z", "max_violation", "mtp_loss"} <= trained.metrics[0].keys()
    assert trained.metrics[-1]["loss"] < 4.8


def test_merged_checkpoints_of_a_constant_rate_are_a_model(train_in, everyflop, tmp_path):
    trained = train_in(tmp_path, optim={"schedule": "constant"}, checkpoint={"every_steps": 3, "keep": 4})
    merged = everyflop("checkpoint", "merge", trained.dir, tmp_path / "merged", "--last", "3")
    generated = everyflop("generate", tmp_path / "merged", "--prompt", "the quick", "--max-tokens", "4")
    listed = everyflop("checkpoint", "list", tmp_path / "merged")

    assert merged.code == 0, merged.err
    assert [line.split("/")[-1] for line in merged.out.splitlines()[:3]] == [f"step-{n:08d}" for n in (6, 9, 12)]
    assert generated.code == 0, generated.err
    assert listed.code == 0, listed.err
    assert "3.07 K" in listed.out


def test_the_list_of_checkpoints_tells_steps_and_tokens(plain, everyflop):
    ended = everyflop("checkpoint", "list", plain.dir)

    assert ended.code == 0, ended.err
    for expected in ("step-00000008", "2.05 K", "step-00000012", "3.07 K"):
        assert expected in ended.out
