import gzip
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from everyflop.base.errors import DataError
from everyflop.data.documents import read_documents


@pytest.fixture
def read(find):
    """Read a file; return its texts and what was skipped."""

    def read_it(path: Path, text_key: str = "text") -> tuple[list[str], dict[str, int]]:
        (source,) = find(path, text_key=text_key)
        skipped: Counter[str] = Counter()
        texts = [document.text for document in read_documents(source, skipped)]
        return texts, dict(skipped)

    return read_it


def file_of(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def jsonl(*texts: object) -> bytes:
    return b"".join(json.dumps({"text": text, "id": 1}).encode() + b"\n" for text in texts)


STORE = {
    ".jsonl": lambda content: content,
    ".jsonl.gz": gzip.compress,
    ".jsonl.zst": zstandard.ZstdCompressor().compress,
}


def test_a_text_file_is_one_document_kept_to_the_byte(read, tmp_path):
    content = "line one\r\nline two — 语言\n\n".encode()

    assert read(file_of(tmp_path, "a.md", content)) == ([content.decode()], {})


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b" \n\t\n", "empty"), (b"caf\xe9", "not UTF-8"), (b"a\0b", "NUL bytes")],
)
def test_an_unusable_text_file_is_skipped_with_its_reason(read, tmp_path, content, reason):
    assert read(file_of(tmp_path, "a.txt", content)) == ([], {reason: 1})


@pytest.mark.parametrize("ending", STORE)
def test_each_line_of_jsonl_is_a_document_however_it_is_compressed(read, tmp_path, ending):
    path = file_of(tmp_path, f"a{ending}", STORE[ending](jsonl("one", "two\nlines", "语言")))

    assert read(path) == (["one", "two\nlines", "语言"], {})


@pytest.mark.parametrize("ending", STORE)
def test_a_last_line_without_a_line_break_counts(read, tmp_path, ending):
    path = file_of(tmp_path, f"a{ending}", STORE[ending](jsonl("one", "two").rstrip()))

    assert read(path)[0] == ["one", "two"]


def test_lines_longer_than_a_read_of_the_decompressor_stay_whole(read, tmp_path):
    texts = ["".join(chr(97 + (i * i + n) % 26) for i in range(300_000)) for n in range(3)]
    path = file_of(tmp_path, "a.jsonl.zst", STORE[".jsonl.zst"](jsonl(*texts)))

    assert read(path)[0] == texts


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst"])
def test_archives_joined_end_to_end_are_read_to_the_end(read, tmp_path, ending):
    parts = [STORE[ending](jsonl(text)) for text in ("one", "two", "three")]

    assert read(file_of(tmp_path, f"a{ending}", b"".join(parts)))[0] == ["one", "two", "three"]


def test_documents_of_jsonl_are_groups_of_their_own(find, tmp_path):
    path = file_of(tmp_path, "a.jsonl", b"\n" + jsonl("one", "two"))
    (source,) = find(path)

    assert [document.group for document in read_documents(source, Counter())] == ["a.jsonl:2", "a.jsonl:3"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": ""}', "empty"),
        (b'{"text": "a\\u0000b"}', "NUL bytes"),
        (b'{"text": "\\ud800"}', "not UTF-8"),
        (b'{"text": "caf\xe9"}', "not UTF-8"),
        (b'{"text": null}', "no text"),
        (b'{"text": 5}', "no text"),
        (b'{"text": "cut', "bad JSON"),
        (b'["text"]', "bad JSON"),
        (b"[" * 100_000, "bad JSON"),
    ],
)
def test_an_unusable_line_is_skipped_with_its_reason(read, tmp_path, line, reason):
    path = file_of(tmp_path, "a.jsonl", jsonl(*map(str, range(150))) + line + b"\n")
    texts, skipped = read(path)

    assert len(texts) == 150
    assert skipped == {reason: 1}


def test_one_bad_line_in_a_hundred_is_borne(read, tmp_path):
    path = file_of(tmp_path, "a.jsonl", jsonl(*map(str, range(99))) + b"oops\n")

    assert read(path)[1] == {"bad JSON": 1}


def test_more_bad_lines_are_refused_and_the_first_is_named(read, tmp_path):
    path = file_of(tmp_path, "a.jsonl", jsonl(*map(str, range(98))) + b"oops\noops\n")

    with pytest.raises(DataError, match=r"a\.jsonl, line 99: .* 2 of 100 lines"):
        read(path)


def test_a_mark_of_byte_order_before_the_first_line_does_no_harm(read, tmp_path):
    assert read(file_of(tmp_path, "a.jsonl", b"\xef\xbb\xbf" + jsonl("one")))[0] == ["one"]


