"""Read a run file: presets expanded, overrides applied, and every problem named in one pass.

A wrong type hides the checks that come after it. So what is wrong is taken out (see problems.py), the rest is checked
again until it is valid, and at the end its values are held against each other.
"""

import copy
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from everyflop.base.errors import InvalidFile, Problem, UsageError
from everyflop.spec.base import KEEP_MISFITS
from everyflop.spec.lines import key_lines, line_of
from everyflop.spec.named_files import missing_files
from everyflop.spec.overrides import apply_overrides
from everyflop.spec.presets import preset_fields, preset_names
from everyflop.spec.problems import problems_of, take_out
from everyflop.spec.run import DEFAULT_VOCAB_SIZE, SCHEMA, RunSpec

Tables = dict[str, Any]


def read_run(path: str | Path, overrides: Iterable[str] = (), *, files: bool = True) -> RunSpec:
    """Return the run that a TOML file and "section.key=value" overrides describe.

    With files, the data, tokenizer and weights that the run names must exist.
    Raises InvalidFile with all problems (key, line where known, hint), UsageError if the run file is missing.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read the run file {path}: {error}. `everyflop init` writes one to start from."
        ) from None
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidFile(path, [Problem("TOML", f"{error}", 'text goes in quotes: name = "tiny"')]) from None
    overridden, problems = apply_overrides(tables, overrides)
    run, found = parse_run(tables)
    found += missing_files(tables) if files else []
    lines = key_lines(text)
    problems += [Problem(p.key, p.found, p.hint, line_of(p.key, lines, overridden)) for p in found]
    if problems or run is None:
        raise InvalidFile(path, problems)
    return run


def parse_run(tables: Tables) -> tuple[RunSpec | None, list[Problem]]:
    """Validate run-file tables. Returns the run and no problem, or None and every problem found."""
    tables = copy.deepcopy(tables)
    schema = tables.pop("schema", SCHEMA)
    problems, stand_ins = _prepare_model(tables)
    if schema != SCHEMA:
        problems.append(Problem("schema", f"is {schema!r}, and this version reads {SCHEMA}", "update everyflop"))
    run: RunSpec | None = None
    while run is None:
        try:
            run = RunSpec.model_validate(tables, context=KEEP_MISFITS)
        except ValidationError as error:
            problems += problems_of(error, stand_ins)
            take_out(tables, error, stand_ins)
    for key, what in run.misfits():
        # What is said about a value that stands in for a wrong one is no news.
        if not stand_ins & set(re.findall(r"\w+", f"{key} {what}")):
            problems.append(Problem(key, what))
    return (None if problems else run), problems


def _prepare_model(tables: Tables) -> tuple[list[Problem], set[str]]:
    """Expand model.preset, move init_from to where RunSpec has it, fill in the vocabulary size.

    Returns the problems, and the keys whose values stand in for those of an unknown preset.
    """
    problems: list[Problem] = []
    stand_ins: set[str] = set()
    if "init_from" in tables:
        del tables["init_from"]
        problems.append(Problem("init_from", "is no known key", "it belongs in model.init_from"))
    model = tables.get("model")
    if not isinstance(model, dict):
        return problems, stand_ins
    if "init_from" in model:
        tables["init_from"] = model.pop("init_from")
    if (name := model.pop("preset", None)) is not None:
        try:
            fields = preset_fields(str(name))
        except UsageError as error:
            problems.append(Problem("model.preset", str(error)))
            fields = preset_fields(preset_names()[0])
            stand_ins = set(fields) - set(model)
        model.update({**fields, **model})
    if not model:
        del tables["model"]
    else:
        data = tables.get("data")
        wanted = data.get("vocab_size") if isinstance(data, dict) else None
        model.setdefault("vocab_size", wanted if isinstance(wanted, int) else DEFAULT_VOCAB_SIZE)
    return problems, stand_ins
