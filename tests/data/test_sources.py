import hashlib
from importlib import import_module

import pytest

from everyflop.base.errors import DataError
from everyflop.data.sources import shard_name, source_name
from everyflop.spec.data import SourceSpec


def names(source) -> list[str]:
    return [file.name for file in source.files]


def test_a_file_is_found_and_hashed(find, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"hello")
    (source,) = find(tmp_path / "a.txt", licence="MIT")

    (file,) = source.files
    assert (source.name, source.licence, file.name, file.bytes) == ("a.txt", "MIT", "a.txt", 5)
    assert file.sha256 == hashlib.sha256(b"hello").hexdigest()


def test_a_folder_gives_all_its_files_sorted_without_hidden_ones(find, tmp_path):
    for name in ("b/2.txt", "a.txt", ".hidden", ".git/config", "b/1.jsonl"):
        (tmp_path / "corpus" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "corpus" / name).touch()
    (source,) = find(tmp_path / "corpus")

    assert names(source) == ["a.txt", "b/1.jsonl", "b/2.txt"]


def test_a_pattern_gives_the_files_that_match(find, tmp_path):
    for name in ("a.txt", "b.txt", "c.md"):
        (tmp_path / name).touch()
    (source,) = find(tmp_path / "*.txt")

    assert names(source) == ["a.txt", "b.txt"]


def test_moving_a_corpus_changes_no_name_and_no_hash(find, tmp_path):
    found = []
    for place in ("here", "elsewhere"):
        (tmp_path / place / "corpus").mkdir(parents=True)
        (tmp_path / place / "corpus" / "a.txt").write_text("a")
        (source,) = find(tmp_path / place / "corpus")
        found.append([(file.name, file.group, file.sha256) for file in source.files])

    assert found[0] == found[1]


def test_the_standard_library_is_a_source_with_modules_as_groups(find):
    (source,) = find("python-stdlib")
    groups = {file.name: file.group for file in source.files}

    assert groups["json/decoder.py"] == groups["json/encoder.py"] == "json"
    assert source.licence == "PSF-2.0"


def test_all_missing_sources_are_named_at_once(find, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as raised:
        find(tmp_path / "none.txt", tmp_path / "empty", tmp_path / "*.csv")

    message = str(raised.value)
    assert "there is no file or folder" in message
    assert "empty holds no files" in message
    assert "no file matches" in message


def refuse_to_open(monkeypatch, module: str, name: str, refused: str) -> None:
    """Make a function refuse one path as the system does; a superuser's tests could not be refused otherwise."""
    real = getattr(import_module(module), name)

    def checked(path, *arguments, **options):
        if str(path).endswith(refused):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(f"{module}.{name}", checked)


def test_a_folder_that_cannot_be_walked_is_named(find, tmp_path, monkeypatch):
    (tmp_path / "corpus" / "closed").mkdir(parents=True)
    (tmp_path / "corpus" / "a.txt").write_text("a")
    refuse_to_open(monkeypatch, "os", "scandir", "closed")

    with pytest.raises(DataError, match=r"cannot read .*corpus/closed: Permission denied\. Make it readable"):
        find(tmp_path / "corpus")


@pytest.mark.parametrize(("target", "where"), [("elsewhere", "a folder"), ("missing", "nothing")])
def test_a_link_that_is_not_followed_is_named(find, tmp_path, target, where):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("a story")
    (tmp_path / "corpus" / "more").symlink_to(tmp_path / target)

    with pytest.raises(DataError, match=f"more is a link to {where}"):
        find(tmp_path / "corpus")


def test_all_files_that_cannot_be_read_are_named_at_once(find, tmp_path, monkeypatch):
    for name in ("a_closed.txt", "b.txt", "c_closed.txt"):
        (tmp_path / name).write_text(name)
    refuse_to_open(monkeypatch, "everyflop.data.hashes", "sha256_file", "closed.txt")

    with pytest.raises(DataError, match=r"(?s)a_closed\.txt: Permission denied.*c_closed\.txt: Permission denied"):
        find(*(tmp_path / name for name in ("a_closed.txt", "b.txt", "c_closed.txt")))


def test_two_sources_of_one_name_are_refused(find, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "data.txt").touch()

    with pytest.raises(DataError, match=r"two sources are named 'data\.txt': set `name`"):
        find(tmp_path / "a" / "data.txt", tmp_path / "b" / "data.txt")


def test_a_source_is_called_by_its_name_or_the_last_part_of_its_path():
    assert source_name(SourceSpec(path="data/news.jsonl")) == "news.jsonl"
    assert source_name(SourceSpec(path="data/news.jsonl", name="news")) == "news"


@pytest.mark.parametrize(("name", "file"), [("v1.5", "v1.5"), ("*.jsonl", "_.jsonl"), ("a/b c", "a_b_c"), ("..", "_")])
def test_a_shards_file_name_holds_no_character_that_a_path_could_trip_over(name, file):
    assert shard_name(name) == file
