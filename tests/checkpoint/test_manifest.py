from pathlib import Path

import pytest

from everyflop.base.errors import UsageError
from everyflop.checkpoint import verify


def test_a_good_checkpoint_has_no_problems(saved: Path):
    assert verify(saved) == []


def test_every_problem_has_its_line(saved: Path):
    (saved / "model.json").unlink()
    (saved / "state.json").write_bytes(b"short")

    problems = verify(saved)

    assert len(problems) == 2
    assert problems[0] == "model.json is missing"
    assert problems[1].startswith("state.json has 5 bytes where ")


def test_files_that_the_manifest_does_not_name_are_no_problem_unless_they_hold_tensors(saved: Path):
    (saved / "notes.txt").write_text("the good one")

    assert verify(saved) == []


def test_a_newer_schema_is_no_damage(saved: Path):
    text = (saved / "manifest.json").read_text()
    (saved / "manifest.json").write_text(text.replace('"schema": 1', '"schema": 9'))

    with pytest.raises(UsageError, match="Upgrade everyflop"):
        verify(saved)


def test_checking_shows_each_byte_that_is_read_once(saved: Path, recorder):
    held = sum(path.stat().st_size for path in saved.iterdir() if path.name != "manifest.json")
    verify(saved, progress=recorder)

    assert recorder.shown == [["Checking step-00000100", held, "bytes", held]]


def test_what_is_missing_or_of_another_size_is_not_waited_for(saved: Path, recorder):
    (saved / "model.json").unlink()
    (saved / "state.json").write_bytes(b"short")
    verify(saved, progress=recorder)

    held = sum(path.stat().st_size for path in saved.glob("*.safetensors*"))  # and their index
    assert recorder.shown == [["Checking step-00000100", held, "bytes", held]]
