import re
import subprocess
import sys

import pytest

from everyflop.spec.model import ModelSpec
from everyflop.spec.read import read_run


def test_the_written_run_file_is_read_without_problems(everyflop, tmp_path):
    done = everyflop("init", tmp_path / "mine.toml")

    assert done.code == 0
    run = read_run(tmp_path / "mine.toml")
    assert isinstance(run.model, ModelSpec)
    assert run.train.tokens == 200_000


EXAMPLES = {"init_from", "micro_batch", "name", "price_per_device_hour", "sources", "threads"}
"""Keys whose commented value is an example; the default is none, or depends on the rest."""


def test_the_values_shown_in_comments_are_the_defaults(everyflop, tmp_path):
    path = tmp_path / "run.toml"
    everyflop("init", path)
    before = read_run(path)
    text = path.read_text()

    uncommented = re.sub(r"^# (?=(\w+) = )", lambda found: found[0] if found[1] in EXAMPLES else "", text, flags=re.M)
    path.write_text(uncommented)

    assert len(uncommented) < len(text) - 20
    assert read_run(path) == before


def test_it_says_what_to_do_next(everyflop, tmp_path):
    path = tmp_path / "run.toml"

    assert f"everyflop train {path}" in everyflop("init", path).out


def test_the_name_is_run_toml_by_default(everyflop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert everyflop("init").code == 0
    assert (tmp_path / "run.toml").is_file()


def test_an_existing_file_is_left_alone(everyflop, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("mine")

    done = everyflop("init", path)

    assert done.code == 2
    assert f"{path} exists already" in done.err
    assert path.read_text() == "mine"


def test_a_missing_folder_is_named(everyflop, tmp_path):
    done = everyflop("init", tmp_path / "nowhere" / "run.toml")

    assert done.code == 2
    assert f"{tmp_path / 'nowhere'} does not exist" in done.err


def test_a_file_where_a_folder_is_needed_is_named(everyflop, tmp_path):
    (tmp_path / "file").write_text("mine")

    done = everyflop("init", tmp_path / "file" / "run.toml")

    assert done.code == 2
    assert f"{tmp_path / 'file'} is a file" in done.err


def test_a_name_that_cannot_be_written_is_a_usage_error(everyflop, tmp_path):
    done = everyflop("init", tmp_path / ("x" * 300))

    assert done.code == 2
    assert "cannot be written: File name too long" in done.err


@pytest.mark.parametrize("command", ["init", "--help"])
def test_no_torch_is_loaded(tmp_path, command):
    script = (
        "import sys; from everyflop.cli.main import main; sys.argv = ['everyflop', *sys.argv[1:]]\n"
        "try: main()\n"
        "except SystemExit as leaving: assert leaving.code == 0, leaving.code\n"
        "assert 'torch' not in sys.modules"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, command], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
