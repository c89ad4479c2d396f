import pytest

from everyflop.base.errors import DamagedFile, DataError, ExpectedNo, InvalidFile, Problem, UsageError


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError("x"), 2), (DataError("x"), 2), (InvalidFile("f", []), 2), (ExpectedNo("x"), 3), (DamagedFile("x"), 3)],
)
def test_what_the_user_can_mend_exits_with_2_and_an_expected_no_with_3(error: UsageError | ExpectedNo, code: int):
    assert error.exit_code == code


def test_a_problem_says_where_what_and_what_to_do():
    assert str(Problem("train.tokns", "is no known key", "did you mean tokens?", 7)) == (
        "line 7, train.tokns: is no known key (did you mean tokens?)"
    )


def test_a_problem_without_line_or_hint_leaves_them_out():
    assert str(Problem("train.tokens", "is missing")) == "train.tokens: is missing"


def test_an_invalid_file_lists_all_its_problems():
    error = InvalidFile("run.toml", [Problem("a", "is wrong"), Problem("b", "is worse")])

    assert str(error).splitlines() == ["run.toml: 2 problems", "  - a: is wrong", "  - b: is worse"]


def test_one_problem_is_not_called_problems():
    assert str(InvalidFile("run.toml", [Problem("a", "is wrong")])).splitlines()[0] == "run.toml: 1 problem"
