"""What cannot or must not be written is said before the work."""

import os
import shutil
from pathlib import Path

import pytest

from everyflop.base.errors import UsageError
from everyflop.cli.outputs import check_output

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def test_a_link_to_a_file_that_is_read_is_that_file(tmp_path):
    (tmp_path / "rows.csv").touch()
    (tmp_path / "link.csv").symlink_to(tmp_path / "rows.csv")

    with pytest.raises(UsageError, match=r"link\.csv would overwrite"):
        check_output(tmp_path / "link.csv", tmp_path / "rows.csv")


def test_another_file_may_be_written(tmp_path):
    check_output(tmp_path / "out.csv", tmp_path / "rows.csv")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (".", "it is a folder"),
        ("pipe", "it is no ordinary file"),
        ("none/x.toml", "none does not exist"),
        ("file/x.toml", "Not a directory"),
        ("x" * 255, "File name too long"),
    ],
)
def test_a_path_that_cannot_be_written_is_named_with_the_reason(tmp_path, name, why):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(UsageError, match=f"--out {tmp_path / name} cannot be written: .*{why}"):
        check_output(tmp_path / name)


def test_looking_leaves_nothing_behind(tmp_path):
    check_output(tmp_path / "out.csv")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        ("measure", "--device", "cpu"),
        ("plan", RECIPES / "fleets" / "ling_table.toml", "--model", "ling-lite"),
        ("predict", "--rows", RECIPES / "rows.csv"),
    ],
)
def test_commands_look_before_they_work(everyflop, tmp_path, command):
    ended = everyflop(*command, "--out", tmp_path)

    assert ended.code == 2
    assert (
        ended.err == f"everyflop: --out {tmp_path} cannot be written: it is a folder. Choose another name or folder.\n"
    )


def test_predictions_do_not_replace_their_table(everyflop, tmp_path):
    table = Path(shutil.copy(RECIPES / "rows.csv", tmp_path))
    before = table.read_bytes()
    ended = everyflop("predict", "--rows", table, "--out", f"{tmp_path}/./rows.csv")

    assert ended.code == 2
    assert "rows.csv would overwrite" in ended.err
    assert table.read_bytes() == before


@pytest.mark.parametrize("option", ["--out", "--html"])
def test_a_plan_does_not_replace_its_fleet(everyflop, tmp_path, option):
    fleet = Path(shutil.copy(RECIPES / "fleets" / "ling_table.toml", tmp_path))
    before = fleet.read_bytes()
    ended = everyflop("plan", fleet, "--model", "ling-lite", option, fleet)

    assert ended.code == 2
    assert f"{option} {fleet} would overwrite" in ended.err
    assert fleet.read_bytes() == before


def test_the_report_of_a_plan_does_not_replace_the_plan(everyflop, tmp_path):
    same = tmp_path / "plan.json"
    fleet = RECIPES / "fleets" / "ling_table.toml"

    assert everyflop("plan", fleet, "--model", "ling-lite", "--out", same, "--html", same).code == 2
