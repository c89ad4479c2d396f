import functools
import tomllib

import pytest

from everyflop.backend.rates import memory_bytes_per_s
from everyflop.catalog.load import load_catalog
from everyflop.spec.measured_file import read_measured


@pytest.fixture
def measure(everyflop, tmp_path, monkeypatch):
    """Measure for as short as still outweighs a wait for a busy core, on the processor, into a file of the test."""
    monkeypatch.setattr("everyflop.train.measure.memory_bytes_per_s", functools.partial(memory_bytes_per_s, mib=16))

    def call(*arguments):
        return everyflop(
            "measure", "--device", "cpu", *arguments, "--seconds", "0", "--out", tmp_path / "measured.toml"
        )

    return call


def test_a_run_is_measured_and_written_for_plans(measure, write_run_file, tmp_path):
    ended = measure("--run", write_run_file(tmp_path))
    found = read_measured(tmp_path / "measured.toml", catalog=load_catalog())
    (device,), (speed,) = found.devices, found.measured

    assert ended.code == 0, ended.err
    assert (device.name, speed.device) == ("cpu", "cpu")
    assert (speed.seq_len, speed.batch_tokens, speed.precision, speed.layout.micro_batch) == (32, 256, "fp32", 4)
    assert (speed.model.hidden, speed.model.vocab_size) == (32, 320)


def test_the_screen_shows_matmuls_memory_and_training(measure, write_run_file, tmp_path):
    ended = measure("--run", write_run_file(tmp_path))

    for expected in ("as cpu", "512 x 512 x 512", "attn.qkv", "GB/s", "tokens/s in fp32", "--measured"):
        assert expected in ended.out
    assert "Timing: 3 training steps" in ended.err


def test_without_a_run_the_device_alone_is_measured(measure, tmp_path):
    ended = measure()
    tables = tomllib.loads((tmp_path / "measured.toml").read_text())

    assert ended.code == 0, ended.err
    assert "measured" not in tables
    assert tables["device"][0]["achieved_bf16_tflops"] > 0


def test_a_slice_of_a_published_model_can_be_measured(measure, tmp_path):
    small = ["model.n_layers=1", "model.hidden=64", "model.n_heads=1", "model.n_kv_heads=1", "model.head_dim=16"]
    small += ["model.expert_width=16", "model.n_experts=8", "model.vocab_size=512"]
    ended = measure("--model", "ling-lite", *small, "train.seq_len=64", "train.batch_tokens=128", "train.compile=off")
    (speed,) = read_measured(tmp_path / "measured.toml", catalog=load_catalog()).measured

    assert ended.code == 0, ended.err
    assert (speed.model.n_layers, speed.model.experts_per_token, speed.seq_len) == (1, 6, 64)


def test_measuring_again_replaces_and_measuring_another_run_adds(measure, write_run_file, tmp_path):
    run_file = write_run_file(tmp_path)
    for arguments in (["--run", run_file], ["--run", run_file], ["--run", run_file, "train.micro_batch=2"], []):
        assert measure(*arguments).code == 0
    found = read_measured(tmp_path / "measured.toml", catalog=load_catalog())

    assert [speed.layout.micro_batch for speed in found.measured] == [4, 2]
    assert len(found.devices) == 1


def test_a_file_that_holds_something_else_is_left_alone(measure, tmp_path):
    (tmp_path / "measured.toml").write_text('[[pool]]\nname = "a"\n')
    ended = measure()

    assert ended.code == 2
    assert "pool: is no known key" in ended.err
    assert (tmp_path / "measured.toml").read_text() == '[[pool]]\nname = "a"\n'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "run.toml", "--model", "ling-lite"], "choose one of them"),
        (["model.n_layers=2"], "add --run or --model"),
        (["--run", "missing.toml"], "missing.toml"),
        (["--model", "ling-light"], "did you mean 'ling-lite'?"),
    ],
)
def test_wrong_arguments_are_said_before_anything_is_measured(measure, tmp_path, arguments, message):
    ended = measure(*arguments)

    assert ended.code == 2
    assert message in ended.err
    assert not (tmp_path / "measured.toml").exists()


def test_a_device_of_another_type_than_what_is_here_is_refused(everyflop, tmp_path):
    ended = everyflop("measure", "--device", "ascend-910b2", "--out", tmp_path / "measured.toml")

    assert ended.code == 2
    assert "ascend-910b2 is torch device 'npu', and here is" in ended.err


def test_a_device_of_ones_own_is_measured_under_the_name_that_plans_use(measure, tmp_path):
    ended = measure("--device", "my-chip")
    (device,) = read_measured(tmp_path / "measured.toml", catalog=load_catalog()).devices

    assert ended.code == 0, ended.err
    assert device.name == "my-chip"
    assert device.vendor
    assert "my-chip is in no catalogue" in ended.out


def test_busy_neighbours_make_a_measurement_doubtful(measure, monkeypatch):
    monkeypatch.setattr("everyflop.train.measure.others_share", lambda before, after: 0.48)
    disturbed = measure()
    monkeypatch.setattr("everyflop.train.measure.others_share", lambda before, after: 0.02)

    assert "others used 48 % of the processor meanwhile" in disturbed.out
    assert "doubtful" not in measure().out


def test_a_model_that_does_not_fit_is_an_expected_no(measure, tmp_path):
    ended = measure("--model", "ling-plus")

    assert ended.code == 3
    assert "a slice with the same widths: lower model.n_layers" in ended.err
    assert not (tmp_path / "measured.toml").exists()
