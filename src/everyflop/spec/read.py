"""Read a run file: presets expanded, overrides applied, and every problem named in one pass (see toml_file.py)."""

import copy
from collections.abc import Iterable
from pathlib import Path

from everyflop.base.errors import InvalidFile, Problem, UsageError
from everyflop.spec.file_kind import FileKind
from everyflop.spec.named_files import missing_files
from everyflop.spec.overrides import apply_overrides
from everyflop.spec.presets import preset_fields, preset_names
from everyflop.spec.run import DEFAULT_VOCAB_SIZE, SCHEMA, RunSpec
from everyflop.spec.toml_file import Tables, load_tables, parse_tables, with_lines

RUN_FILE = FileKind(
    title="run file",
    remedy="`everyflop init` writes one to start from.",
    spec=RunSpec,
    schema=SCHEMA,
    stand_ins={"train": {}, "family": "qwen3-moe", "path": "x", "name": "x", "sources": [{"path": "x"}]},
    written_as={"init_from": "model.init_from"},
    also_known=("model.preset",),
)


def read_run(path: str | Path, overrides: Iterable[str] = (), *, files: bool = True) -> RunSpec:
    """Return the run that a TOML file and "section.key=value" overrides describe.

    With files, the data, tokenizer and weights that the run names must exist.
    Raises InvalidFile with all problems (key, line where known, hint), UsageError if the run file is missing.
    """
    path = Path(path)
    tables, text = load_tables(path, RUN_FILE)
    overridden, problems = apply_overrides(tables, overrides)
    run, found = parse_run(tables)
    found += missing_files(tables) if files else []
    problems += with_lines(found, text, overridden=overridden)
    if problems or run is None:
        raise InvalidFile(path, problems)
    return run


def parse_run(tables: Tables) -> tuple[RunSpec | None, list[Problem]]:
    """Validate run-file tables. Returns the run and no problem, or None and every problem found."""
    tables = copy.deepcopy(tables)
    problems, stand_ins = _prepare_model(tables)
    run, found = parse_tables(tables, RUN_FILE, stand_ins=stand_ins)
    problems += found
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
            stand_ins = {f"model.{name}" for name in set(fields) - set(model)}
        model.update({**fields, **model})
    if not model:
        del tables["model"]
    else:
        data = tables.get("data")
        wanted = data.get("vocab_size") if isinstance(data, dict) else None
        model.setdefault("vocab_size", wanted if isinstance(wanted, int) else DEFAULT_VOCAB_SIZE)
    return problems, stand_ins
