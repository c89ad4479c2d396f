import functools

import pytest
import torch

from everyflop.backend.others import ProcessorUse
from everyflop.backend.rates import memory_bytes_per_s
from everyflop.train import measure as module
from everyflop.train.matmuls import MatmulRate
from everyflop.train.measure import Measured, measure
from everyflop.train.step_speed import StepSpeed


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch):
    """Half a GiB twice is more than a test needs."""
    monkeypatch.setattr(module, "memory_bytes_per_s", functools.partial(memory_bytes_per_s, mib=16))


def test_a_device_alone_has_matmuls_in_every_type_and_memory(device, recorder):
    measured = measure(None, device, seconds=0.0, progress=recorder)

    assert [(rate.what, rate.precision) for rate in measured.squares] == [("square", "bf16"), ("square", "fp32")]
    assert measured.memory_bytes_per_s > 0
    assert (measured.own, measured.step) == ([], None)


def test_with_a_run_its_own_shapes_and_its_step_are_measured_in_its_type(make_run, device, recorder):
    measured = measure(make_run(), device, seconds=0.0, progress=recorder)

    assert {rate.precision for rate in measured.own} == {"fp32"}
    assert measured.own[0].shape == (4 * 32, 32, 64)  # micro-batch x sequence, queries with keys and values
    assert measured.step.run.run.train.micro_batch == 4
    assert measured.step.tokens_per_s > 0


def test_what_is_open_in_a_run_is_settled_as_training_does(make_run, device, recorder):
    run = make_run(train={"micro_batch": None, "precision": "auto"})
    step = measure(run, device, seconds=0.0, progress=recorder).step

    assert (step.run.micro_batch, step.run.precision) == (8, "fp32")


def test_the_runs_threads_are_used(make_run, device, recorder):
    before = torch.get_num_threads()
    try:
        measure(make_run(run={"threads": 2}), device, seconds=0.0, progress=recorder)
        used = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)

    assert used == 2


def test_the_step_is_measured_before_anything_that_needs_more_memory(make_run, device, recorder):
    measure(make_run(), device, seconds=0.0, progress=recorder)

    assert [title for title, *_ in recorder.shown] == [
        "Warming up",
        "Timing",
        "Matmuls in fp32",
        "Matmuls in bf16",
        "Matmuls in fp32",
        "Memory",
    ]
    assert all(done == total for _, total, _, done in recorder.shown)


def test_a_step_is_compared_with_the_best_square_of_its_type(make_settled):
    rates = [("fp32", 1e9), ("fp32", 4e9), ("bf16", 9e9)]
    squares = [MatmulRate("square", (8, 8, 8), precision, rate) for precision, rate in rates]
    step = StepSpeed(make_settled(), step_s=1.0, steps=3, tokens_per_s=1000.0, peak_mem_gib=1.0)
    measured = Measured(squares, [], 1.0, step)

    assert measured.best_flops_per_s("fp32") == 4e9
    # FLOPs of a token as in test_first_screen.py.
    assert measured.matmul_share(step) == pytest.approx(1000 * (6 * 27_264 + 3 * 2 * 2 * 2 * 16 * 32) / 4e9)


def test_what_others_use_of_the_processor_meanwhile_is_known(device, recorder, monkeypatch):
    moments = iter([ProcessorUse(0.0, 10.0, 5.0), ProcessorUse(10.0, 10.0 + 12.0, 5.0 + 7.0)])
    monkeypatch.setattr(module, "processor_use", lambda: next(moments))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})

    assert measure(None, device, seconds=0.0, progress=recorder).others_share == 0.25  # 5 s of 2 processors for 10 s
