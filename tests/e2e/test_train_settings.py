"""What a run file can ask of a run."""

import json

import pytest

from everyflop.checkpoint import open_checkpoint


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
