import pytest

from everyflop.base.errors import UsageError
from everyflop.base.files import read_lines
from everyflop.base.progress import quiet
from everyflop.checkpoint import list_checkpoints
from everyflop.data.prepare import prepare
from everyflop.train.resume import find_start, note_data, refuse_changes
from everyflop.train.session import build_run_model, build_session, save_session
from everyflop.train.telemetry import Telemetry


@pytest.fixture
def save_at(make_settled, device, run_dir):
    """Settle the tiny run, keep it, and save a checkpoint of its untrained model for each step."""

    def save(*steps: int, **changes) -> None:
        settled = make_settled(**changes)
        run_dir.write_run(settled.run)
        session = build_session(settled, build_run_model(settled, device), device)
        for step in steps:
            session.progress.step = step
            save_session(session, run_dir, prepare(settled.run))

    return save


@pytest.fixture
def find(make_run, device, run_dir):
    def find_(progress=quiet, also=None, **changes):
        return find_start(make_run(**changes), run_dir, Telemetry(run_dir), device, also=also, progress=progress)

    return find_


def test_a_first_start_has_no_checkpoint_and_no_changes(find, make_settled):
    start = find()

    assert (start.settled, start.checkpoint, start.changes) == (make_settled(), None, {})


def test_a_run_goes_on_from_its_newest_checkpoint(find, save_at):
    save_at(4, 8)
    start = find()

    assert start.checkpoint.step == 8
    assert start.changes == {}


def test_the_check_of_the_checkpoint_that_a_run_goes_on_from_is_shown(find, save_at, recorder):
    save_at(4, 8)
    find(recorder)

    assert [title for title, *_ in recorder.shown] == ["Checking step-00000008"]


def test_a_damaged_checkpoint_is_named_in_an_event_and_the_one_before_it_used(find, save_at, run_dir):
    save_at(4, 8)
    newest = list_checkpoints(run_dir.checkpoints)[-1]
    (newest / "state.json").write_text("{}")
    start = find()

    (event,) = read_lines(run_dir.events)
    assert start.checkpoint.step == 4
    assert (event["event"], event["path"]) == ("damaged_checkpoint", str(newest))
    assert "state.json" in event["cause"]


def test_what_changed_since_the_checkpoint_is_found(find, save_at):
    save_at(4)

    assert find(optim={"lr": 0.5}).changes == {"optim.lr": [0.01, 0.5]}


def test_a_checkpoint_in_another_folder_counts_where_it_is_as_new_and_with_its_settings(find, save_at, run_dir):
    save_at(4)
    own = run_dir.path / "own"
    run_dir.checkpoints.rename(own)

    start = find(also=own, optim={"lr": 0.5})
    assert (start.checkpoint.path.parent, start.changes) == (own, {"optim.lr": [0.01, 0.5]})
    save_at(4)
    assert find(also=own).checkpoint.path.parent == own
    save_at(8)
    assert find(also=own).checkpoint.path.parent == run_dir.checkpoints


def test_without_a_checkpoint_nothing_counts_as_changed(find, save_at):
    save_at()

    assert find(optim={"lr": 0.5}).changes == {}


def test_another_version_of_torch_is_a_change(find, save_at, monkeypatch):
    monkeypatch.setattr("torch.__version__", "2.13.0+cpu")
    save_at(4)
    monkeypatch.setattr("torch.__version__", "9.9.9+cpu")

    assert find().changes == {"environment.torch": ["2.13.0", "9.9.9"]}


def test_a_build_of_torch_for_another_vendor_is_no_change(find, save_at, monkeypatch):
    monkeypatch.setattr("torch.__version__", "2.13.0+cpu")
    save_at(4)
    monkeypatch.setattr("torch.__version__", "2.13.0+rocm")

    assert find().changes == {}


def test_settings_left_open_are_those_of_the_run_before(find, save_at):
    save_at(4, run={"threads": 3}, train={"micro_batch": 2})
    start = find(run={"threads": None}, train={"micro_batch": None})

    assert start.changes == {}
    assert (start.settled.threads, start.settled.micro_batch) == (3, 2)


def test_no_change_is_not_refused():
    refuse_changes({})


def test_changes_are_refused_with_both_values_and_the_way_on():
    with pytest.raises(
        UsageError, match=r"optim\.lr: was 0\.01, is now 0\.5\n.*run\.seed: was 0, is now 1\n.*--allow-change"
    ):
        refuse_changes({"optim.lr": [0.01, 0.5], "run.seed": [0, 1]})


def test_a_kept_run_of_a_newer_version_is_refused(find, run_dir):
    run_dir.run_file.write_text("schema = 2\n")

    with pytest.raises(UsageError, match=r"schema: is 2.*update everyflop"):
        find()


def test_a_tokenizer_that_is_gone_is_taken_from_the_runs_own_copy(find, save_at, run_dir, tmp_path, make_settled):
    given = tmp_path / "given"
    given.mkdir()
    kept = prepare(make_settled().run).tokenizer_path.read_bytes()
    (given / "tokenizer.json").write_bytes(kept)
    data = {"tokenizer": str(given), "vocab_size": None}
    save_at(3, data=data)
    (run_dir.path / "tokenizer.json").write_bytes(kept)
    (given / "tokenizer.json").unlink()
    given.rmdir()
    start = find(data=data)

    assert start.settled.run.data.tokenizer == str(run_dir.path)
    assert start.changes == {}
    note_data(start, prepare(start.settled.run))
    assert start.changes == {}, "its content is the same"


def test_another_tokenizer_for_the_same_text_is_a_change(find, save_at):
    save_at(3)
    start = find()
    prepared = prepare(start.settled.run)
    other = prepared.folder.parent / "other.json"
    other.write_bytes(prepared.tokenizer_path.read_bytes().replace(b'"merges"', b' "merges"'))
    prepared.tokenizer_path = other
    note_data(start, prepared)

    assert [*start.changes] == ["tokenizer"]


def test_weights_that_a_run_started_from_may_be_gone_when_it_goes_on(find, save_at, device, run_dir):
    save_at(3)
    start = find(model={"init_from": "gone"})

    assert start.checkpoint is not None
    assert build_run_model(start.settled, device, resumed=True)
