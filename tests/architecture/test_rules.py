"""Rules of the house that a linter does not know, kept on the syntax tree of every file."""

import ast
import functools
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import lint_imports
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "everyflop"
FILES = sorted(PACKAGE.rglob("*.py"))
PYTHON_FILES = sorted(path for folder in ("src", "tests", "bench") for path in (ROOT / folder).rglob("*.py"))

ACROSS_RANKS = {"dist", "parallel", "checkpoint", "islands"}
KNOWS_VENDORS = {"backend", "kernels"}
VENDORS = {"cuda", "rocm", "hip", "xpu", "npu", "mps", "hpu", "mlu", "musa", "nvidia", "amd", "ascend"}


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def room(path: Path) -> str:
    """Return the folder of the package that a file lies in; files at the top have none."""
    return path.relative_to(PACKAGE).parts[0]


def imports(path: Path) -> Iterator[str]:
    """Yield the full dotted names that a file imports, at any depth."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dotted_names(path: Path) -> Iterator[str]:
    """Yield what a file reads through dots, such as torch.cuda.synchronize."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)


def vendor_words(path: Path) -> set[str]:
    """Return uses of a vendor's part of torch, and texts that are a device type, such as "cuda:0"."""
    texts = (n.value for n in ast.walk(tree_of(path)) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    devices = {text for text in texts if re.sub(r":\d+$", "", text.lower()) in VENDORS}
    names = {name for name in (*imports(path), *dotted_names(path)) if re.match(r"torch\.(\w+)", name)}
    return devices | {name for name in names if name.split(".")[1] in VENDORS}


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_imports_point_downwards_only():
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True, no_logo=True) == 0


def test_only_rooms_that_work_across_ranks_know_torch_distributed():
    users = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        for name in (*imports(path), *dotted_names(path))
        if name.startswith("torch.distributed") and room(path) not in ACROSS_RANKS
    }

    assert users == set()


def test_only_backend_and_kernels_name_a_vendor():
    found = {str(path.relative_to(PACKAGE)): vendor_words(path) for path in FILES if room(path) not in KNOWS_VENDORS}

    assert {path: words for path, words in found.items() if words} == {}


@pytest.mark.parametrize(("files", "most"), [("src", 400), ("bench", 400), ("tests", 600)])
def test_every_file_is_short_enough_to_read_in_one_go(files: str, most: int):
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / files).rglob("*.py")}

    assert {path: length for path, length in lengths.items() if length >= most} == {}


def test_no_function_is_longer_than_60_lines():
    lengths = {
        f"{path.relative_to(ROOT)}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in PYTHON_FILES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert {name: length for name, length in lengths.items() if length > 60} == {}


def test_every_package_that_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {
        normal(Requirement(requirement).name)
        for requirement in (*project["dependencies"], *project["optional-dependencies"]["train"])
    }
    # pydantic pins pydantic-core and documents it as its own part.
    owners = importlib.metadata.packages_distributions() | {"pydantic_core": ["pydantic"]}

    imported = {name.split(".")[0] for path in FILES for name in imports(path)}
    third_party = imported - set(sys.stdlib_module_names) - {"everyflop"}
    undeclared = {name for name in third_party if not {normal(owner) for owner in owners.get(name, [])} & declared}

    assert undeclared == set()


@pytest.mark.parametrize("name", ["train", "dev"])
def test_the_tested_versions_satisfy_what_is_declared(name: str):
    pinned = {}
    for file in ("train.txt", "dev.txt"):
        lines = (ROOT / "requirements" / file).read_text().splitlines()
        pinned |= dict(line.split("==") for line in lines if "==" in line)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = map(Requirement, [*project["dependencies"], *project["optional-dependencies"][name]])

    missed = [str(r) for r in wanted if r.name != "everyflop" and not r.specifier.contains(pinned.get(r.name, "0"))]
    assert missed == []
