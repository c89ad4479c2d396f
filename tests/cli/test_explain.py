"""`everyflop explain`: what it prints of a table's lines and of a plan's islands."""

import json
import shutil
from pathlib import Path

from everyflop.spec.read import read_run

ROWS = Path(__file__).resolve().parents[2] / "recipes" / "rows.csv"


def test_lines_of_one_id_are_all_explained(everyflop, tmp_path):
    header, first, *_ = ROWS.read_text().splitlines()
    table = tmp_path / "twice.csv"
    table.write_text("\n".join([header, first, first.replace("H100", "H20")]) + "\n")

    out = everyflop("explain", table, "--only", "h100-ep8").out

    assert "Ling-Plus on H100" in out
    assert "Ling-Plus on H20" in out


def test_lines_without_an_id_go_by_their_number(everyflop, tmp_path):
    table = tmp_path / "rows.csv"
    table.write_text("accelerator,total_params_b\nH100,8\nA100,13\n")

    out = everyflop("explain", table, "--only", "2").out

    assert " on A100" in out
    assert " on H100" not in out


def test_the_case_of_an_ending_does_not_matter(everyflop, tmp_path):
    table = Path(shutil.copy(ROWS, tmp_path / "ROWS.CSV"))

    assert "Ling-Plus on H100" in everyflop("explain", table, "--only", "h100-ep8").out


def test_a_file_of_another_kind_gets_told_what_is_expected(everyflop, tmp_path):
    ended = everyflop("explain", shutil.copy(ROWS, tmp_path / "rows.txt"))

    assert ended.code == 2
    assert "a plan, whose name ends in .json, or a table" in ended.err


def test_a_table_without_lines_has_nothing_to_explain(everyflop, tmp_path):
    (tmp_path / "rows.csv").write_text("id,accelerator\n")
    ended = everyflop("explain", tmp_path / "rows.csv")

    assert ended.code == 0
    assert "no line below it: there is nothing to explain" in ended.out


def test_step_and_memory_each_end_with_their_total(everyflop):
    lines = everyflop("explain", ROWS, "--only", "llama3-8b").out.splitlines()
    totals = [line.split()[1:3] for line in lines if line.startswith("total ")]

    assert [unit for _, unit in totals] == ["ms", "GiB"]


def test_islands_of_a_plan_are_explained(everyflop, tmp_path, write_run_file, plan_for):
    plan = plan_for(read_run(write_run_file(tmp_path)))
    (tmp_path / "plan.json").write_text(json.dumps(plan))

    shown = everyflop("explain", tmp_path / "plan.json")

    assert shown.code == 0
    assert "laptop: 1 x cpu" in shown.out
    assert "predicted 2.00 K tokens/s (P10 1.00 K, P90 4.00 K)" in shown.out


def test_a_line_is_explained_by_component(everyflop):
    shown = everyflop("explain", ROWS, "--only", "h100-ep8")

    assert shown.code == 0
    assert all(word in shown.out for word in ("experts", "pipeline bubble", "gradients", "GiB", "tokens/s"))


def test_an_unknown_line_exits_2_and_names_those_there_are(everyflop):
    shown = everyflop("explain", ROWS, "--only", "nobody")

    assert shown.code == 2
    assert "has no nobody: it has h100-ep8" in shown.err
