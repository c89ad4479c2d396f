import hashlib
import os

import pytest

from everyflop.data import hashes
from everyflop.data.hashes import FileHashes


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file that counts as large."""
    monkeypatch.setattr(hashes, "REMEMBERED_FROM_BYTES", 4)
    path = tmp_path / "corpus.txt"
    path.write_bytes(b"first")
    return path


def sha256(tmp_path, path) -> str:
    """The digest as the next process would get it."""
    known = FileHashes(tmp_path / "hashes.json")
    digest = known.sha256(path)
    known.save()
    return digest


def test_a_file_is_hashed(tmp_path, large):
    assert sha256(tmp_path, large) == hashlib.sha256(b"first").hexdigest()


def test_an_unchanged_large_file_is_not_read_again(tmp_path, large):
    digest = sha256(tmp_path, large)
    status = large.stat()
    large.write_bytes(b"other")  # as long, and of the same time: only reading it would tell
    os.utime(large, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert sha256(tmp_path, large) == digest


@pytest.mark.parametrize(("content", "later_ns"), [(b"other", 1), (b"longer than first", 0)])
def test_a_large_file_of_another_time_or_size_is_read_again(tmp_path, large, content, later_ns):
    sha256(tmp_path, large)
    status = large.stat()
    large.write_bytes(content)
    os.utime(large, ns=(status.st_atime_ns, status.st_mtime_ns + later_ns))

    assert sha256(tmp_path, large) == hashlib.sha256(content).hexdigest()


def test_small_files_are_always_read(tmp_path, large, monkeypatch):
    monkeypatch.setattr(hashes, "REMEMBERED_FROM_BYTES", 100)
    sha256(tmp_path, large)

    assert not (tmp_path / "hashes.json").exists()


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_torn_memory_costs_time_only(tmp_path, large, content):
    (tmp_path / "hashes.json").write_text(content)

    assert sha256(tmp_path, large) == hashlib.sha256(b"first").hexdigest()
