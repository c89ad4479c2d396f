"""From a table's lines to predictions."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.base.errors import InvalidFile, UsageError
from everyflop.catalog.load import load_catalog
from everyflop.planner.predict.explain import explain_row
from everyflop.planner.predict.fitting import Measured
from everyflop.planner.predict.predict_rows import COLUMNS, predict_rows
from everyflop.planner.predict.predictor import load_predictor
from everyflop.planner.rows.cases import row_cases, row_dims
from everyflop.planner.rows.cells import NUMBERS
from everyflop.planner.rows.file import read_rows, write_rows
from everyflop.planner.rows.line import MICRO_BATCH_PRIOR, REAL_IMBALANCE, RECOMPUTE_PRIOR
from everyflop.planner.speed.calibration import Calibration
from everyflop.planner.speed.software import software_of, stack_of

PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "facts" / "measurements_dev.csv"
needs_table = pytest.mark.skipif(not PUBLISHED.exists(), reason="the table of published measurements is not here")

LINE = {
    **dict.fromkeys(NUMBERS, ""),
    **{"id": "one", "model": "Mixtral-8x7B", "kind": "moe", "accelerator": "H100", "n_devices": "64", "layers": "32"},
    **{"hidden": "4096", "ffn": "14336", "heads": "32", "kv_heads": "8", "experts": "8", "topk": "2"},
    **{"expert_ffn": "14336", "shared_experts": "0", "vocab": "32000", "seq_len": "4096", "global_batch_seqs": "256"},
    **{"total_params_b": "46.7", "active_params_b": "12.9", "tp": "1", "pp": "4", "vpp": "8", "ep": "8"},
    **{"micro_batch": "1", "sharding": "zero1", "recompute": "none", "dtype": "bf16", "software": "", "notes": ""},
}


def predicted(**cells: str) -> dict[str, str]:
    return predict_rows([{**LINE, **cells}], load_catalog(), load_predictor())[0]


def speed(**cells: str) -> float:
    return float(predicted(**cells)["tokens_per_s_per_device"])


def test_speed_step_time_and_batch_agree():
    found = predicted()

    assert float(found["step_time_s"]) * float(found["tokens_per_s_per_device"]) * 64 == pytest.approx(
        256 * 4096, rel=1e-3
    )
    assert float(found["tokens_per_s_p10"]) < float(found["tokens_per_s_per_device"]) < float(found["tokens_per_s_p90"])


def test_mfu_is_model_flops_over_the_dense_peak():
    found = predicted()

    assert float(found["mfu_pct"]) == pytest.approx(100 * float(found["tflops_per_device"]) / 989.5, rel=0.01)


def test_a_blank_is_noted_and_spread_over_its_prior():
    cases = row_cases([{**LINE, "micro_batch": "", "recompute": ""}], load_catalog())

    assert len(cases.weight) == len(MICRO_BATCH_PRIOR) * len(RECOMPUTE_PRIOR)
    assert cases.weight.sum() == pytest.approx(1)
    assert {"micro-batch unknown", "recompute unknown"} <= set(cases.notes[0].split("; "))


def test_a_blank_widens_the_interval():
    def width(**cells: str) -> float:
        found = predicted(**cells)
        return float(found["tokens_per_s_p90"]) / float(found["tokens_per_s_p10"])

    assert width(recompute="") > width()


@pytest.mark.parametrize("model", ["total_params_b", "layers"])
def test_a_line_that_lacks_its_model_is_predicted_all_the_same(model):
    assert np.isfinite(speed(**{model: ""}))


def test_an_unknown_accelerator_is_predicted_as_a_middling_one_and_says_so():
    found = predicted(accelerator="Abacus 9000")

    assert found["basis"] == "prior"
    assert "unknown accelerator 'Abacus 9000'" in found["note"]


def test_what_was_measured_never_reaches_a_prediction():
    told = {"metric_tokens_per_s_per_device": "1", "derived_tps_per_device": "1", "metric_mfu_pct": "99"}

    assert predicted(**told, metric_step_time_s="7", peak_mem_gb="3") == predicted()


def test_words_in_the_notes_are_understood():
    cases = {
        note: row_cases([{**LINE, "software": "torchtitan", "notes": note}], load_catalog()).cases
        for note in ("", "forced-balanced", "torch.compile", "overlap features off", "500W limit")
    }

    assert cases[""].imbalance == REAL_IMBALANCE
    assert cases["forced-balanced"].imbalance == 1.0
    assert (cases[""].unfused, cases["torch.compile"].unfused) == (True, False)
    assert (cases[""].overlaps, cases["overlap features off"].overlaps) == (True, False)
    assert cases["500W limit"].chip.watts_per_tflops < cases[""].chip.watts_per_tflops


def test_a_head_of_another_size_is_found_by_the_printed_parameters():
    # Qwen3-30B: 32 heads of 128 on a width of 2048
    cells = {"total_params_b": "30.5", "active_params_b": "3.3", "layers": "48", "hidden": "2048", "kv_heads": "4"}
    cells |= {"experts": "128", "topk": "8", "expert_ffn": "768", "vocab": "151936", "ffn": "6144"}

    assert row_dims({**LINE, **cells}, load_catalog()).qk_dim == 128


def test_software_is_recognised_in_what_tables_write():
    names = {"Megatron-Bridge / NeMo 26.06": "megatron-bridge", "LLM-foundry / Composer FSDP": "composer"}
    names |= {"Megatron-LM 0.14, TE 2.11": "te", "MaxText": "maxtext", "our own": "our own"}

    assert {text: software_of(text) for text in names} == names
    assert stack_of("torchtitan") == "torch"
    assert stack_of("our own") == "megatron"


def test_the_explanation_of_a_line_adds_up_to_its_prediction():
    found = explain_row(LINE, load_catalog(), load_predictor())

    assert sum(found.step_s.values()) == pytest.approx(float(predicted()["step_time_s"]), rel=1e-3)
    assert sum(found.mem_gib.values()) == pytest.approx(float(predicted()["peak_mem_gib"]), rel=1e-3)


@pytest.mark.parametrize("text", ["", "id,model\n1,x\n"])
def test_a_table_without_accelerators_is_refused(tmp_path, text):
    (tmp_path / "rows.csv").write_text(text)

    with pytest.raises(InvalidFile, match="accelerator"):
        read_rows(tmp_path / "rows.csv")


def test_a_missing_table_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        read_rows(tmp_path / "none.csv")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=12))
def test_any_text_survives_writing_and_reading(tmp_path_factory, text):
    table = tmp_path_factory.mktemp("rows") / "rows.csv"
    write_rows(table, [{**LINE, "notes": text}], list(LINE))

    assert read_rows(table)[0]["notes"] == text.strip()


@needs_table
def test_every_published_line_gets_a_finite_prediction():
    rows = read_rows(PUBLISHED)
    found = predict_rows(rows, load_catalog(), load_predictor())
    numbers = [float(f[c]) for f in found for c in COLUMNS if c.endswith(("_s", "p10", "p90", "device", "pct", "gib"))]

    assert [f["id"] for f in found] == [r["id"] for r in rows]
    assert np.isfinite(numbers).all()
    assert min(numbers) > 0


@needs_table
def test_one_measured_line_improves_the_others_of_b200_and_gb300():
    # Of ten chips it does so for four, see docs/accuracy.md; for these two by most.
    rows = [r for r in csv.DictReader(PUBLISHED.open()) if r["quality"] == "A" and r["derived_tps_per_device"]]
    errors = {chip: _before_and_after([r for r in rows if r["accelerator"] == chip]) for chip in ("B200", "GB300")}

    assert all(before > 0.1 for before, _ in errors.values())
    assert all(after < before for before, after in errors.values())


def _before_and_after(own: list[dict[str, str]]) -> tuple[float, float]:
    """Return a chip's mean error without any of its lines, and with each of its lines known in turn."""
    known = load_predictor()
    c, chip = known.calibration, load_catalog().find(own[0]["accelerator"]).name
    others = np.flatnonzero(c.measured.tags.chip != chip)
    without = Calibration.fit(c.deviations, c.measured.take(others), c.residual[others], c.noise[others])
    told = Measured.of(own, [float(r["derived_tps_per_device"]) for r in own], load_catalog())
    log_formula, _, evidence = told.formula(known.constants)
    residual = told.log_speed - log_formula
    after = []
    for one in range(len(own)):
        calibrated = without.also(evidence.take(np.array([one])), residual[[one]])
        after.append(np.delete(np.abs(residual - calibrated.correct(evidence)[0]), one))
    return float(np.mean(np.abs(residual - without.correct(evidence)[0]))), float(np.mean(np.concatenate(after)))


def test_the_explained_interval_is_the_predicted_one():
    low, middle, high = explain_row(LINE, load_catalog(), load_predictor()).tokens_per_s
    row = predicted()

    names = ("tokens_per_s_p10", "tokens_per_s_per_device", "tokens_per_s_p90")
    assert [low / 64, middle / 64, high / 64] == pytest.approx([float(row[name]) for name in names], rel=1e-3)
