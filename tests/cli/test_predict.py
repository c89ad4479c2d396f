"""`everyflop predict`: from a table to a table."""

import csv
from pathlib import Path

import pytest

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
ROWS, FLEET = RECIPES / "rows.csv", RECIPES / "fleets" / "ling_table.toml"
COLUMNS = (
    "id step_time_s tokens_per_s_per_device tokens_per_s_p10 tokens_per_s_p90 tflops_per_device mfu_pct peak_mem_gib "
    "fits basis note"
)


def test_predictions_go_to_a_table_with_the_promised_columns(everyflop, tmp_path):
    shown = everyflop("predict", "--rows", ROWS, "--out", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as file:
        found = list(csv.DictReader(file))

    assert shown.code == 0
    assert list(found[0]) == COLUMNS.split()
    assert [row["id"] for row in found] == ["h100-ep8", "910b-ep8", "h20-ep8", "llama3-8b", "blank-cells"]


def test_the_same_table_gives_the_same_bytes(everyflop, tmp_path):
    for name in ("a.csv", "b.csv"):
        everyflop("predict", "--rows", ROWS, "--out", tmp_path / name)

    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_without_a_file_predictions_are_shown(everyflop, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")

    assert "llama3-8b" in everyflop("predict", "--rows", ROWS).out


def test_names_are_shown_as_the_table_has_them(everyflop, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "chat.csv").write_text("id,model,accelerator\n[red]x,Llama [/inst] :tada:,H100\n")
    shown = everyflop("predict", "--rows", tmp_path / "chat.csv")

    assert shown.code == 0
    assert "[red]x" in shown.out
    assert "Llama [/inst] :tada:" in shown.out


IMPOSSIBLE = """
[[measured]]
device = "h100-sxm"
date = 2026-11-25
source = "a slip"
model = "ling-lite"
seq_len = 1024
batch_tokens = 1024
tokens_per_s_per_device = 1e12
"""


@pytest.mark.parametrize("command", [("predict", "--rows", ROWS), ("plan", FLEET, "--model", "ling-lite")])
def test_a_measurement_beyond_its_device_exits_2_with_key_and_line(everyflop, tmp_path, command):
    (tmp_path / "measured.toml").write_text(IMPOSSIBLE)
    ended = everyflop(*command, "--measured", tmp_path / "measured.toml")

    assert ended.code == 2
    assert "line 9, measured[0].tokens_per_s_per_device" in ended.err


def test_a_doubtful_measurement_is_said(everyflop, tmp_path):
    doubtful = IMPOSSIBLE.replace("1e12", "1e4\nothers_share = 0.67")
    (tmp_path / "measured.toml").write_text(doubtful)
    ended = everyflop("predict", "--rows", ROWS, "--measured", tmp_path / "measured.toml")

    assert ended.code == 0
    assert "h100-sxm: its measured speed is doubtful, others used 67 % of the processor meanwhile." in ended.err


def test_a_measurement_in_a_fleet_is_held_against_its_device_too(everyflop, tmp_path):
    (tmp_path / "fleet.toml").write_text(FLEET.read_text() + IMPOSSIBLE)
    ended = everyflop("plan", tmp_path / "fleet.toml", "--model", "ling-lite")

    assert ended.code == 2
    assert "measured[0].tokens_per_s_per_device" in ended.err


def test_every_line_gets_a_prediction_and_cells_that_nobody_understands_are_named(everyflop, tmp_path):
    (tmp_path / "odd.csv").write_text("accelerator,tp,dtype\nH100,x,bf9\nRiddle 9000,2,bf16\n,,\n")
    shown = everyflop("predict", "--rows", tmp_path / "odd.csv", "--out", tmp_path / "out.csv")
    notes = [line["note"] for line in csv.DictReader((tmp_path / "out.csv").open())]

    assert shown.code == 0
    assert "line 2, tp: 'x' is no number" in shown.err
    assert "line 2, dtype: 'bf9' is unknown" in shown.err
    assert "tp 'x' is no number, taken for blank" in notes[0]
    assert "unknown accelerator 'Riddle 9000'" in notes[1]
    assert "accelerator unknown" in notes[2]


def test_a_table_without_the_one_column_that_it_needs_exits_2(everyflop, tmp_path):
    (tmp_path / "bad.csv").write_text("chip,tp\nH100,1\n")

    assert everyflop("predict", "--rows", tmp_path / "bad.csv").code == 2
