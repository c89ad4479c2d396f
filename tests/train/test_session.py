import pytest
import torch

from everyflop.base.errors import UsageError
from everyflop.checkpoint import open_checkpoint
from everyflop.data.prepare import prepare
from everyflop.spec.data import DataSpec
from everyflop.train.session import build_run_model, build_session, keep_tokenizer, restore_session, save_session
from everyflop.train.step import micro_batches


@pytest.fixture
def make_session(make_settled, device):
    def make(**changes):
        settled = make_settled(**changes)
        return build_session(settled, build_run_model(settled, device), device)

    return make


def train_a_step(session, prepared) -> None:
    run, progress = session.settled.run, session.progress
    batch = prepared.train(run.run.seed).batch(progress.samples, 8)
    session.optimizer.zero_grad()
    sums = session.step.forward_backward(list(micro_batches(batch, 4)), step=progress.step, logits=session.logits)
    session.optimizer.param_groups[0]["lr"] = 1e-2
    session.optimizer.step()
    session.logits.update(sums.routers, sums.positions)
    progress.step, progress.samples = progress.step + 1, progress.samples + 8


def everything(session) -> dict[str, torch.Tensor]:
    moments = session.optimizer.state_dict()["state"]
    return {
        **{name: tensor.clone() for name, tensor in session.model.state_dict().items()},
        **{
            f"{i}.{key}": torch.as_tensor(value).clone() for i, state in moments.items() for key, value in state.items()
        },
        "mean": session.logits.mean_L.clone(),
        "square": session.logits.square_L.clone(),
    }


def test_a_restored_session_trains_on_bit_for_bit(make_session, run_dir):
    session = make_session(router={"noise_warmup_steps": 10})
    prepared = prepare(session.settled.run)
    train_a_step(session, prepared)
    path = save_session(session, run_dir, prepared)
    restored = make_session(router={"noise_warmup_steps": 10})
    restore_session(restored, open_checkpoint(path))
    for each in (session, restored):
        train_a_step(each, prepared)
    expected, found = everything(session), everything(restored)

    assert restored.progress == session.progress
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


def test_a_session_that_never_stepped_is_restored_too(make_session, run_dir):
    session = make_session()
    path = save_session(session, run_dir, prepare(session.settled.run))
    restored = make_session(run={"seed": 5})
    restore_session(restored, open_checkpoint(path))

    assert all(torch.equal(tensor, everything(session)[name]) for name, tensor in everything(restored).items())


def test_the_seed_decides_the_first_weights(make_session):
    first, same, other = (make_session(run={"seed": seed}).model.state_dict() for seed in (1, 1, 2))

    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["embed.weight"], other["embed.weight"])


def test_weights_can_start_from_a_checkpoint(make_session, make_run, run_dir):
    session = make_session(run={"seed": 7})
    path = save_session(session, run_dir, prepare(session.settled.run))
    started = make_session(run={"seed": 1}, model={"init_from": str(path)})

    assert all(torch.equal(a, b) for a, b in zip(started.model.parameters(), session.model.parameters(), strict=True))


def test_weights_of_another_shape_are_refused_with_the_keys_that_differ(make_session, run_dir):
    session = make_session()
    path = save_session(session, run_dir, prepare(session.settled.run))

    with pytest.raises(UsageError, match=r"n_experts \(4 there, 8 here\)"):
        make_session(model={"init_from": str(path), "n_experts": 8})


def test_mtp_weights_that_no_loss_reaches_are_not_trained(make_session):
    idle = make_session(model={"n_mtp_layers": 1, "mtp_loss_weight": 0.0})
    trained = make_session(model={"n_mtp_layers": 1, "mtp_loss_weight": 0.1})

    def mtp_names(session):
        return [name for group in session.optimizer.param_groups for name in group["param_names"] if "mtp" in name]

    assert mtp_names(idle) == []
    assert mtp_names(trained)


def test_a_tokenizer_in_the_home_folder_comes_with_the_files_beside_it(
    make_run, run_dir, tmp_path, monkeypatch, make_session
):
    monkeypatch.setenv("HOME", str(tmp_path))
    prepared = prepare(make_session().settled.run)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "tokenizer.json").write_bytes(prepared.tokenizer_path.read_bytes())
    (tmp_path / "own" / "tokenizer_config.json").write_text("{}")
    run_dir.path.mkdir(parents=True, exist_ok=True)

    keep_tokenizer(run_dir, DataSpec(tokenizer="~/own"), prepared)

    assert (run_dir.path / "tokenizer_config.json").read_text() == "{}"


def test_no_file_of_a_folder_called_train_is_taken_for_a_tokenizers(make_session, run_dir, tmp_path, monkeypatch):
    session = make_session()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "tokenizer_config.json").write_text("{}")
    keep_tokenizer(run_dir, session.settled.run.data, prepare(session.settled.run))

    assert (run_dir.path / "tokenizer.json").exists()
    assert not (run_dir.path / "tokenizer_config.json").exists()


def test_time_of_a_checkpoint_from_before_costs_were_kept_is_charged_at_todays_price(make_session, run_dir):
    session = make_session(money={"price_per_device_hour": 36.0})
    session.progress.seconds = 100.0
    path = save_session(session, run_dir, prepare(session.settled.run))
    checkpoint = open_checkpoint(path)
    del checkpoint.state["progress"]["cost"]
    restore_session(session, checkpoint)

    assert session.progress.cost == pytest.approx(1.0)
