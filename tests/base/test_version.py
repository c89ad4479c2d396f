import tomllib
from pathlib import Path

import everyflop as ef
from everyflop.base.version import VERSION

ROOT = Path(__file__).resolve().parents[2]


def test_the_version_is_said_once_and_packaged_as_it_is():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert ef.__version__ == project["version"] == VERSION
