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
        (("--model", "ling-lite", "--tokens", "0"), "--tokens: Input should be greater than 0"),
        ((*RUN, "--batch-tokens", "0"), "--batch-tokens: Input should be greater than 0"),
        ((*RUN, "--deadline-days", "0"), "--deadline-days: Input should be greater than 0"),
        ((*RUN, "--currency", "cny", "--max-islands", "0"), "what is asked: 2 problems"),
    ],
)
def test_what_cannot_be_asked_exits_2_with_a_hint(everyflop, tmp_path, options, told):
    ended = everyflop("plan", LING, *options, "--out", tmp_path / "plan.json")

    assert ended.code == 2
    assert told in ended.err


@pytest.mark.parametrize("option", ["--out", "--html"])
@pytest.mark.parametrize("read", ["fleet.toml", "measured.toml", "run.toml"])
def test_what_is_read_is_never_overwritten(everyflop, tmp_path, monkeypatch, option, read):
    monkeypatch.chdir(tmp_path)
    for name in ("fleet.toml", "measured.toml", "run.toml"):
        (tmp_path / name).write_text("mine")
    ended = everyflop("plan", "fleet.toml", "--model", "run.toml", "--measured", "measured.toml", option, read)

    assert ended.code == 2
    assert f"{option}: '{read}' is read, and would be overwritten" in ended.err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"] * 3


def test_two_results_never_go_into_one_file(everyflop, tmp_path):
    ended = everyflop("plan", LING, *RUN, "--out", tmp_path / "x", "--html", tmp_path / "x")

    assert ended.code == 2
    assert "is where --out goes already" in ended.err
    assert not list(tmp_path.iterdir())


def test_the_run_file_beside_a_plan_is_a_result_too(everyflop, tmp_path):
    ended = everyflop("plan", LING, "--budget", "5M", "--out", tmp_path / "plan.toml")

    assert ended.code == 2
    assert "the run file beside --out" in ended.err


@pytest.mark.parametrize("options", [("--out", "/"), ("--html", "."), ("--out", "no/such/plan.json")])
def test_a_place_that_cannot_be_written_is_refused_before_planning(everyflop, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    ended = everyflop("plan", LING, *RUN, *options)

    assert ended.code == 2
    assert f"{options[0]}: " in ended.err
    assert not list(tmp_path.iterdir())
