"""`everyflop predict`: from a table to a table."""

import csv
from pathlib import Path

ROWS = Path(__file__).resolve().parents[2] / "recipes" / "rows.csv"
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


def test_a_bad_table_exits_2_with_every_problem(everyflop, tmp_path):
    (tmp_path / "bad.csv").write_text("accelerator,tp,dtype\nH100,x,bf9\n")
    shown = everyflop("predict", "--rows", tmp_path / "bad.csv")

    assert shown.code == 2
    assert "line 2, tp: 'x' is no positive number" in shown.err
    assert "line 2, dtype: 'bf9' is unknown" in shown.err
