from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.spec.named_files import missing_files


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "a.txt").touch()
    (tmp_path / "deep" / "er" / "b.txt").touch()
    (tmp_path / "odd[1].txt").touch()


@pytest.mark.parametrize(
    "path", ["deep", "deep/a.txt", "deep/*.txt", "**/b.txt", "python-stdlib", "odd[1].txt", "./deep/../deep"]
)
def test_files_folders_patterns_and_the_built_in_corpus_are_there(path: str):
    assert missing_files({"data": {"sources": path}}) == []


@pytest.mark.parametrize("path", ["~/deep/a.txt", "~/deep/*.txt"])
def test_a_tilde_stands_for_the_home_folder(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", str(tmp_path))

    assert missing_files({"data": {"sources": path}}) == []
    assert len(missing_files({"data": {"sources": path.replace("deep", "no")}})) == 1


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("no.txt", "no file or folder 'no.txt'"),
        ("deep/*.md", "nothing matches 'deep/*.md'"),
        ("deep/a.txt/b", "no file or folder"),
        ("x" * 5000, "no file or folder"),
        ("\0", "no file or folder"),
        ("*\0", "nothing matches"),
    ],
)
def test_what_is_not_there_is_said(path: str, said: str):
    (problem,) = missing_files({"data": {"sources": path}})

    assert said in problem.found


def test_every_place_that_names_files_is_checked_and_cited():
    tables = {
        "data": {
            "sources": ["no", "deep", {"path": "no", "weight": 2}],
            "validation": [{"name": "a", "sources": {"path": "no"}}, {"name": "b", "sources": ["no", "deep"]}],
            "tokenizer": "no",
        },
        "model": {"init_from": "no"},
    }

    assert [problem.key for problem in missing_files(tables)] == [
        "data.sources[0]",
        "data.sources[2].path",
        "data.validation[0].sources.path",
        "data.validation[1].sources[0]",
        "data.tokenizer",
        "model.init_from",
    ]


def test_a_tokenizer_to_be_trained_is_no_file():
    assert missing_files({"data": {"tokenizer": "train"}}) == []


def test_weights_may_lie_in_a_folder_called_train():
    assert [problem.key for problem in missing_files({"model": {"init_from": "train"}})] == ["model.init_from"]


KEYS = st.sampled_from(["sources", "validation", "path", "tokenizer", "init_from"])
junk = st.recursive(
    st.none() | st.integers() | st.just(""),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
)


@given(data=junk, model=junk)
def test_what_is_no_path_is_left_to_validation(data: Any, model: Any):
    assert missing_files({"data": data, "model": model}) == []
