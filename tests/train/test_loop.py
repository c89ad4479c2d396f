import io
import os
import signal

import pytest
import torch

from everyflop.base.errors import ExpectedNo, Interrupted
from everyflop.base.files import read_lines
from everyflop.checkpoint import list_checkpoints
from everyflop.data.prepare import prepare
from everyflop.train.display import Display
from everyflop.train.loop import Loop
from everyflop.train.meter import Meter
from everyflop.train.session import build_run_model, build_session
from everyflop.train.telemetry import Telemetry


@pytest.fixture
def make_loop(make_settled, device, run_dir):
    def make(**changes) -> Loop:
        settled = make_settled(**changes)
        prepared = prepare(settled.run)
        return Loop(
            session=build_session(settled, build_run_model(settled, device), device),
            stream=prepared.train(settled.run.run.seed),
            prepared=prepared,
            run_dir=run_dir,
            telemetry=Telemetry(run_dir),
            meter=Meter(settled.run.money, flops_per_token=1.0, peak_flops_per_s=1.0),
            display=Display(settled.run.train.tokens, 0, "USD", stream=io.StringIO()),
        )

    return make


def events(run_dir, kind: str) -> list[dict]:
    return [event for event in read_lines(run_dir.events) if event["event"] == kind]


def spoil(loop: Loop, monkeypatch, *steps: int) -> None:
    """Give the loss of these steps (counted from 0) no number."""
    forward_backward = loop.session.step.forward_backward

    def spoiled(batches, **how):
        sums = forward_backward(batches, **how)
        if how["step"] in steps:
            sums.ce.fill_(float("nan"))
        return sums

    monkeypatch.setattr(loop.session.step, "forward_backward", spoiled)


def test_a_run_uses_up_its_tokens_step_by_step(make_loop, run_dir):
    loop = make_loop()
    loop.run()

    lines = read_lines(run_dir.metrics)
    assert [(line["step"], line["tokens"]) for line in lines] == [(n, 256 * n) for n in range(1, 13)]
    assert (loop.session.progress.samples, loop.session.progress.tokens) == (96, 3072)


def test_tokens_that_fill_no_batch_are_left_over(make_loop, run_dir):
    make_loop(train={"tokens": 3 * 256 + 255}).run()

    assert len(read_lines(run_dir.metrics)) == 3


def test_batches_grow_as_the_warm_up_says(make_loop, run_dir):
    loop = make_loop(train={"tokens": 1024, "batch_warmup_from": 128, "batch_warmup_tokens": 256})
    loop.run()

    # 128 + 128 x done / 256 in whole micro-batches of 128: two of them until 256 tokens are done.
    assert [line["tokens"] for line in read_lines(run_dir.metrics)] == [128, 256, 512, 768, 1024]
    assert loop.session.progress.samples == 32


def test_the_learning_rate_of_a_step_is_the_schedules(make_loop, run_dir):
    loop = make_loop(train={"tokens": 1024}, optim={"schedule": "linear", "warmup_share": 0.0, "lr": 0.08})
    loop.run()

    assert [line["lr"] for line in read_lines(run_dir.metrics)] == pytest.approx([0.08, 0.06, 0.04, 0.02])
    assert [group["lr"] for group in loop.session.optimizer.param_groups] == pytest.approx([0.02, 0.02])


def test_checkpoints_are_saved_when_due_and_at_the_end(make_loop, run_dir):
    make_loop(train={"tokens": 256 * 6}).run()

    assert [path.name for path in list_checkpoints(run_dir.checkpoints)] == ["step-00000004", "step-00000006"]
    assert [(e["step"], e["why"]) for e in events(run_dir, "save")] == [(4, "due"), (6, "end of training")]


def test_metrics_are_on_disk_before_the_checkpoint_that_follows_them(make_loop, run_dir, monkeypatch):
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    make_loop(train={"tokens": 256}).run()

    (saved,) = list_checkpoints(run_dir.checkpoints)
    metrics, manifest = (path.stat().st_ino for path in (run_dir.metrics, saved / "manifest.json"))
    assert synced.index(metrics) < synced.index(manifest)


def test_a_run_stopped_before_its_first_step_saves_that_it_did_nothing(make_loop, run_dir, monkeypatch):
    loop = make_loop()
    monkeypatch.setattr(Display, "__enter__", lambda _: signal.raise_signal(signal.SIGTERM))

    with pytest.raises(Interrupted, match="after step 0"):
        loop.run()
    assert [path.name for path in list_checkpoints(run_dir.checkpoints)] == ["step-00000000"]


def test_validation_comes_when_due_on_at_most_the_windows_asked_for(make_loop, run_dir):
    make_loop(train={"validate_every_steps": 5, "validate_windows": 2}).run()

    assert [(e["step"], e["set"], e["windows"]) for e in events(run_dir, "validation")] == [
        (5, "held_out", 2),
        (10, "held_out", 2),
    ]


