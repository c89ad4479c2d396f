"""What commands print is what they were given, whatever it looks like."""

import ast
from pathlib import Path

from rich.table import Table

import everyflop.cli as cli
from everyflop.cli.console import plain_console


def test_brackets_and_colons_are_no_markup_in_lines_and_in_tables(capsys):
    table = Table("[bold]id", title="[/title]")
    table.add_row("[/cell] :tada:")

    console = plain_console()
    console.print("[/line]")
    console.print(table)

    out = capsys.readouterr().out
    assert [text for text in ("[/line]", "[bold]id", "[/title]", "[/cell] :tada:") if text not in out] == []


def test_commands_print_on_no_other_console():
    folder = Path(cli.__file__).parent
    calls = {
        path.name
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "Console"
    }

    assert calls == {"console.py"}
