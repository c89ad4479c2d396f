from pathlib import Path

import pytest

from everyflop.base.errors import UsageError
from everyflop.islands.secret import FEWEST_BYTES, VARIABLE, new_secret, read_secret


@pytest.fixture(autouse=True)
def _no_secret_around(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(VARIABLE, raising=False)


def test_a_new_secret_is_like_no_other_and_long_enough():
    assert new_secret() != new_secret()
    assert len(new_secret()) >= FEWEST_BYTES


def test_a_secret_is_read_from_its_file_without_the_space_around_it(tmp_path: Path):
    path = tmp_path / "secret.txt"
    path.write_text("0123456789abcdef\n")

    assert read_secret(path, needed=True) == b"0123456789abcdef"


def test_without_a_file_the_environment_has_the_secret(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, " 0123456789abcdef\n")

    assert read_secret(None, needed=True) == b"0123456789abcdef"


def test_a_file_goes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "secret.txt"
    path.write_text("from a file, long enough")
    monkeypatch.setenv(VARIABLE, "from the environment")

    assert read_secret(path, needed=True) == b"from a file, long enough"


def test_where_none_is_needed_none_is_fine():
    assert read_secret(None, needed=False) == b""


def test_where_one_is_needed_none_is_refused_with_how_to_make_one():
    with pytest.raises(UsageError, match="openssl rand -hex 32"):
        read_secret(None, needed=True)


def test_an_empty_file_is_no_secret(tmp_path: Path):
    path = tmp_path / "secret.txt"
    path.write_text("\n")

    with pytest.raises(UsageError, match="there is no secret"):
        read_secret(path, needed=True)


@pytest.mark.parametrize("needed", [True, False])
def test_a_short_secret_is_refused(tmp_path: Path, needed: bool):
    path = tmp_path / "secret.txt"
    path.write_text("password")

    with pytest.raises(UsageError, match="has 8 bytes; it needs 16"):
        read_secret(path, needed=needed)


@pytest.mark.parametrize("needed", [True, False])
def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path, needed: bool):
    with pytest.raises(UsageError, match=r"secret\.txt"):
        read_secret(tmp_path / "secret.txt", needed=needed)
