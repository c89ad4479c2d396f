from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from everyflop.base.errors import DamagedFile, UsageError
from everyflop.checkpoint import open_checkpoint, save
from everyflop.cli.checkpoint import app


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run with checkpoints 10, 20, 30, 40 whose one weight equals the step."""
    for step in (10, 20, 30, 40):
        tensors = {"model.w": torch.tensor([float(step)])}
        save(tmp_path / "checkpoints", step, tensors=tensors, state={"tokens": 1000 * step}, files={}, keep=9)
    return tmp_path


def weight(path: Path) -> float:
    return open_checkpoint(path).load("model.")["model.w"].item()


def test_verify_prints_one_line_for_each_checkpoint(run_dir: Path):
    result = CliRunner().invoke(app, ["verify", str(run_dir)])

    assert result.exit_code == 0
    assert [line.rsplit("/", 1)[1] for line in result.stdout.splitlines()] == [
        "step-00000010: good",
        "step-00000020: good",
        "step-00000030: good",
        "step-00000040: good",
    ]


def test_verify_names_damaged_files_and_ends_with_exit_code_3(run_dir: Path):
    (run_dir / "checkpoints" / "step-00000020" / "state.json").write_text("torn")

    result = CliRunner().invoke(app, ["verify", str(run_dir)])

    assert isinstance(result.exception, DamagedFile)
    assert result.exception.exit_code == 3
    assert "1 of 4 damaged: step-00000020" in str(result.exception)
    assert "step-00000020: state.json has 4 bytes" in result.output


def test_list_shows_step_tokens_and_which_are_good(run_dir: Path):
    (run_dir / "checkpoints" / "step-00000040" / "manifest.json").unlink()

    result = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["list", str(run_dir)])

    rows = [line for line in result.stdout.splitlines() if "step-" in line]
    assert result.exit_code == 0
    assert "10.0 K" in rows[0]
    assert "yes" in rows[0]
    assert "no: " in rows[3]


def test_merge_takes_the_last_checkpoints_of_a_run(run_dir: Path):
    out = run_dir / "merged"
    result = CliRunner().invoke(app, ["merge", str(run_dir), str(out), "--last", "2", "--method", "mean"])

    assert result.exit_code == 0
    assert weight(out) == 35.0


def test_merge_weighs_by_one_minus_sqrt_unless_told_otherwise(run_dir: Path):
    result = CliRunner().invoke(app, ["merge", str(run_dir), str(run_dir / "merged")])

    # 1 - sqrt(i/4) for i = 1, 2, 3 is 0.5, 0.2929, 0.1340, and each interval moves the weight by 10.
    assert result.exit_code == 0
    assert weight(run_dir / "merged") == pytest.approx(10 + 10 * (0.5 + 0.292893 + 0.133975), abs=1e-4)


def test_merge_sorts_named_checkpoints_by_step(run_dir: Path):
    paths = [str(run_dir / "checkpoints" / name) for name in ("step-00000030", "step-00000010")]
    result = CliRunner().invoke(app, ["merge", *paths, str(run_dir / "merged")])

    assert result.exit_code == 0
    assert weight(run_dir / "merged") == pytest.approx(10 + 20 * (1 - 0.5**0.5), abs=1e-4)


def test_merge_refuses_to_make_do_with_fewer_checkpoints_than_asked_for(run_dir: Path):
    result = CliRunner().invoke(app, ["merge", str(run_dir), str(run_dir / "merged"), "--last", "5"])

    assert isinstance(result.exception, UsageError)
    assert "4 checkpoints are too few" in str(result.exception)


def test_merge_says_that_one_checkpoint_is_too_few(run_dir: Path):
    one = run_dir / "checkpoints" / "step-00000010"
    result = CliRunner().invoke(app, ["merge", str(one), str(run_dir / "merged")])

    assert isinstance(result.exception, UsageError)
    assert "1 checkpoint is too few to merge at least 2" in str(result.exception)


def test_merge_refuses_the_same_checkpoint_twice_under_any_name(run_dir: Path):
    one = run_dir / "checkpoints" / "step-00000040"
    for other in (one, run_dir, one / ".." / one.name):
        result = CliRunner().invoke(app, ["merge", str(one), str(other), str(run_dir / "merged")])

        assert isinstance(result.exception, UsageError)
        assert "step-00000040 is given twice" in str(result.exception)


@pytest.mark.parametrize("command", [["verify"], ["list"], ["merge", "merged"]])
def test_each_command_shows_on_stderr_how_far_it_is(run_dir: Path, command: list[str]):
    name, *out = command
    result = CliRunner().invoke(app, [name, str(run_dir), *(str(run_dir / folder) for folder in out)])

    assert "Checking step-00000040: " in result.stderr
    assert ("Merging: 4 tensors" in result.stderr) == (name == "merge")
    assert "Checking" not in result.stdout
