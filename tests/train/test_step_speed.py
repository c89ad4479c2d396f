from types import SimpleNamespace

import pytest
import torch

from everyflop.base.errors import ExpectedNo
from everyflop.train import session, timed_step
from everyflop.train.step import LocalStep
from everyflop.train.step_speed import measure_steps


@pytest.fixture
def time_steps(monkeypatch):
    """Let steps take what is said, the first one included; return the batches and rates that they got."""

    def let(*took_s: float) -> list[tuple]:
        done: list[tuple] = []
        clock = iter([0.0])
        readings: list[float] = []
        for start, took in zip([0.0, *took_s], took_s, strict=False):
            readings += [start, start + took]
        clock = iter(readings)
        monkeypatch.setattr(timed_step, "time", SimpleNamespace(perf_counter=lambda: next(clock)))

        def attempt(session, batch, *, lr):
            done.append((batch.inputs_BT.shape, lr))
            return SimpleNamespace(loss=1.0)

        monkeypatch.setattr(timed_step, "attempt_step", attempt)
        return done

    return let


def test_the_speed_is_that_of_the_median_step_after_the_first(make_settled, device, recorder, time_steps):
    time_steps(9.0, 1.0, 4.0, 2.0)
    speed = measure_steps(make_settled(), device, seconds=0.0, progress=recorder)

    assert (speed.step_s, speed.steps, speed.tokens_per_s) == (2.0, 3, 128.0)  # batches of 256 tokens


def test_a_step_has_the_runs_batch_and_rate(make_settled, device, recorder, time_steps):
    done = time_steps(1.0, 1.0, 1.0, 1.0)
    measure_steps(make_settled(), device, seconds=0.0, progress=recorder)

    assert done == [((8, 32), 0.01)] * 4


def test_the_time_decides_how_many_steps_are_timed(make_settled, device, recorder, time_steps):
    done = time_steps(*[0.5] * 11)
    measure_steps(make_settled(), device, seconds=5.0, progress=recorder)

    assert len(done) == 1 + 10
    assert recorder.shown == [["Warming up", 1, "training step", 1], ["Timing", 10, "training steps", 10]]


def test_steps_are_timed_a_hundred_times_at_most(make_settled, device, recorder, time_steps):
    done = time_steps(*[0.5] * 101)
    measure_steps(make_settled(), device, seconds=1000.0, progress=recorder)

    assert len(done) == 1 + 100


def test_real_steps_train_the_model(make_settled, device, recorder, monkeypatch):
    losses: list[float] = []

    def watched(session, batch, *, lr):
        attempt = real(session, batch, lr=lr)
        losses.append(attempt.loss)
        return attempt

    real = timed_step.attempt_step
    monkeypatch.setattr(timed_step, "attempt_step", watched)
    speed = measure_steps(make_settled(), device, seconds=0.0, progress=recorder)

    assert losses[-1] < losses[0]  # the same tokens each time
    assert speed.tokens_per_s == pytest.approx(256 / speed.step_s)
    assert speed.peak_mem_gib > 0


def test_a_model_that_cannot_fit_is_an_expected_no_before_anything_is_built(
    make_settled, device, recorder, monkeypatch
):
    # 40,800 parameters with 16 bytes each: see test_first_screen.py for their number.
    monkeypatch.setattr(session, "total_bytes", lambda _: 16 * 40_800 - 1)

    with pytest.raises(ExpectedNo, match=r"lower model\.n_layers = 2 or model\.n_experts = 4"):
        measure_steps(make_settled(), device, seconds=0.0, progress=recorder)
    assert recorder.shown == []


def test_a_step_that_runs_out_of_memory_is_an_expected_no(make_settled, device, recorder, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("Tried to allocate 20 GiB.\nA long explanation")

    monkeypatch.setattr(LocalStep, "forward_backward", full)

    with pytest.raises(ExpectedNo, match=r"Tried to allocate 20 GiB\. Lower train\.micro_batch = 4"):
        measure_steps(make_settled(), device, seconds=0.0, progress=recorder)
