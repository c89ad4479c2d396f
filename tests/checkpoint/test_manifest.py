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
