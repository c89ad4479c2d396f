import io

import pytest
from rich.console import Console

from everyflop.planner.show.breakdown import breakdown


def printed(parts: dict[str, float], unit: str = "ms", width: int = 80) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(breakdown("One step", parts, unit))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_each_part_has_its_figure_and_share_largest_first_and_the_total_last():
    lines = printed({"bubble": 50.0, "matmul": 150.0})

    assert [line.rstrip("━╸ ").split() for line in lines] == [
        ["One", "step"],
        ["matmul", "150", "ms", "75", "%"],
        ["bubble", "50", "ms", "25", "%"],
        ["total", "200", "ms"],
    ]


def test_bars_are_as_long_as_their_parts_are_large():
    bars = [line.count("━") for line in printed({"a": 60.0, "b": 30.0, "c": 10.0})]

    assert bars[1:4] == [30, 15, 5]


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ({"a": 12.34, "b": 1.0}, ["12.3 GiB", "1.0 GiB", "13.3 GiB"]),
        ({"a": 0.0123, "b": 0.004}, ["0.0123 GiB", "0.0040 GiB", "0.0163 GiB"]),
        ({"a": 12_345.6}, ["12,346 GiB", "12,346 GiB"]),
    ],
)
def test_figures_have_the_decimals_of_the_total(parts, shown):
    lines = printed(parts, "GiB")

    assert all(text in line for text, line in zip(shown, lines[1:], strict=True))


def test_parts_of_nothing_are_left_out_and_nothing_at_all_is_a_total_of_nothing():
    assert "idle" not in "".join(printed({"matmul": 1.0, "idle": 0.0}))
    assert printed({"matmul": 0.0})[-1].split() == ["total", "0.000000", "ms"]


def test_a_long_name_is_wrapped_and_never_read_as_markup():
    text = "".join(printed({"[b]" + "x" * 40: 1.0}, width=80))

    assert text.count("x") == 40
    assert "[b]" in text
