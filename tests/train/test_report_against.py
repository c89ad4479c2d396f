import dataclasses

import pytest

from everyflop.base.errors import UsageError
from everyflop.train.report_against import TRAINING, against_section, compare, moves_of
from everyflop.train.report_files import RunFiles, read_files


@pytest.fixture
def files(two_islands) -> RunFiles:
    return read_files(two_islands(metrics=[line(step) for step in range(1, 41)], events=[validation(20, 4.0)]))


def line(step: int, *, lower: float = 0.0) -> dict:
    place = {"schema": 1, "step": step, "tokens": 256 * step, "round": 0, "island": "a", "seconds": 9.0, "cost": 0.1}
    return {**place, "loss": 6.0 - step / 20 - lower, "tokens_per_s": 256.0, "step_s": 1.0}


def validation(step: int, loss: float) -> dict:
    facts = {"schema": 1, "time": "2026-01-01T00:00:20+00:00", "event": "validation", "step": step}
    return {**facts, "set": "held_out", "loss": loss, "bits_per_byte": 1.0}


def with_rounds(files: RunFiles, *names: str) -> RunFiles:
    """Return a run whose rounds of 1,024 tokens had these islands, such as "ab", "b"."""
    member = files.rounds[0]["members"]["a"]
    rounds = [
        {**files.rounds[0], "round": n, "tokens": 1024 * (n + 1), "members": dict.fromkeys(who, member)}
        for n, who in enumerate(names)
    ]
    return dataclasses.replace(files, rounds=rounds)


def test_a_run_beside_itself_differs_by_nothing(files):
    found = compare(files, files, "itself")

    assert {one.signed for one in found.differences} == {0.0}
    assert {one.what for one in found.differences} == {TRAINING, "held_out"}
    assert found.other_settings == []


def test_differences_are_signed_and_after_the_same_tokens(files):
    control = dataclasses.replace(files, metrics=[line(step, lower=0.5) for step in range(11, 61)])
    found = compare(files, control, "control")
    training = [one for one in found.differences if one.what == TRAINING]

    assert [one.signed for one in training] == pytest.approx([0.5] * len(training), abs=0.03)  # smoothed to its ends
    assert (training[0].tokens, training[-1].tokens) == (256 * 11, 256 * 40)


def test_a_move_is_a_round_with_an_island_that_had_not_been_there(files):
    moved = with_rounds(files, "ab", "ab", "b", "ab", "bc", "c", "c")
    (move,) = moves_of(moved.rounds)

    assert (move.tokens, move.came, move.went) == (4 * 1024, ["c"], ["a"])
    assert moves_of(with_rounds(files, "ab", "b", "ab").rounds) == []


def test_the_mean_difference_is_told_before_and_after_the_moves(files):
    metrics = [line(step, lower=-0.4 if step > 16 else 0.0) for step in range(1, 41)]
    moved = with_rounds(dataclasses.replace(files, metrics=metrics), "a", "a", "a", "a", "b", "b")
    found = compare(moved, files, "stayed")

    assert found.mean(after=False) == pytest.approx(0.0, abs=0.05)
    assert found.mean(after=True) == pytest.approx(0.4, abs=0.05)
    assert compare(files, files, "itself").mean(after=True) is None


def test_what_else_differs_is_said(files):
    other = files.run.model_copy(update={"run": files.run.run.model_copy(update={"seed": 9, "name": "other"})})
    page = against_section(compare(files, dataclasses.replace(files, run=other), "control"))

    assert "run.seed" in page
    assert "run.name" not in page


def test_runs_without_common_tokens_are_refused(files):
    with pytest.raises(UsageError, match="no steps after the same numbers of tokens"):
        compare(files, dataclasses.replace(files, metrics=[]), "control")


def test_the_page_tells_moves_and_differences(files):
    page = against_section(compare(with_rounds(files, "a", "b"), files, "runs/stayed"))

    assert "Against runs/stayed" in page
    assert "moved to b in place of a" in page
    assert "+0.0000" in page