def test_validation_on_the_way_changes_nothing(make_loop, run_dir):
    plain, validated = make_loop(), make_loop(train={"validate_every_steps": 1})
    plain.run()
    run_dir.metrics.unlink()
    validated.run()

    pairs = zip(plain.session.model.parameters(), validated.session.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_step_without_a_finite_loss_is_skipped_and_its_samples_go_on_the_ledger(make_loop, run_dir, monkeypatch):
    loop = make_loop(train={"tokens": 256 * 4})
    spoil(loop, monkeypatch, 2)
    loop.run()

    entry = {"step": 3, "first_sample": 16, "samples": 8, "cause": "loss is nan"}
    assert loop.session.progress.ledger == [entry]
    (event,) = events(run_dir, "skip")
    assert {key: event[key] for key in entry} == entry
    assert [line["loss"] is None for line in read_lines(run_dir.metrics)] == [False, False, True, False]


def test_a_skipped_step_touches_nothing_that_is_trained(make_loop, monkeypatch):
    loop = make_loop(train={"tokens": 256})
    before = {name: tensor.clone() for name, tensor in loop.session.model.state_dict().items()}
    spoil(loop, monkeypatch, 0)
    loop.run()

    assert all(torch.equal(tensor, before[name]) for name, tensor in loop.session.model.state_dict().items())
    assert loop.session.optimizer.state == {}
    assert loop.session.logits.mean_L.tolist() == [0.0]


def test_five_skipped_steps_in_a_row_end_the_run_with_an_expected_no(make_loop, run_dir, monkeypatch):
    loop = make_loop()
    spoil(loop, monkeypatch, 1, 3, 4, 5, 6, 7)

    with pytest.raises(ExpectedNo, match="5 steps in a row"):
        loop.run()
    assert len(events(run_dir, "skip")) == 6
    assert [path.name for path in list_checkpoints(run_dir.checkpoints)] == ["step-00000004"]


def test_a_step_that_needs_too_much_memory_is_an_expected_no_and_what_was_done_before_is_saved(
    make_loop, run_dir, monkeypatch
):
    loop = make_loop()
    forward_backward = loop.session.step.forward_backward

    def full(batches, **how):
        if how["step"] == 2:
            raise torch.OutOfMemoryError("Tried to allocate 20 GiB.\nA long explanation")
        return forward_backward(batches, **how)

    monkeypatch.setattr(loop.session.step, "forward_backward", full)
    with pytest.raises(ExpectedNo, match=r"Tried to allocate 20 GiB\. Lower train\.micro_batch = 4"):
        loop.run()

    assert [path.name for path in list_checkpoints(run_dir.checkpoints)] == ["step-00000002"]


def test_the_expert_bias_moves_once_a_step_by_its_update_and_keeps_its_mean(make_loop):
    loop = make_loop(train={"tokens": 256}, router={"bias_update": 0.5})
    loop.run()
    bias_E = loop.session.model.routers[0].expert_bias

    # Four experts, sign minus mean sign: steps lie between 0.5 x (-2) and 0.5 x 2, and their sum is 0.
    assert bias_E.abs().max() > 0
    assert bias_E.sum().item() == pytest.approx(0, abs=1e-6)
    assert bias_E.abs().max() <= 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_step_with_a_checkpoint(make_loop, run_dir, monkeypatch, number):
    loop = make_loop(checkpoint={"every_steps": 0})
    loop.display.step = lambda line: signal.raise_signal(number) if line["step"] == 3 else None

    with pytest.raises(Interrupted, match="after step 3; everything is saved") as stopped:
        loop.run()
    assert stopped.value.exit_code == 128 + number
    assert [path.name for path in list_checkpoints(run_dir.checkpoints)] == ["step-00000003"]


def test_a_signal_during_the_last_save_loses_nothing(make_loop, run_dir, monkeypatch):
    from everyflop.train import loop as module

    def save_under_fire(*arguments):
        signal.raise_signal(signal.SIGINT)
        return save(*arguments)

    save = module.save_session
    monkeypatch.setattr(module, "save_session", save_under_fire)

    with pytest.raises(Interrupted, match="after step 12"):
        make_loop(checkpoint={"every_steps": 0}).run()
    assert [path.name for path in list_checkpoints(run_dir.checkpoints)] == ["step-00000012"]


def test_time_and_money_include_those_of_earlier_processes_at_their_price(make_loop, run_dir):
    loop = make_loop(train={"tokens": 512}, money={"price_per_device_hour": 36.0})
    loop.session.progress.seconds, loop.session.progress.cost = 1000.0, 20.0
    clock = iter(range(100))
    loop.now_s = lambda: float(next(clock))
    loop.run()

    last = read_lines(run_dir.metrics)[-1]
    assert last["seconds"] > 1000
    assert last["cost"] == pytest.approx(20 + (last["seconds"] - 1000) / 100)  # 36 an hour is a hundredth a second
