"""What README and docs/plan.md show of plans is what the command prints today, line breaks aside."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MIXED = ("plan", "recipes/fleets/mixed_example.toml", "--model", "ling-plus", "--tokens", "1T", "--deadline-days")
LING = ("plan", "recipes/fleets/ling_table.toml", "--model", "ling-plus", "--tokens", "1T")


@pytest.mark.parametrize(
    ("page", "begins", "command"),
    [
        ("README.md", "Train on", LING),
        ("docs/plan.md", "ling-plus on", (*MIXED, "60")),
        ("docs/plan.md", "everyflop: no plan fits", (*MIXED, "40", "--budget", "340K")),
    ],
)
def test_what_a_page_shows_is_printed(page: str, begins: str, command: tuple[str, ...], everyflop, tmp_path):
    blocks = re.findall(r"^```text\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    (shown,) = (block[block.index(begins) :] for block in blocks if begins in block)

    done = everyflop(command[0], ROOT / command[1], *command[2:], "--out", tmp_path / "plan.json")

    assert words(shown) in words(done.out + done.err)


def words(text: str) -> str:
    return " ".join(text.split())
