"""Whatever a line leaves blank, it gets a prediction."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.catalog.load import load_catalog
from everyflop.planner.predict.predict_rows import COLUMNS, predict_rows
from everyflop.planner.predict.predictor import load_predictor
from everyflop.planner.rows.cells import NUMBERS

FULL = {
    **dict.fromkeys(NUMBERS, ""),
    **{"id": "one", "model": "DeepSeek-V2", "kind": "moe", "accelerator": "H800", "n_devices": "512", "layers": "60"},
    **{"hidden": "5120", "ffn": "12288", "heads": "128", "kv_heads": "128", "experts": "160", "topk": "6"},
    **{"expert_ffn": "1536", "shared_experts": "2", "vocab": "102400", "seq_len": "4096"},
    **{"global_batch_seqs": "1024", "total_params_b": "236", "active_params_b": "21", "tp": "1", "pp": "8", "ep": "8"},
    **{"vpp": "2", "cp": "1", "etp": "1", "dp": "64", "micro_batch": "1", "sharding": "zero1", "recompute": "full"},
    **{"dtype": "bf16", "software": "Megatron-LM", "notes": "token drop"},
}
FIGURES = [name for name in COLUMNS if name not in ("id", "fits", "basis", "note")]


def predicted(**cells: str) -> dict[str, str]:
    return predict_rows([{**FULL, **cells}], load_catalog(), load_predictor())[0]


@given(st.sets(st.sampled_from(sorted(set(FULL) - {"accelerator"}))))
def test_every_line_gets_finite_figures_whatever_is_blank(blank):
    found = predicted(**dict.fromkeys(blank, ""))

    assert all(math.isfinite(float(found[name])) and float(found[name]) > 0 for name in FIGURES)
    assert float(found["mfu_pct"]) < 100


ODD = st.one_of(st.sampled_from(["0", "1", "3", "0.5", "1e4", "-7", "1e300", "nan", "many"]), st.text(max_size=8))


@given(st.dictionaries(st.sampled_from(sorted(FULL)), ODD))
def test_every_line_gets_finite_figures_whatever_its_cells_hold(odd):
    found = predicted(**odd)

    assert all(math.isfinite(float(found[name])) and float(found[name]) > 0 for name in FIGURES)


@pytest.mark.parametrize("column", ["heads", "topk", "expert_ffn", "vocab", "kv_heads"])
def test_one_blank_size_does_not_change_the_speed_by_half(column):
    ratio = float(predicted(**{column: ""})["tokens_per_s_per_device"]) / float(predicted()["tokens_per_s_per_device"])

    assert 2 / 3 < ratio < 3 / 2


def test_lines_are_predicted_alike_together_and_alone():
    others = [{**FULL, "accelerator": name, "recompute": ""} for name in ("A100", "MI300X")]
    together = predict_rows([FULL, *others], load_catalog(), load_predictor())

    assert together == [predict_rows([row], load_catalog(), load_predictor())[0] for row in (FULL, *others)]


def test_a_line_without_an_id_gets_its_number():
    rows = [{**FULL, "id": ""}, FULL, {**FULL, "id": ""}]

    assert [row["id"] for row in predict_rows(rows, load_catalog(), load_predictor())] == ["1", "one", "3"]


def test_an_empty_table_has_no_predictions():
    assert predict_rows([], load_catalog(), load_predictor()) == []


def test_a_model_that_is_too_large_does_not_fit():
    one_device = dict.fromkeys(("n_devices", "pp", "vpp", "ep", "dp", "global_batch_seqs"), "1")

    assert (predicted()["fits"], predicted(**one_device)["fits"]) == ("yes", "no")
