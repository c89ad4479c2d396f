"""`everyflop plan`: what it prints and writes, and how it says no."""

import json
from pathlib import Path

import pytest

FLEETS = Path(__file__).resolve().parents[2] / "recipes" / "fleets"
LING = FLEETS / "ling_table.toml"
RUN = ("--model", "ling-lite", "--tokens", "1T")

BAD = """
[money]
currency = "CNY"
[[pool]]
name = "a"
device = "h10"
count = 8
price_per_device_hour = -1
[[pool]]
name = "b"
device = "h100-sxm"
count = 8
[[link]]
between = ["a", "b"]
gbit_per_s = 0
"""


def test_the_page_and_the_files_tell_the_same(everyflop, tmp_path):
    files = ("--out", tmp_path / "plan.json", "--html", tmp_path / "plan.html")
    ended = everyflop("plan", LING, *RUN, *files)
    made = json.loads((tmp_path / "plan.json").read_text())

    assert ended.code == 0
    assert f"Train on {made['recommended']}" in ended.out
    assert f"everyflop train run.toml --plan {tmp_path / 'plan.json'}" in ended.out.replace("\n", "")
    assert made["currency"] == "CNY"
    assert (tmp_path / "plan.html").read_text().startswith("<!doctype html>")


def test_the_same_question_writes_the_same_bytes(everyflop, tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        everyflop("plan", LING, *RUN)

    assert (tmp_path / "one" / "plan.json").read_bytes() == (tmp_path / "two" / "plan.json").read_bytes()


def test_without_a_plan_that_fits_it_exits_3_and_writes_nothing(everyflop, tmp_path):
    ended = everyflop("plan", LING, *RUN, "--deadline-days", "0.5", "--out", tmp_path / "plan.json")

    assert ended.code == 3
    assert "no plan fits" in ended.err
    assert "a deadline of" in ended.err
    assert not (tmp_path / "plan.json").exists()


def test_all_problems_of_a_fleet_are_told_at_once_with_their_keys(everyflop, tmp_path):
    (tmp_path / "bad.toml").write_text(BAD)
    ended = everyflop("plan", tmp_path / "bad.toml", *RUN, "--out", tmp_path / "plan.json")

    assert ended.code == 2
    for told in ("device", "h100", "price_per_device_hour", "gbit_per_s"):
        assert told in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--model", "ling-plas", "--tokens", "1T"), "Did you mean 'ling-plus'?"),
        (("--model", "ling-lite", "--tokens", "many"), "--tokens"),
        ((*RUN, "--currency", "EUR"), "EUR"),
        ((*RUN, "--max-supplier-share", "50"), "less than or equal to 1"),
    ],
)
def test_what_cannot_be_asked_exits_2_with_a_hint(everyflop, tmp_path, options, told):
    ended = everyflop("plan", LING, *options, "--out", tmp_path / "plan.json")

    assert ended.code == 2
    assert told in ended.err
