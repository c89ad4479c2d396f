"""What a prediction consists of adds up to the prediction."""

import pytest

from everyflop.catalog.load import load_catalog
from everyflop.planner.predict.explain import explain_island, explain_row
from everyflop.planner.predict.predict_rows import predict_rows
from everyflop.planner.predict.predictor import load_predictor
from everyflop.planner.rows.cells import NUMBERS

BLANK = {
    **dict.fromkeys(NUMBERS, ""),
    **{"accelerator": "MI300X", "model": "Qwen3-30B-A3B", "n_devices": "64", "total_params_b": "30.5"},
    **{"layers": "48", "hidden": "2048", "experts": "128", "topk": "8", "expert_ffn": "768", "pp": "2"},
}


def test_a_line_with_blanks_adds_up_to_its_prediction_too():
    found = explain_row(BLANK, load_catalog(), load_predictor())
    row = predict_rows([BLANK], load_catalog(), load_predictor())[0]

    assert sum(found.step_s.values()) == pytest.approx(float(row["step_time_s"]), rel=1e-3)
    assert sum(found.mem_gib.values()) == pytest.approx(float(row["peak_mem_gib"]), rel=1e-3)
    assert "; ".join(found.notes) == row["note"]


def test_an_island_is_explained_by_the_figures_of_its_plan(make_island):
    island = make_island("a", devices=64, price=5.0, tokens_per_s=1000.0)
    found = explain_island(island)

    assert found.title == f"a: 64 x Maker A, {island.layout}"
    assert (found.step_s, found.mem_gib) == (island.step_s, island.mem_gib)
    assert found.tokens_per_s == (1000 / 1.15, 1000, 1150)
