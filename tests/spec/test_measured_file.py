import tomllib
from pathlib import Path

import pytest

from everyflop.base.errors import InvalidFile, UsageError
from everyflop.catalog.load import load_catalog
from everyflop.spec.device import DeviceSpec
from everyflop.spec.fleet import Fleet
from everyflop.spec.layout import Layout
from everyflop.spec.measured import MeasuredSpeed
from everyflop.spec.measured_file import (
    Measurements,
    earlier_measurements,
    merge,
    newest,
    read_measured,
    with_measurements,
    write_measured,
)
from everyflop.spec.presets import preset

CATALOG = load_catalog()
HOST = DeviceSpec(name="cpu", achieved_bf16_tflops=0.9, mem_gb=64.0, source="a test")


def speed(**changes) -> MeasuredSpeed:
    fields = {
        "device": "cpu",
        "date": "2026-11-25",
        "source": "a test",
        "model": preset("ling-lite"),
        "seq_len": 1024,
        "batch_tokens": 4096,
        "tokens_per_s_per_device": 100.0,
    }
    return MeasuredSpeed(**{**fields, **changes})


def measurements(*speeds: MeasuredSpeed, devices: tuple[DeviceSpec, ...] = (HOST,)) -> Measurements:
    return Measurements(device=devices, measured=speeds)


def read(text: str, tmp_path: Path) -> Measurements:
    (tmp_path / "measured.toml").write_text(text)
    return read_measured(tmp_path / "measured.toml", catalog=CATALOG)


def test_what_is_written_is_read_again(tmp_path):
    slice_of_it = preset("ling-lite").model_copy(update={"n_layers": 2})
    written = measurements(speed(), speed(model=slice_of_it, peak_mem_gib=3.5, precision="fp32"))
    write_measured(tmp_path / "measured.toml", written)

    assert read_measured(tmp_path / "measured.toml", catalog=CATALOG) == written


def test_only_what_was_measured_of_a_device_is_written(tmp_path):
    write_measured(tmp_path / "measured.toml", measurements())
    tables = tomllib.loads((tmp_path / "measured.toml").read_text())

    assert tables == {
        "schema": 1,
        "device": [{"name": "cpu", "achieved_bf16_tflops": 0.9, "mem_gb": 64.0, "source": "a test"}],
    }


def test_a_published_model_is_written_by_its_name(tmp_path):
    write_measured(tmp_path / "measured.toml", measurements(speed()))
    (entry,) = tomllib.loads((tmp_path / "measured.toml").read_text())["measured"]

    assert entry["model"] == "ling-lite"


def test_the_file_says_who_writes_it_and_who_reads_it(tmp_path):
    write_measured(tmp_path / "measured.toml", measurements())
    text = (tmp_path / "measured.toml").read_text()

    assert text.startswith("# Written by `everyflop measure`")
    assert "--measured" in text


def test_measuring_the_same_again_replaces_it():
    disturbed = speed(tokens_per_s_per_device=1.0, peak_mem_gib=1.0, date="2025-01", source="then", others_share=0.5)
    earlier = measurements(disturbed)
    again = measurements(speed(), devices=(HOST.model_copy(update={"mem_gb": 32.0}),))

    assert merge(earlier, again) == again


@pytest.mark.parametrize(
    "other",
    [
        {"device": "h100-sxm"},
        {"model": preset("ling-plus")},
        {"seq_len": 2048},
        {"batch_tokens": 8192},
        {"precision": "fp32"},
        {"routing": "balanced"},
        {"layout": Layout(micro_batch=2)},
        {"layout": Layout(recompute="full")},
    ],
)
def test_what_differs_in_anything_but_the_result_is_kept(other):
    assert merge(measurements(speed(**other)), measurements(speed())).measured == (speed(**other), speed())


def test_other_devices_are_kept():
    other = DeviceSpec(name="h100-sxm", achieved_bf16_tflops=700.0)

    assert merge(measurements(devices=(other,)), measurements()).devices == (other, HOST)


def test_a_file_that_is_not_there_yet_holds_nothing(tmp_path):
    assert earlier_measurements(tmp_path / "measured.toml", catalog=CATALOG) == Measurements()


