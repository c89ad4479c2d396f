"""Which cells of a table are understood."""

import pytest

from everyflop.base.errors import UsageError
from everyflop.planner.rows.file import numbers_of, problems_of, read_rows, write_rows


def keys_of_problems(**cells: str) -> list[str]:
    return [problem.key for problem in problems_of({"accelerator": "H100", **cells}, 2)]


@pytest.mark.parametrize(
    "word", ["", "unknown", "none", "zero0", "DDP", "zero1", "ZeRO2", "zero3", "FSDP", "fsdp2", "hsdp"]
)
def test_ways_to_write_sharding(word):
    assert keys_of_problems(sharding=word) == []


def test_a_negative_number_and_a_word_are_no_numbers():
    assert keys_of_problems(tp="-1", pp="two", layers="nan") == ["layers", "tp", "pp"]


def test_nothing_is_divided_among_half_a_device():
    assert keys_of_problems(tp="0.5", micro_batch="0.25", heads="0.1") == ["heads", "micro_batch", "tp"]


def test_a_model_may_have_less_than_a_billion_parameters():
    assert keys_of_problems(total_params_b="0.36", active_params_b="0.1") == []


def test_zero_says_that_there_is_none_but_not_of_what_there_must_be():
    assert keys_of_problems(experts="0", shared_experts="0") == []
    assert keys_of_problems(n_devices="0", layers="0", hidden="0", seq_len="0") == [
        *("layers", "hidden", "seq_len", "n_devices")
    ]


def test_numbers_may_have_underscores_and_exponents():
    cells = numbers_of({"seq_len": "32_768", "vocab": "1.5e5", "tp": ""})

    assert (cells["seq_len"], cells["vocab"], cells["tp"]) == (32_768, 150_000, None)


def test_columns_that_nobody_asked_for_are_kept_and_byte_order_marks_dropped(tmp_path):
    (tmp_path / "rows.csv").write_text("\ufeffaccelerator,mood\n H100 ,good\n")

    assert read_rows(tmp_path / "rows.csv") == [{"accelerator": "H100", "mood": "good"}]


def test_a_line_that_is_too_short_has_blanks(tmp_path):
    (tmp_path / "rows.csv").write_text("accelerator,tp\nH100\n")

    assert read_rows(tmp_path / "rows.csv") == [{"accelerator": "H100", "tp": ""}]


def test_a_file_that_is_no_text_is_a_usage_error(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b"\xff\xfe\x00accelerator")

    with pytest.raises(UsageError, match="It is a CSV file with a header line"):
        read_rows(tmp_path / "rows.csv")


def test_a_cell_with_a_comma_is_quoted(tmp_path):
    write_rows(tmp_path / "out.csv", [{"id": "a", "note": 'b, "c"'}], ("id", "note"))

    assert (tmp_path / "out.csv").read_text() == 'id,note\na,"b, ""c"""\n'