def test_a_missing_key_is_refused_with_the_keys_there_are(read, tmp_path):
    path = file_of(tmp_path, "a.jsonl", jsonl("one"))

    with pytest.raises(DataError, match=r"line 1: no key 'content', only 'text', 'id'\. Set text_key"):
        read(path, "content")


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst"])
@pytest.mark.parametrize("kept_share", [0.3, 0.9, 0.999])
def test_an_archive_that_is_cut_off_is_refused(read, tmp_path, ending, kept_share):
    whole = STORE[ending](jsonl(*(f"{n * n * n} {n}" for n in range(20_000))))
    path = file_of(tmp_path, f"a{ending}", whole[: int(len(whole) * kept_share)])

    with pytest.raises(DataError, match=r"a\.jsonl.* is cut off or damaged"):
        read(path)


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst"])
def test_an_archive_that_is_none_is_refused(read, tmp_path, ending):
    with pytest.raises(DataError, match="is cut off or damaged"):
        read(file_of(tmp_path, f"a{ending}", b"plain text\n" * 10))


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst"])
def test_an_archive_of_no_bytes_is_refused(read, tmp_path, ending):
    with pytest.raises(DataError, match="is cut off or damaged"):
        read(file_of(tmp_path, f"a{ending}", b""))


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst"])
def test_an_archive_of_nothing_holds_no_document(read, tmp_path, ending):
    assert read(file_of(tmp_path, f"a{ending}", STORE[ending](b""))) == ([], {})


@pytest.mark.parametrize("ending", STORE)
def test_endings_may_be_written_large_and_ndjson_is_jsonl(read, tmp_path, ending):
    content = STORE[ending](jsonl("one", "two"))
    for name in (f"A{ending.upper()}", f"b{ending.replace('jsonl', 'ndjson')}"):
        assert read(file_of(tmp_path, name, content)) == (["one", "two"], {})


def test_the_ending_of_parquet_may_be_written_large(read, tmp_path):
    parquet.write_table(pa.table({"text": ["one"]}), tmp_path / "A.PARQUET")

    assert read(tmp_path / "A.PARQUET") == (["one"], {})


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.json", "one object a line"),
        ("a.CSV", "Parquet"),
        ("a.txt.gz", "plain text"),
        ("a.txt.zst", "plain text"),
        ("a.jsonl.bz2", r"\.jsonl\.gz"),
        ("a.xz", "plain text"),
        ("a.zip", "plain text"),
    ],
)
def test_what_is_no_plain_text_by_its_name_is_refused_with_what_to_make_of_it(read, tmp_path, name, wanted):
    with pytest.raises(DataError, match=rf"{name} is no plain text by its name\. Convert it to .*{wanted}"):
        read(file_of(tmp_path, name, b"[1]"))


def test_rows_of_parquet_are_documents(read, tmp_path):
    parquet.write_table(pa.table({"body": ["one", "", None, "two"], "n": [1, 2, 3, 4]}), tmp_path / "a.parquet")

    assert read(tmp_path / "a.parquet", "body") == (["one", "two"], {"empty": 1, "no text": 1})


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["one", "two", "one", None]).dictionary_encode(),
        pa.array(["one", "two", "one", None], pa.string_view()),
        pa.array(["one", "two", "one", None], pa.large_string()),
    ],
    ids=lambda column: str(column.type),
)
def test_text_of_parquet_may_be_stored_in_any_way(read, tmp_path, column):
    parquet.write_table(pa.table({"text": column}), tmp_path / "a.parquet")

    assert read(tmp_path / "a.parquet") == (["one", "two", "one"], {"no text": 1})


def test_a_page_of_parquet_that_cannot_be_unpacked_is_refused_in_one_line(read, tmp_path):
    texts = [f"{n * n} story" for n in range(5000)]
    parquet.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", compression="zstd")
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[100:2000] = bytes(1900)
    (tmp_path / "a.parquet").write_bytes(content)

    with pytest.raises(DataError, match=r"a\.parquet is cut off or damaged \([^\n]*\)\. Fetch it again[^\n]*$"):
        read(tmp_path / "a.parquet")


def test_parquet_text_that_is_not_utf_8_is_skipped(read, tmp_path):
    column = pa.array([b"one", b"caf\xe9"], pa.binary())
    parquet.write_table(pa.table({"text": column}), tmp_path / "a.parquet")

    assert read(tmp_path / "a.parquet") == (["one"], {"not UTF-8": 1})


def test_a_missing_or_numeric_column_of_parquet_is_refused(read, tmp_path):
    parquet.write_table(pa.table({"n": [1, 2]}), tmp_path / "a.parquet")

    with pytest.raises(DataError, match="no column 'text', only 'n'"):
        read(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="column 'n' is int64, no text"):
        read(tmp_path / "a.parquet", "n")


def test_a_parquet_file_that_is_cut_off_is_refused(read, tmp_path):
    parquet.write_table(pa.table({"text": ["one"] * 1000}), tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(content[:-20])

    with pytest.raises(DataError, match="is cut off or damaged"):
        read(tmp_path / "a.parquet")


def test_a_file_that_vanishes_is_named(find, tmp_path):
    path = file_of(tmp_path, "a.txt", b"one")
    (source,) = find(path)
    path.unlink()

    with pytest.raises(DataError, match=r"cannot read .*a\.txt"):
        list(read_documents(source, Counter()))
