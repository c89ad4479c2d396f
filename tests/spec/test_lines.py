import pytest

from everyflop.spec.lines import key_lines, line_of

TEXT = """\
top = 1 # = 2
[model] # the model
"quoted" = 2
yarn = { factor = 2 }
train . tokens = 3

[[data.validation]]
name = "a"
[[data.validation]]
name = "b"
[data.validation.extra]
deep = 1
[[data.validation.sources]]
path = "x"
[[data.validation.sources]]
path = "y"
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("top", 1),
        ("model", 2),
        ("model.quoted", 3),
        ("model.train.tokens", 5),
        ("data.validation[0].name", 8),
        ("data.validation[1].name", 10),
        ("data.validation[1].extra.deep", 12),
        ("data.validation[1].sources[0].path", 14),
        ("data.validation[1].sources[1].path", 16),
    ],
)
def test_a_key_is_found_on_its_line(key: str, line: int):
    assert key_lines(TEXT)[key] == line


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("model.yarn.factor", 4),  # inside of a value
        ("model.hidden", 2),  # missing in its table
        ("data.validation[1].licence", 9),
        ("data.validation", 7),
        ("elsewhere.key", None),
    ],
)
def test_what_has_no_line_takes_that_of_the_table_around_it(key: str, line: int | None):
    assert line_of(key, key_lines(TEXT), ()) == line


def test_what_an_override_set_has_no_line():
    lines = key_lines("[data]\nsources = 'a'\n")

    assert line_of("data.sources[0].path", lines, {"data.sources"}) is None
    assert line_of("data.sources[0].path", lines, {"data.tokenizer"}) == 2
