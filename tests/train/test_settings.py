import os

import pytest

from everyflop.accounting.laws import default_batch_tokens, default_lr
from everyflop.backend.device import Device
from everyflop.base.errors import UsageError
from everyflop.spec.read import parse_run
from everyflop.train import settings
from everyflop.train.settings import changed_numerics, keep_settled, settle


def test_what_the_user_set_is_what_runs(make_settled):
    settled = make_settled(run={"threads": 3}, train={"batch_tokens": 512, "micro_batch": 2}, optim={"lr": 0.003})

    assert (settled.threads, settled.batch_tokens, settled.micro_batch) == (3, 512, 2)
    assert (settled.precision, settled.peak_lr) == ("fp32", 0.003)


@pytest.mark.parametrize(("fast", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_is_bf16_only_where_the_device_is_fast_at_it(make_run, fast, precision):
    run = make_run(train={"precision": "auto"})

    assert settle(run, run.model, Device("cpu", "a processor", fast_bf16=fast)).run.train.precision == precision


def test_open_batch_and_learning_rate_come_from_the_scaling_laws(make_settled):
    settled = make_settled(train={"tokens": "50M", "batch_tokens": None, "micro_batch": None}, optim={"lr": None})

    assert settled.batch_tokens == default_batch_tokens(settled.model, 50_000_000, 32)
    assert settled.peak_lr == default_lr(settled.model, 50_000_000)


def test_an_open_batch_is_whole_micro_batches(make_settled):
    settled = make_settled(train={"tokens": 22_400, "batch_tokens": None, "micro_batch": 8})

    assert settled.batch_tokens % (8 * 32) == 0
    assert parse_run(settled.run.to_tables())[1] == []


def test_a_model_from_elsewhere_that_is_too_short_for_the_run_is_refused_before_it_trains(make_run, device):
    run = make_run()
    with pytest.raises(UsageError, match="max_positions"):
        settle(run, run.model.model_copy(update={"max_positions": 16}), device)


def test_open_threads_are_all_cores(make_settled):
    assert make_settled(run={"threads": None}).threads == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("sequences", "warmup_sequences", "micro_batch"),
    [(48, None, 16), (24, None, 12), (17, None, 1), (24, 8, 8), (24, 9, 3)],
)
def test_an_open_micro_batch_is_the_largest_up_to_16_that_divides_the_first_and_the_full_batch(
    make_settled, sequences, warmup_sequences, micro_batch
):
    warmup = {"batch_warmup_from": 32 * warmup_sequences, "batch_warmup_tokens": 3000} if warmup_sequences else {}
    settled = make_settled(train={"batch_tokens": 32 * sequences, "micro_batch": None, **warmup})

    assert settled.micro_batch == micro_batch


def test_a_settled_run_leaves_nothing_open(make_settled, device):
    settled = make_settled(
        run={"threads": None},
        train={"tokens": "50M", "batch_tokens": None, "micro_batch": None, "precision": "auto"},
        optim={"lr": None},
    )
    again = settle(settled.run, settled.run.model, Device("cpu", "another", fast_bf16=True))

    assert again.run == settled.run
    assert parse_run(settled.run.to_tables()) == (settled.run, [])


def test_a_run_shorter_than_its_default_batch_is_refused_with_what_to_do(make_settled):
    with pytest.raises(UsageError, match=r"train\.tokens = 16 is less than one batch of .*Train on more tokens"):
        make_settled(train={"tokens": 16, "batch_tokens": None, "micro_batch": None})


def test_what_a_resume_leaves_open_is_taken_from_before(make_run, device):
    open_values = {
        "run": {"threads": None},
        "train": {"tokens": "50M", "batch_tokens": None, "micro_batch": None, "precision": "auto"},
        "optim": {"lr": None},
    }
    earlier = settle(make_run(**open_values), make_run().model, Device("cpu", "one", fast_bf16=True)).run

    assert keep_settled(make_run(**open_values), earlier) == earlier


def test_what_a_resume_sets_wins_over_what_was_before(make_run, make_settled):
    kept = keep_settled(make_run(run={"threads": 3}, optim={"lr": 0.5}), make_settled().run)

    assert (kept.run.threads, kept.optim.lr) == (3, 0.5)


def test_a_run_whose_model_came_from_elsewhere_keeps_it(make_run, make_settled):
    run = make_run().model_copy(update={"model": None, "init_from": "elsewhere"})

    assert keep_settled(run, make_settled().run).model == make_settled().model


@pytest.mark.parametrize(
    ("table", "fields"),
    [
        ("run", {"seed": 1}),
        ("run", {"threads": 2}),
        ("model", {"routed_scale": 1.5}),
        ("data", {"mixture_block": 512}),
        ("train", {"tokens": 6144}),
        ("train", {"micro_batch": 2}),
        ("train", {"recompute": "layer"}),
        ("optim", {"lr": 0.02}),
        ("optim", {"schedule": "linear"}),
        ("router", {"z_loss": 0.1}),
        ("router", {"noise_warmup_steps": 5}),
    ],
)
def test_a_change_that_touches_the_weights_is_named_with_both_values(make_settled, table, fields):
    before, now = make_settled().run, make_settled(**{table: fields}).run
    ((key, value),) = fields.items()

    assert changed_numerics(now, before) == {f"{table}.{key}": [getattr(getattr(before, table), key), value]}


def test_changes_that_leave_the_weights_alone_are_not_named(make_settled):
    changed = make_settled(
        run={"name": "other", "out_dir": "elsewhere"},
        data={"prepared_dir": "elsewhere"},
        train={"validate_every_steps": 3, "validate_windows": 7},
        checkpoint={"every_steps": 1, "keep": 9},
        money={"price_per_device_hour": 2.0, "example": True},
    )

    assert changed_numerics(changed.run, make_settled().run) == {}


def test_another_currency_is_named(make_settled):
    changed = make_settled(money={"currency": "CNY"})

    assert [*changed_numerics(changed.run, make_settled().run)] == ["money.currency"]


def test_several_changes_are_all_named(make_settled):
    changed = make_settled(optim={"lr": 0.02, "clip": 0.5}, run={"seed": 4}, checkpoint={"keep": 9})

    assert list(changed_numerics(changed.run, make_settled().run)) == ["optim.clip", "optim.lr", "run.seed"]


LONG_RUN = {"tokens": "10000G"}
"""Of the tiny model, far beyond COMPILE_FROM_FLOPS."""


@pytest.mark.parametrize(
    ("changes", "why", "compiles"),
    [
        ({}, None, False),
        (LONG_RUN, None, True),
        (LONG_RUN, "there is no C++ compiler", False),
        ({"compile": "on"}, None, True),
        ({**LONG_RUN, "compile": "off"}, None, False),
        ({**LONG_RUN, "recompute": "layer"}, None, False),
    ],
)
def test_layers_are_compiled_where_that_is_possible_and_the_run_long_enough(
    make_settled, monkeypatch, changes, why, compiles
):
    monkeypatch.setattr(settings, "why_not", lambda device: why)
    settled = make_settled(train=changes)

    assert settled.compile is compiles
    assert settled.run.train.compile == ("on" if compiles else "off")


def test_compiling_without_a_compiler_is_refused_with_what_to_do(make_settled, monkeypatch):
    monkeypatch.setattr(settings, "why_not", lambda device: "there is no C++ compiler")

    with pytest.raises(UsageError, match=r"train.compile = 'on'.*no C\+\+ compiler.*train.compile=off"):
        make_settled(train={"compile": "on"})


def test_a_resume_never_decides_again_whether_to_compile(make_run, make_settled, monkeypatch):
    monkeypatch.setattr(settings, "why_not", lambda device: None)
    earlier = make_settled(train=LONG_RUN).run

    assert keep_settled(make_run(train=LONG_RUN), earlier).train.compile == "on"


def test_who_takes_part_may_change_and_how_islands_merge_may_not(make_settled):
    before = make_settled(island=[{"name": "a"}, {"name": "b"}], islands={"heartbeat_s": 5.0}).run
    others = make_settled(island=[{"name": "a"}, {"name": "c", "slowdown": 2.0}], islands={"heartbeat_s": 9.0}).run
    merged = make_settled(island=[{"name": "a"}, {"name": "b"}], islands={"steps": 3, "outer_lr": 0.5}).run

    assert changed_numerics(others, before) == {}
    assert list(changed_numerics(merged, before)) == ["islands.outer_lr", "islands.steps"]
