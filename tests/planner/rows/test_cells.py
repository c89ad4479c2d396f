"""Which cells of a table are understood; others count as blank, and are named."""

import pytest

from everyflop.planner.rows.cells import numbers_of, problems_of, word_of


def keys_of_problems(**cells: str) -> list[str]:
    return [problem.key for problem in problems_of({"accelerator": "H100", **cells}, 2)]


@pytest.mark.parametrize(
    ("column", "text", "meaning"),
    [
        *[("sharding", text, "none") for text in ("none", "zero0", "DDP", "ZeRO-0")],
        *[("sharding", text, "zero1") for text in ("zero1", "zero_1", "distributed optimizer")],
        *[("sharding", text, "zero2") for text in ("ZeRO2", "DeepSpeed ZeRO stage 2")],
        *[("sharding", text, "zero3") for text in ("zero3", "FSDP", "fsdp2+tp", "HSDP", "full shard (FSDP)")],
        *[("recompute", text, "none") for text in ("none", "No", "off")],
        *[("recompute", text, "selective") for text in ("selective", "Selective (core attention)")],
        *[("recompute", text, "full") for text in ("full", "full, uniform 1")],
        *[("dtype", text, "fp8") for text in ("fp8", "MXFP8", "bf16+fp8", "FP8-CS", "float8")],
        *[("dtype", text, "bf16") for text in ("bf16", "BFloat16", "bf16 mixed")],
        ("dtype", "fp16", "fp16"),
    ],
)
def test_ways_to_write_a_word(column, text, meaning):
    assert word_of({column: text}, column) == meaning
    assert keys_of_problems(**{column: text}) == []


@pytest.mark.parametrize(
    ("column", "text"), [("sharding", "striped"), ("recompute", "offload"), ("recompute", "mlp"), ("dtype", "nvfp4")]
)
def test_a_word_that_nobody_knows_is_named_and_counts_as_blank(column, text):
    assert word_of({column: text}, column) is None
    assert keys_of_problems(**{column: text}) == [column]


@pytest.mark.parametrize("text", ["", " ", "unknown", "N/A", "na", "-", "?", "not stated", "nan"])
@pytest.mark.parametrize("column", ["sharding", "recompute", "dtype", "tp"])
def test_ways_to_leave_a_cell_blank(column, text):
    assert keys_of_problems(**{column: text}) == []


def test_numbers_that_cannot_be_right_are_named_and_count_as_blank():
    wrong = {"tp": "-1", "pp": "two", "hidden": "1e300", "layers": "inf", "heads": "0.1", "vocab": "150k"}

    assert keys_of_problems(**wrong) == ["layers", "hidden", "heads", "vocab", "tp", "pp"]
    assert not any(numbers_of(wrong).values())


def test_nothing_is_divided_among_half_a_device():
    assert keys_of_problems(tp="0.5", micro_batch="0.25", pp="2.5") == ["micro_batch", "tp", "pp"]


def test_a_decimal_comma_is_none_between_thousands():
    assert keys_of_problems(total_params_b="1,6") == ["total_params_b"]
    assert numbers_of({"vocab": "1,000,000"})["vocab"] == 1_000_000


def test_a_model_may_have_less_than_a_billion_parameters():
    assert keys_of_problems(total_params_b="0.36", active_params_b="0.1") == []


def test_zero_says_that_there_is_none_but_not_of_what_there_must_be():
    assert keys_of_problems(experts="0", shared_experts="0") == []
    assert keys_of_problems(n_devices="0", layers="0", hidden="0", seq_len="0") == [
        *("layers", "hidden", "seq_len", "n_devices")
    ]


def test_numbers_may_have_marks_between_thousands_and_exponents():
    cells = numbers_of({"seq_len": "32_768", "vocab": "1.5e5", "n_devices": "1,024", "hidden": "7 168", "tp": ""})

    assert (cells["seq_len"], cells["vocab"], cells["tp"]) == (32_768, 150_000, None)
    assert (cells["n_devices"], cells["hidden"]) == (1024, 7168)
