import json
import subprocess
import sys
from pathlib import Path

import pytest

from everyflop.base.errors import ExpectedNo, InvalidFile, UsageError
from everyflop.infer import load
from everyflop.train.plan import apply_plan, follow, open_plan, refuse_overrides
from everyflop.train.run_dir import RunDir

TWO = {"a": {}, "b": {}}


@pytest.fixture
def write_plan(plan_for, make_run, tmp_path):
    """Write the plan of a run, by default the tiny one, with changes; return its path."""

    def write(run=None, **changes):
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(plan_for(run or make_run(), **changes)))
        return path

    return write


@pytest.fixture
def planned(write_plan, make_run):
    """Apply the plan of a run to the run: planned(make_run(), island={"micro_batch": 1})."""

    def apply(run, plan_of=None, **changes):
        return apply_plan(run, open_plan(write_plan(plan_of or run, **changes)))

    return apply


def test_the_plan_sets_micro_batch_and_recompute_whatever_the_run_says(planned, make_run):
    run = planned(make_run(train={"micro_batch": 4, "recompute": "none"}))

    assert (run.train.micro_batch, run.train.recompute) == (2, "layer")


@pytest.mark.parametrize(("recompute", "expected"), [("none", "none"), ("selective", "none"), ("full", "layer")])
def test_only_full_recompute_computes_layers_again(planned, make_run, recompute, expected):
    island = {"layout": {"micro_batch": 2, "recompute": recompute}}

    assert planned(make_run(), island=island).train.recompute == expected


def test_the_plans_price_wins_over_the_runs_and_keeps_its_label(planned, make_run):
    money = {"currency": "USD", "price_per_device_hour": 1.0}
    run = planned(make_run(money=money), island={"price_per_device_hour": 36.0, "example_price": True})

    assert (run.money.currency, run.money.price_per_device_hour, run.money.example) == ("CNY", 36.0, True)


def test_a_batch_that_the_run_leaves_open_is_the_plans(planned, make_run):
    run = planned(make_run(train={"batch_tokens": None}), make_run(train={"batch_tokens": 512}))

    assert run.train.batch_tokens == 512


def test_everything_that_differs_from_the_plan_is_named_with_both_values(planned, make_run):
    other = make_run(
        model={"n_experts": 8}, train={"tokens": 6144, "seq_len": 64, "batch_tokens": 512}, optim={"lr": 0.02}
    )

    with pytest.raises(UsageError) as refused:
        planned(other, make_run())
    lines = [line for line in str(refused.value).splitlines() if line.startswith("  - ")]
    assert lines == [
        "  - model.n_experts: 8 in the run, 4 in the plan",
        "  - train.tokens: 6,144 in the run, 3,072 in the plan",
        "  - train.seq_len: 64 in the run, 32 in the plan",
        "  - train.batch_tokens: 512 in the run, 256 in the plan",
    ]


def test_how_weights_start_is_no_difference(planned, make_run):
    assert planned(make_run(model={"init_std": 0.5}), make_run())


def test_a_model_that_comes_from_elsewhere_is_held_against_the_plan_too(planned, make_run, monkeypatch):
    other = make_run(model={"n_experts": 8}).model
    monkeypatch.setattr(load, "read_spec", lambda path: other if str(path) == "elsewhere" else None)
    run = make_run().model_copy(update={"model": None, "init_from": "elsewhere"})

    with pytest.raises(UsageError, match=r"model\.n_experts: 8 in the run, 4 in the plan"):
        planned(run, make_run())


def test_a_model_that_is_on_other_machines_alone_is_not_looked_at(write_plan, make_run):
    run = make_run().model_copy(update={"model": None, "init_from": "elsewhere"})

    followed, _ = follow(run, write_plan(), files=False)
    assert followed.train.recompute == "layer"
    with pytest.raises(UsageError, match="elsewhere"):
        follow(run, write_plan())


def test_a_warm_up_that_the_plans_micro_batch_does_not_divide_is_refused(planned, make_run):
    run = make_run(train={"micro_batch": 1, "batch_warmup_from": 32, "batch_warmup_tokens": 1024})

    with pytest.raises(UsageError, match=r"batch_warmup_from 32 is not a multiple of .* micro_batch = 2"):
        planned(run)


@pytest.mark.parametrize(
    "override",
    [
        *("train.micro_batch=1", " train.recompute =layer", "money.currency=EUR", "money.example=true"),
        *("islands.steps=8", "islands.sync_share=0"),
    ],
)
def test_what_the_plan_decides_cannot_be_set_beside_it(make_run, override):
    with pytest.raises(UsageError, match=r"cannot be set beside the plan that the run follows"):
        refuse_overrides(make_run(), ["optim.lr=0.1", override], plan=Path("plan.json"), resume=False)


def test_what_the_plan_leaves_open_can_be_set_beside_it(make_run):
    overrides = ["optim.lr=0.1", "run.name=other", "train.precision=fp32"]
    refuse_overrides(make_run(), overrides, plan=Path("plan.json"), resume=False)


def test_several_islands_become_the_runs_at_their_prices(planned, make_run):
    run = planned(make_run(), islands={"a": {}, "b": {"price_per_device_hour": 18.0}})

    assert [(one.name, one.device, one.price_per_device_hour) for one in run.island] == [
        ("a", "cpu", 36.0),
        ("b", "cpu", 18.0),
    ]


