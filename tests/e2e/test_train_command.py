"""`everyflop train` from a run file to its summary."""

import io
import json

import pytest

import everyflop as ef
from everyflop.base.files import locked, read_lines
from everyflop.checkpoint import list_checkpoints

from .run_dirs import contents, weights_of

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


# What cannot be trained.


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
