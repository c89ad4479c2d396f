from pathlib import Path

import pytest
from typer.testing import CliRunner

from everyflop.cli.data import app

RUN = """
[model]
preset = "olmoe-1b-7b"
[data]
sources = "{folder}"
held_out_share = 0.4
vocab_size = 300
prepared_dir = "{folder}/../prepared"
[train]
tokens = 1000
seq_len = 16
"""


@pytest.fixture
def run_file(tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    for number in range(20):
        (tmp_path / "in" / f"{number}.txt").write_text(f"story {number} of many stories " * 20)
    (tmp_path / "in" / "empty.txt").touch()
    (tmp_path / "run.toml").write_text(RUN.format(folder=tmp_path / "in"))
    return tmp_path / "run.toml"


def prepare(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["prepare", *map(str, arguments)])

    assert result.exit_code == 0, result.output
    return result.stdout


def folders(run_file: Path) -> list[str]:
    return [path.name for path in (run_file.parent / "prepared").iterdir() if path.is_dir()]


def test_prepare_shows_what_was_made_and_where(run_file):
    shown = prepare(run_file)

    (folder,) = folders(run_file)
    for expected in ("training", "validation", "1 empty", "Tokenizer of", f"/prepared/{folder}"):
        assert expected in shown


def test_a_second_prepare_shows_the_same(run_file):
    assert prepare(run_file) == prepare(run_file)


def test_overrides_change_the_run_that_is_prepared(run_file):
    prepare(run_file)
    prepare(run_file, "train.seq_len=32")

    assert len(folders(run_file)) == 2
