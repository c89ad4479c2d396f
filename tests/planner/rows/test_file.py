"""Tables are read and written whole."""

import pytest

from everyflop.base.errors import UsageError
from everyflop.planner.rows.file import read_rows, write_rows


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
