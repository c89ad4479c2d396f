"""Planning works where torch is not installed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLEET = ROOT / "recipes" / "fleets" / "ling_table.toml"
COMMANDS = [
    ["catalog", "list"],
    ["catalog", "show", "h100-sxm"],
    ["predict", "--rows", ROOT / "recipes" / "rows.csv", "--out", "out.csv"],
    ["explain", ROOT / "recipes" / "rows.csv"],
    ["plan", FLEET, "--model", "ling-plus", "--tokens", "1T", "--html", "plan.html"],
    ["explain", "plan.json"],
]

REFUSING_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "tokenizers", "matplotlib"):
            raise ImportError(f"{name} is not to be imported here")
sys.meta_path.insert(0, Refuse())
from everyflop.cli.main import main
sys.argv = ["everyflop", *sys.argv[1:]]
main()
"""


def test_no_planning_command_imports_torch(tmp_path):
    for command in COMMANDS:
        ran = subprocess.run(
            [sys.executable, "-c", REFUSING_TORCH, *map(str, command)], cwd=tmp_path, capture_output=True, text=True
        )

        assert ran.returncode == 0, f"{command}: {ran.stderr}"


@pytest.mark.full
@pytest.mark.timeout(600)
def test_planning_works_in_an_environment_without_torch(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", ROOT], check=True)

    missing = subprocess.run([python, "-c", "import torch"], capture_output=True)
    ran = [
        subprocess.run([python, "-m", "everyflop", *map(str, c)], cwd=tmp_path, capture_output=True, text=True)
        for c in COMMANDS
    ]

    assert missing.returncode != 0
    assert [(r.args[3:], r.stderr) for r in ran if r.returncode] == []
