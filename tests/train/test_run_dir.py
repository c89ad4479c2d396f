import subprocess
import sys

import pytest

from everyflop.base.errors import UsageError
from everyflop.spec.read import read_run
from everyflop.train.run_dir import claim, next_free_name, run_toml

HOLD = """
import sys
from everyflop.spec.run import RunSpec
from everyflop.train.run_dir import claim
with claim(RunSpec.model_validate_json(sys.argv[1]), resume=False):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(make_run):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, make_run().model_dump_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_run_directory_is_made_under_out_dir_and_name(make_run, tmp_path):
    with claim(make_run(), resume=False) as run_dir:
        assert run_dir.path == tmp_path / "runs" / "tiny"
        assert run_dir.path.is_dir()


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_another_process_holds_is_refused(make_run, holder, resume):
    with pytest.raises(UsageError, match="'tiny' is in use by another process"), claim(make_run(), resume=resume):
        pass


def test_the_hold_ends_with_the_process_however_it_ends(make_run, holder):
    holder.kill()
    holder.wait()

    with claim(make_run(), resume=False):
        pass


@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_a_directory_with_a_run_in_it_is_never_overwritten(make_run, state):
    with claim(make_run(), resume=False) as run_dir:
        run_dir.write_run(make_run())
        if state == "finished":
            run_dir.summary.write_text("{}")

    with pytest.raises(UsageError, match=rf"holds an? {state} run.*--resume.*--new"), claim(make_run(), resume=False):
        pass


def test_a_directory_with_a_run_in_it_can_be_resumed(make_run):
    with claim(make_run(), resume=False) as run_dir:
        run_dir.write_run(make_run())

    with claim(make_run(), resume=True) as run_dir:
        assert run_dir.read_run() == make_run()


def test_a_start_that_got_nowhere_can_be_started_again(make_run):
    with claim(make_run(), resume=False):
        pass

    with claim(make_run(), resume=False):
        pass


def test_the_kept_run_is_a_run_file_that_says_the_same(make_settled, tmp_path):
    run = make_settled().run
    (tmp_path / "again.toml").write_text(run_toml(run))

    assert read_run(tmp_path / "again.toml") == run


def test_the_next_free_name_is_the_runs_own_while_it_is_free(make_run):
    assert next_free_name(make_run()) == make_run()


def test_the_next_free_name_counts_on_from_2_and_changes_nothing_else(make_run):
    for name in ("tiny", "tiny-2"):
        make_run(run={"name": name}).dir.mkdir(parents=True)
        (make_run(run={"name": name}).dir / "run.toml").touch()

    assert next_free_name(make_run()) == make_run(run={"name": "tiny-3"})


def test_a_start_that_failed_leaves_its_name_free(make_run):
    with pytest.raises(ZeroDivisionError), claim(make_run(), resume=False):
        raise ZeroDivisionError

    assert next_free_name(make_run()) == make_run()
