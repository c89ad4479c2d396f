"""No command writes over a file that it reads."""

import shutil
from pathlib import Path

import pytest

from everyflop.base.errors import UsageError
from everyflop.cli.outputs import refuse_to_overwrite

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def test_a_link_to_a_file_that_is_read_is_that_file(tmp_path):
    (tmp_path / "rows.csv").touch()
    (tmp_path / "link.csv").symlink_to(tmp_path / "rows.csv")

    with pytest.raises(UsageError, match=r"link\.csv would overwrite"):
        refuse_to_overwrite(tmp_path / "link.csv", tmp_path / "rows.csv")


def test_another_file_may_be_written(tmp_path):
    refuse_to_overwrite(tmp_path / "out.csv", tmp_path / "rows.csv")


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
