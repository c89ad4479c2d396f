"""Where results may go, and where not."""

import os
from pathlib import Path

import pytest

from everyflop.base.errors import InvalidFile
from everyflop.base.outputs import check_outputs


def refused(outputs: dict[str, Path | None], *inputs: Path) -> list[str]:
    """Return the problems as text."""
    with pytest.raises(InvalidFile) as error:
        check_outputs(outputs, inputs=inputs)
    return [str(problem) for problem in error.value.problems]


def test_new_names_and_earlier_results_may_be_written(tmp_path: Path):
    (tmp_path / "plan.json").write_text("{}")

    check_outputs({"--out": tmp_path / "plan.json", "--html": tmp_path / "plan.html", "--more": None})


@pytest.mark.parametrize("path", ["/", ".", ""])
def test_a_folder_is_refused(path: str):
    (problem,) = refused({"--out": Path(path)})

    assert "is a folder" in problem


def test_every_output_without_a_folder_is_named(tmp_path: Path):
    problems = refused({"--out": tmp_path / "a" / "x.json", "--html": tmp_path / "b" / "x.html"})

    assert [problem.split(":")[0] for problem in problems] == ["--out", "--html"]
    assert f"there is no folder '{tmp_path / 'a'}'" in problems[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path):
    tmp_path.chmod(0o500)

    assert "may not be written" in refused({"--out": tmp_path / "x.json"})[0]


@pytest.mark.parametrize("way", ["as it is", "hard link", "symbolic link", "another spelling"])
def test_an_output_that_is_read_is_refused(tmp_path: Path, way: str):
    read, out = tmp_path / "fleet.toml", tmp_path / "out"
    read.write_text("")
    if way == "hard link":
        out.hardlink_to(read)
    elif way == "symbolic link":
        out.symlink_to(read)
    else:
        out = read if way == "as it is" else tmp_path / ".." / tmp_path.name / "fleet.toml"

    assert "is read, and would be overwritten" in refused({"--out": out}, read)[0]


def test_two_outputs_in_one_file_are_refused(tmp_path: Path):
    problems = refused({"--out": tmp_path / "x", "--html": tmp_path / "x"})

    assert problems == [f"--html: '{tmp_path / 'x'}' is where --out goes already (give each a name of its own)"]


def test_a_pipe_takes_more_than_one_output(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")

    check_outputs({"--out": tmp_path / "pipe", "--html": tmp_path / "pipe"})
