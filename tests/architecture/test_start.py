"""Planning runs on a laptop and `--help` answers at once: what is heavy is loaded by whoever needs it."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "matplotlib", "pyarrow", "transformers", "tokenizers", "safetensors", "tensorboard", "scipy", "numpy"}

SHOW_HELP = """
import sys
from everyflop.cli.main import main
sys.argv = ["everyflop", *{arguments}]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""


def modules_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after running some code."""
    report = "\nimport json, sys\nprint()\nprint(json.dumps([name for name in sys.modules if '.' not in name]))"
    command = [sys.executable, "-c", code + report]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return set(json.loads(output.splitlines()[-1]))


def test_importing_everyflop_loads_nothing_but_the_standard_library():
    loaded = modules_after("import everyflop") - modules_after("")

    assert loaded - set(sys.stdlib_module_names) == {"everyflop"}


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["data", "prepare", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]):
    assert modules_after(SHOW_HELP.format(arguments=arguments)) & HEAVY == set()


@pytest.mark.parametrize("module", ["spec.read", "accounting.flops", "accounting.laws", "accounting.money"])
def test_reading_a_run_and_its_costs_needs_no_torch(module: str):
    assert modules_after(f"import everyflop.{module}") & HEAVY == set()
