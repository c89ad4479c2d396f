"""What `--help` shows, and what the README says of the same commands."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from everyflop.cli.main import app

README = Path(__file__).resolve().parents[2] / "README.md"


def leaves(command: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Return the commands that have no subcommands, by their words."""
    subcommands = getattr(command, "commands", None)
    if not subcommands:
        return {path: command}
    return {key: leaf for name, sub in subcommands.items() for key, leaf in leaves(sub, (*path, name)).items()}


COMMANDS = leaves(get_command(app))


def examples(text: str) -> list[list[str]]:
    return [shlex.split(line) for line in text.splitlines() if line.strip().startswith("everyflop ")]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_shows_itself_by_example_on_80_columns(path, everyflop, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    meant = examples(COMMANDS[path].help or "")
    shown = examples(everyflop(*path, "--help").out)

    assert meant
    assert all(tuple(words[1 : 1 + len(path)]) in COMMANDS for words in meant)
    assert shown == meant


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_examples_are_valid_usage(path):
    for _, *words in examples(COMMANDS[path].help or ""):
        named = next(key for key in COMMANDS if tuple(words[: len(key)]) == key)
        COMMANDS[named].make_context(" ".join(named), words[len(named) :])  # raises UsageError


def test_the_readme_lists_every_command_and_no_other():
    rows = re.findall(r"^\| `everyflop ([^`]*)` \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    listed = [next((key for key in COMMANDS if tuple(row.split()[: len(key)]) == key), row) for row in rows]

    assert sorted(map(str, listed)) == sorted(map(str, COMMANDS))


@pytest.mark.parametrize("row", re.findall(r"^\| `everyflop .*$", README.read_text(encoding="utf-8"), re.MULTILINE))
def test_options_named_in_the_readme_exist(row):
    words = re.match(r"\| `everyflop ([^`]*)`", row)[1].split()
    path = next(key for key in COMMANDS if tuple(words[: len(key)]) == key)
    options = {option for parameter in COMMANDS[path].params for option in parameter.opts}

    assert set(re.findall(r"--[a-z-]+", row)) <= options
