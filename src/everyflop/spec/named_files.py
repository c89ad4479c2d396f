"""Which files that a run names are not there."""

import glob
import os
from collections.abc import Iterator
from typing import Any

from everyflop.base.errors import Problem
from everyflop.spec.data import PYTHON_STDLIB


def missing_files(tables: dict[str, Any]) -> list[Problem]:
    """Return a problem for each file or folder that is named and missing.

    Works on the tables of a file that need not be valid: what is no path is left to validation.
    """
    return [
        Problem(
            key,
            f"nothing matches '{path}'" if glob.has_magic(path) else f"there is no file or folder '{path}'",
            "relative paths start at the current directory",
        )
        for key, path in _named(tables)
        # "~" is the home folder where text and tokenizers are read; weights are taken from the path as it is.
        if not _exists(os.path.expanduser(path) if key.startswith("data.") else path)
    ]


def _named(tables: dict[str, Any]) -> Iterator[tuple[str, str]]:
    data, model = (_table(tables.get(name)) for name in ("data", "model"))
    yield from _sources("data.sources", data.get("sources"))
    sets = data.get("validation")
    for number, validation in enumerate(sets if isinstance(sets, list) else []):
        yield from _sources(f"data.validation[{number}].sources", _table(validation).get("sources"))
    weights = None if _has_checkpoints(tables) else model.get("init_from")
    for key, path in (("data.tokenizer", data.get("tokenizer")), ("model.init_from", weights)):
        if isinstance(path, str) and path and (key, path) != ("data.tokenizer", "train"):
            yield key, path


def _has_checkpoints(tables: dict[str, Any]) -> bool:
    """Whether the run has weights of its own to go on from, and needs none of those that it started from."""
    run = {"name": "run", "out_dir": "runs", **_table(tables.get("run"))}
    words = [run["out_dir"], run["name"]]
    if not all(isinstance(word, str) and word and "\0" not in word for word in words):
        return False
    folder = os.path.join(os.path.expanduser(words[0]), words[1], "checkpoints")
    return os.path.isdir(folder) and any(name.startswith("step-") for name in os.listdir(folder))


def _sources(key: str, sources: Any) -> Iterator[tuple[str, str]]:
    """Yield the paths of sources: one or a list of them, each a path or a table with one."""
    if isinstance(sources, list):
        for number, source in enumerate(sources):
            if not isinstance(source, list):
                yield from _sources(f"{key}[{number}]", source)
    elif isinstance(sources, dict):
        yield from _sources(f"{key}.path", sources.get("path"))
    elif isinstance(sources, str) and sources not in ("", PYTHON_STDLIB):
        yield key, sources


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _exists(path: str) -> bool:
    if "\0" in path:
        return False
    return os.path.exists(path) or any(True for _ in glob.iglob(path, recursive=True))
