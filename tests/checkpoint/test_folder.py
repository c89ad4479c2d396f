from pathlib import Path

import pytest

from everyflop.base.errors import UsageError
from everyflop.checkpoint import find, list_checkpoints


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)


def test_checkpoints_are_listed_by_step_and_not_by_spelling(tmp_path: Path):
    make(tmp_path, "step-100000000", "step-99999999", "step-00000030")

    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000030", "step-99999999", "step-100000000"]


def test_only_step_folders_are_checkpoints(tmp_path: Path):
    make(tmp_path, "step-00000001", ".tmp-step-00000002", "step-3", "other")
    (tmp_path / "step-00000004").write_text("a file")

    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000001"]


def test_a_missing_folder_lists_nothing(tmp_path: Path):
    assert list_checkpoints(tmp_path / "nowhere") == []


@pytest.mark.parametrize("given", [".", "checkpoints", "checkpoints/step-00000020"])
def test_the_newest_checkpoint_is_found_from_a_run_its_checkpoints_or_itself(tmp_path: Path, given: str):
    make(tmp_path / "checkpoints", "step-00000010", "step-00000020")

    assert find(tmp_path / given).name == "step-00000020"


def test_a_merged_checkpoint_is_found_whatever_its_name(tmp_path: Path):
    (tmp_path / "manifest.json").write_text("{}")

    assert find(tmp_path) == tmp_path


def test_a_path_without_checkpoints_says_what_to_give(tmp_path: Path):
    with pytest.raises(UsageError, match=r"holds no checkpoint.*Give a run directory"):
        find(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        find(tmp_path / "nowhere")
