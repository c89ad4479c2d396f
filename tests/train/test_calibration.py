import datetime
from dataclasses import replace

import pytest

from everyflop.backend.device import Device
from everyflop.base.errors import UsageError
from everyflop.spec.device import DeviceSpec
from everyflop.train import calibration as module
from everyflop.train.calibration import calibration, uncatalogued
from everyflop.train.matmuls import MatmulRate
from everyflop.train.measure import Measured
from everyflop.train.step_speed import StepSpeed

HOST = DeviceSpec(name="cpu", vendor="any", torch_device="cpu", source="measure it")
PUBLISHED = DeviceSpec(
    name="fast", vendor="Maker", bf16_tflops=100.0, mem_gb=80.0, mem_bw_gb_per_s=2000.0, torch_device="cpu", source="x"
)


@pytest.fixture(autouse=True)
def _machine(monkeypatch):
    monkeypatch.setattr(module, "total_bytes", lambda _: 64 * 2**30)


@pytest.fixture
def measured() -> Measured:
    rates = [("bf16", 0.5e12), ("bf16", 0.87654321e12), ("fp32", 0.2e12)]
    squares = [
        MatmulRate("square", (size, size, size), precision, rate) for size, (precision, rate) in enumerate(rates)
    ]
    return Measured(squares, [], memory_bytes_per_s=43.21987e9, step=None)


@pytest.fixture
def fast_device() -> Device:
    return Device("cpu", "a processor", fast_bf16=True)


def written(entry: DeviceSpec) -> dict:
    return entry.model_dump(exclude_unset=True)


def test_a_device_without_published_figures_gets_all_that_was_measured(measured, fast_device):
    (entry,) = calibration(measured, fast_device, known=HOST).devices
    fields = written(entry)

    assert fields.pop("achieved_source").startswith("bf16 matmul, everyflop measure, ")
    assert fields.pop("source").startswith("everyflop measure, ")
    assert fields == {"name": "cpu", "achieved_bf16_tflops": 0.8765, "mem_gb": 64.0, "mem_bw_gb_per_s": 43.22}


def test_published_figures_are_left_alone(measured, fast_device):
    (entry,) = calibration(measured, fast_device, known=PUBLISHED).devices

    assert set(written(entry)) == {"name", "achieved_bf16_tflops", "achieved_source"}


def test_a_device_without_units_for_bf16_counts_in_fp32_and_says_so(measured, device):
    (entry,) = calibration(measured, device, known=HOST).devices

    assert entry.achieved_bf16_tflops == 0.2
    assert entry.achieved_source.startswith("fp32 matmul")


def test_a_device_that_no_catalogue_has_is_named_by_what_torch_calls_it(measured):
    unheard_of = Device("cpu", "Maker(R) X-1 96GB", fast_bf16=True)
    (entry,) = calibration(measured, unheard_of, known=uncatalogued(unheard_of)).devices

    assert (entry.name, entry.title, entry.vendor) == ("maker-r-x-1-96gb", "Maker(R) X-1 96GB", "Maker(R)")
    assert (entry.torch_device, entry.mem_gb) == ("cpu", 64.0)


def test_a_device_that_no_catalogue_has_can_be_given_the_name_that_plans_use(fast_device):
    assert uncatalogued(fast_device, name="my-chip").name == "my-chip"


@pytest.mark.parametrize("name", ["My Chip", "", "-chip"])
def test_a_name_that_no_file_takes_is_refused(fast_device, name):
    with pytest.raises(UsageError, match="small letters"):
        uncatalogued(fast_device, name=name)


def test_the_source_names_day_versions_and_device(measured, fast_device):
    (entry,) = calibration(measured, fast_device, known=HOST).devices

    assert datetime.date.today().isoformat() in entry.source
    assert "torch 2." in entry.source
    assert "a processor" in entry.source
    assert "threads" in entry.source


@pytest.mark.parametrize(("share", "said"), [(None, False), (0.0, False), (0.09, False), (0.1, True), (0.48, True)])
def test_a_measurement_beside_busy_neighbours_says_so(measured, fast_device, share, said):
    (entry,) = calibration(replace(measured, others_share=share), fast_device, known=HOST).devices

    assert ("while others used" in entry.source) == said


@pytest.mark.parametrize(("share", "written"), [(None, None), (0.674, 0.67)])
def test_a_training_speed_says_how_busy_the_neighbours_were(measured, fast_device, make_settled, share, written):
    step = StepSpeed(make_settled(), step_s=0.2, steps=5, tokens_per_s=1280.0, peak_mem_gib=0.5)
    (speed,) = calibration(replace(measured, step=step, others_share=share), fast_device, known=HOST).measured

    assert speed.others_share == written


def test_without_a_run_there_is_no_training_speed(measured, fast_device):
    assert calibration(measured, fast_device, known=HOST).measured == ()


def test_a_training_speed_says_exactly_what_was_trained(measured, fast_device, make_settled):
    settled = make_settled(train={"recompute": "layer", "micro_batch": 2})
    step = StepSpeed(settled, step_s=0.2, steps=5, tokens_per_s=1280.123, peak_mem_gib=0.51239)
    (speed,) = calibration(Measured(measured.squares, [], 1.0, step), fast_device, known=HOST).measured

    assert (speed.device, speed.model, speed.seq_len, speed.batch_tokens) == ("cpu", settled.model, 32, 256)
    assert (speed.precision, speed.routing) == ("fp32", "real")
    assert (speed.layout.devices, speed.layout.micro_batch, speed.layout.recompute) == (1, 2, "full")
    assert speed.layout.sharding == "none"
    assert (speed.tokens_per_s_per_device, speed.peak_mem_gib) == (1280.0, 0.5124)
    assert speed.date == datetime.date.today().isoformat()