def test_islands_exchange_as_the_plan_has_it(planned, make_run):
    exchange = {"steps_between": 6, "bytes_per_parameter": 1.0, "extra_tokens_share": {"2": 0.1}, "source": "a test"}
    exchange |= {"sync_share": 0.1}
    run = planned(make_run(islands={"steps": 2, "round_s": 3.0, "overlap": True}), islands=TWO, exchange=exchange)

    assert {key: getattr(run.islands, key) for key in ("steps", "sync_share", "round_s")} == {
        "steps": 6,
        "sync_share": 0.1,
        "round_s": None,
    }
    assert (run.islands.compress, run.islands.overlap) == ("int8", True)


def test_tables_of_the_run_add_what_no_plan_says(planned, make_run):
    tables = [{"name": "b", "slowdown": 2.0, "price_per_device_hour": 1.0}, {"name": "a"}]
    run = planned(make_run(island=tables), islands=TWO)

    assert [(one.name, one.slowdown, one.price_per_device_hour) for one in run.island] == [
        ("a", 1.0, 36.0),
        ("b", 2.0, 36.0),
    ]


def test_islands_that_the_plan_leaves_out_do_not_train(planned, make_run):
    run = planned(make_run(island=[{"name": "laptop", "slowdown": 2.0}, {"name": "other"}]))

    assert [(one.name, one.slowdown) for one in run.island] == [("laptop", 2.0)]


def test_a_plan_of_one_island_makes_none_in_a_run_without_them(planned, make_run):
    assert planned(make_run()).island == ()


def test_tables_of_other_islands_are_refused_with_both(planned, make_run):
    with pytest.raises(UsageError, match="a and c in the run, a and b in the plan; the plan's need one each"):
        planned(make_run(island=[{"name": "a"}, {"name": "c"}]), islands=TWO)


def test_an_island_of_another_device_is_refused_with_both(planned, make_run):
    with pytest.raises(UsageError, match=r"island\.b\.device: cuda in the run, cpu in the plan"):
        planned(make_run(island=[{"name": "a"}, {"name": "b", "device": "cuda"}]), islands=TWO)


def test_several_islands_train_the_tokens_that_they_need_more(planned, make_run, plan_for):
    total = plan_for(make_run())["total"] | {"token_efficiency": 1 / 1.1}
    run = planned(make_run(), islands=TWO, total=total)

    assert run.train.tokens == 14 * 256  # of 3,072 tokens, 3,379 are a tenth more
    assert planned(run, make_run(), islands=TWO, total=total).train.tokens == 14 * 256


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [((8, 8), (1, 1), 8), ((4, 8), (2, 2), 4), ((4, 8), (2, 8), 2), ((2, 4), (4, 4), 2)],
)
def test_a_micro_batch_that_is_an_islands_whole_part_binds_no_other(planned, make_run, a, b, expected):
    islands = {
        name: {"micro_batch": size, "batch_seqs": part, "layout": {"micro_batch": size}}
        for name, (size, part) in {"a": a, "b": b}.items()
    }

    assert planned(make_run(), islands=islands).train.micro_batch == expected


def test_a_micro_batch_that_does_not_divide_the_whole_batch_is_lowered_until_it_does(planned, make_run):
    islands = {
        name: {"micro_batch": part, "batch_seqs": part, "layout": {"micro_batch": part}}
        for name, part in {"a": 8, "b": 4}.items()
    }

    assert planned(make_run(train={"batch_tokens": 12 * 32}), islands=islands).train.micro_batch == 4


def test_islands_of_several_devices_are_an_expected_no(write_plan):
    with pytest.raises(ExpectedNo, match="needs 8 x cpu and 1 x cpu, and an island of more than one device is not"):
        open_plan(write_plan(islands={"a": {"devices": 8}, "b": {}}))


def test_fp8_is_an_expected_no(write_plan, plan_for, make_run):
    workload = plan_for(make_run())["workload"] | {"precision": "fp8"}

    with pytest.raises(ExpectedNo, match="fp8"):
        open_plan(write_plan(workload=workload))


def test_a_file_that_is_no_plan_is_refused_with_its_problems(tmp_path):
    (tmp_path / "plan.json").write_text("{}")

    with pytest.raises(InvalidFile, match="recommended: is missing"):
        open_plan(tmp_path / "plan.json")


def test_a_run_follows_the_plan_that_it_is_given(write_plan, make_run):
    path = write_plan()
    run, planned = follow(make_run(), path)

    assert run.money.price_per_device_hour == 36.0
    assert (planned.path, planned.content, planned.plan.recommended) == (path, path.read_bytes(), "laptop alone")


def test_a_run_without_a_plan_stays_as_it_is(make_run):
    assert follow(make_run(), None, resume=True) == (make_run(), None)


def test_only_a_resumed_run_follows_the_plan_that_it_kept(write_plan, make_run):
    run = make_run()
    kept = RunDir(run.dir).plan
    kept.parent.mkdir(parents=True)
    kept.write_bytes(write_plan().read_bytes())

    assert follow(run, None) == (run, None)
    followed, planned = follow(run, None, resume=True)
    assert (followed.money.price_per_device_hour, planned.path) == (36.0, kept)


def test_following_a_plan_takes_no_torch():
    code = "import sys; import everyflop.train.plan; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