def test_a_file_that_is_there_is_read_before_it_is_written_again(tmp_path):
    write_measured(tmp_path / "measured.toml", measurements(speed()))

    assert earlier_measurements(tmp_path / "measured.toml", catalog=CATALOG).measured == (speed(),)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match="missing does not exist"):
        earlier_measurements(tmp_path / "missing" / "measured.toml", catalog=CATALOG)


def test_an_empty_file_may_be_written_again(tmp_path):
    (tmp_path / "measured.toml").touch()

    assert earlier_measurements(tmp_path / "measured.toml", catalog=CATALOG) == Measurements()


@pytest.mark.parametrize("text", ["", "schema = 1\n"])
def test_a_file_without_a_measurement_is_refused(text, tmp_path):
    with pytest.raises(InvalidFile, match="measured: is missing, and so is device"):
        read(text, tmp_path)


def test_a_missing_file_is_named_with_what_writes_one(tmp_path):
    with pytest.raises(UsageError, match=r"measured\.toml.*`everyflop measure` writes one"):
        read_measured(tmp_path / "measured.toml", catalog=CATALOG)


def test_all_problems_are_named_with_their_lines(tmp_path):
    text = """
schema = 2

[[pool]]
name = "a"

[[device]]
name = "cpu"
mem_gb = 64000

[[measured]]
device = "h100-sxn"
date = "yesterday"
source = "a test"
model = "ling-light"
seq_len = 1024
batch_tokens = 4096
tokens_per_s_per_device = -1
"""
    with pytest.raises(InvalidFile) as refused:
        read(text, tmp_path)
    problems = {problem.key: problem for problem in refused.value.problems}

    assert {key: problem.line for key, problem in problems.items()} == {
        "schema": 2,
        "pool": 4,
        "device[0].mem_gb": 9,
        "measured[0].device": 12,
        "measured[0].date": 13,
        "measured[0].model": 15,
        "measured[0].tokens_per_s_per_device": 18,
    }
    assert "h100-sxm" in problems["measured[0].device"].found
    assert "looks like MB" in problems["device[0].mem_gb"].hint


def test_measurements_of_a_device_that_only_the_file_knows_are_fine(tmp_path):
    device = '[[device]]\nname = "own"\nvendor = "me"\nachieved_bf16_tflops = 3.0\n'
    measured = (
        '[[measured]]\ndevice = "own"\ndate = 2026-11-25\nsource = "me"\nmodel = "ling-lite"\n'
        "seq_len = 1024\nbatch_tokens = 1024\ntokens_per_s_per_device = 5\n"
    )

    assert read(device + measured, tmp_path).measured[0].device == "own"


POOL = {"name": "a", "device": "cpu", "count": 1, "price_per_device_hour": 1.0, "currency": "USD"}


def test_a_fleet_takes_measurements_as_if_they_stood_in_its_file():
    own = speed(seq_len=2048)
    fleet = with_measurements(Fleet(pool=[POOL], measured=[own]), [measurements(speed())])

    assert fleet.devices == (HOST,)
    assert fleet.measured == (own, speed())


def test_where_fleet_and_measurements_both_say_something_the_fleet_does():
    own = DeviceSpec(name="cpu", mem_gb=16.0, mem_bw_gb_per_s=20.0)
    (device,) = with_measurements(Fleet(pool=[POOL], device=[own]), [measurements()]).devices

    assert (device.mem_gb, device.mem_bw_gb_per_s, device.achieved_bf16_tflops) == (16.0, 20.0, 0.9)
    assert "vendor" not in device.model_fields_set  # what neither said would hide what the catalogue says


def test_of_several_files_the_last_counts_for_a_device():
    later = measurements(devices=(DeviceSpec(name="cpu", mem_gb=32.0),))
    (device,) = with_measurements(Fleet(pool=[POOL]), [measurements(), later]).devices

    assert device.mem_gb == 32.0


def test_what_was_measured_twice_counts_once_as_the_fleet_says_or_else_the_last_file():
    older, newer = speed(tokens_per_s_per_device=100.0), speed(tokens_per_s_per_device=150.0, date="2026-11-26")
    other = speed(seq_len=2048)
    files = [measurements(older, other), measurements(newer)]

    assert with_measurements(Fleet(pool=[POOL]), files).measured == (newer, other)
    assert with_measurements(Fleet(pool=[POOL], measured=[older]), files).measured == (older, other)
    assert newest([older, other, newer]) == (newer, other)
