"""Read a run file: presets expanded, overrides applied, and every problem found in one pass.

A pydantic error hides the checks that come after it, so the offending keys are taken out (required ones get a stand-in,
and what is said about a stand-in is dropped) and the rest is checked again until nothing new turns up.
"""

import contextlib
import copy
import difflib
import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from everyflop.base.errors import InvalidFile, Problem, UsageError
from everyflop.spec.presets import preset_fields
from everyflop.spec.run import DEFAULT_VOCAB_SIZE, RunSpec

Tables = dict[str, Any]


def read_run(path: str | Path, overrides: Iterable[str] = ()) -> RunSpec:
    """Return the run that a TOML file and "section.key=value" overrides describe.

    Raises InvalidFile with all problems (key, line where known, hint), UsageError if the file is missing.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read the run file {path}: {error}. `everyflop init` writes one to start from."
        ) from None
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidFile(path, [Problem("TOML", f"{error}", 'text goes in quotes: name = "tiny"')]) from None
    problems = _apply(tables, overrides)
    run, found = parse_run(tables)
    problems += [_with_line(problem, text) for problem in found]
    if problems or run is None:
        raise InvalidFile(path, problems)
    return run


def parse_run(tables: Tables) -> tuple[RunSpec | None, list[Problem]]:
    """Validate run-file tables. Returns the run, or None and every problem found."""
    tables = copy.deepcopy(tables)
    problems = _prepare_model(tables)
    stand_ins: set[str] = set()
    run: RunSpec | None = None
    while run is None:
        try:
            run = RunSpec.model_validate(tables)
        except ValidationError as error:
            details = error.errors()
            problems += [p for p in _problems_of(details, stand_ins) if p not in problems]
            if not any([_take_out(tables, detail["loc"], detail["type"], stand_ins) for detail in details]):
                break
    return (None if problems else run), problems


def _prepare_model(tables: Tables) -> list[Problem]:
    """Expand model.preset, move init_from to where RunSpec has it, fill in the vocabulary size."""
    model = tables.get("model")
    if not isinstance(model, dict):
        return []
    problems = []
    if "init_from" in model:
        tables["init_from"] = model.pop("init_from")
    if (name := model.pop("preset", None)) is not None:
        try:
            model.update({**preset_fields(str(name)), **model})
        except UsageError as error:
            problems.append(Problem("model.preset", str(error)))
            del tables["model"]
            return problems
    if not model:
        del tables["model"]
    else:
        data = tables.get("data")
        wanted = data.get("vocab_size") if isinstance(data, dict) else None
        model.setdefault("vocab_size", wanted if isinstance(wanted, int) else DEFAULT_VOCAB_SIZE)
    return problems


def _problems_of(details: list[Any], stand_ins: set[str]) -> list[Problem]:
    problems: list[Problem] = []
    for detail in details:
        key = _dotted(detail["loc"])
        if detail["type"] == "misfit":
            for name, found in detail["ctx"]["misfits"]:
                if not stand_ins & set(re.findall(r"\w+", f"{name} {found}")):
                    problems.append(Problem(f"{key}.{name}" if key else name, found))
        elif detail["type"] == "extra_forbidden":
            problems.append(Problem(key, "is no known key", _nearest(detail["loc"])))
        elif detail["type"] == "missing":
            if detail["loc"][-1] not in stand_ins:
                problems.append(
                    Problem(key, "is missing", f"add {detail['loc'][-1]} to [{_dotted(detail['loc'][:-1])}]")
                )
        else:
            problems.append(Problem(key, f"{detail['msg']}, found {detail['input']!r}"))
    return problems


def _dotted(location: tuple[Any, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


_STAND_INS = {"family": "qwen3-moe", "path": "x", "name": "x"}


def _take_out(tables: Tables, location: tuple[Any, ...], kind: str, stand_ins: set[str]) -> bool:
    """Delete an offending value, or stand in for a missing one. Returns whether that changed anything."""
    if not location or kind == "misfit":
        return False
    holder: Any = tables
    for part in location[:-1]:
        try:
            holder = holder[part]
        except (KeyError, IndexError, TypeError):
            return False
    key = location[-1]
    if kind != "missing":
        stand_ins.add(str(key))
        with contextlib.suppress(KeyError, IndexError, TypeError):
            del holder[key]
            return True
    elif isinstance(holder, dict):
        stand_ins.add(str(key))
        holder[key] = [{"path": "x"}] if key == "sources" else {} if len(location) == 1 else _STAND_INS.get(key, 64)
        return True
    return False


def _nearest(location: tuple[Any, ...]) -> str:
    """Suggest known keys for an unknown one, in the same table first and then in the whole file."""
    known = _known_keys(RunSpec)
    table = _dotted(tuple(part for part in location[:-1] if not isinstance(part, int)))
    here = [key.rsplit(".", 1)[-1] for key in known if key.rpartition(".")[0] == table]
    if near := difflib.get_close_matches(str(location[-1]), here, n=1):
        return f"did you mean {near[0]}?"
    elsewhere = [key for key in known if key.rsplit(".", 1)[-1] == location[-1]]
    return f"it belongs in {elsewhere[0]}" if elsewhere else f"known here: {', '.join(here)}" if here else ""


def _known_keys(spec: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in spec.model_fields.items():
        keys.append(prefix + name)
        for candidate in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                keys += _known_keys(candidate, f"{prefix}{name}.")
    return [*keys, *(["model.preset", "model.init_from"] if not prefix else [])]


def _apply(tables: Tables, overrides: Iterable[str]) -> list[Problem]:
    problems = []
    for override in overrides:
        dotted, equals, value = override.partition("=")
        *path, key = dotted.strip().split(".")
        if not equals or not path or not key:
            problems.append(Problem(override, "is no override", "write section.key=value, such as train.tokens=2M"))
            continue
        holder = tables
        for part in path:
            holder = holder.setdefault(part, {})
            if not isinstance(holder, dict):
                problems.append(Problem(dotted, f"goes through '{part}', which is no table"))
                break
        else:
            holder[key] = _override_value(value.strip())
    return problems


def _override_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _with_line(problem: Problem, text: str) -> Problem:
    """Find the line of a dotted key in the file; keys that came from elsewhere have none."""
    *path, key = re.sub(r"\[\d+\]", "", problem.key).split(".")
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?", line):
            table = header[1].replace('"', "")
            if table == ".".join([*path, key]):
                return Problem(problem.key, problem.found, problem.hint, number)
        elif re.match(rf"\s*{re.escape(json.dumps(key)[1:-1])}\s*=", line) and table == ".".join(path):
            return Problem(problem.key, problem.found, problem.hint, number)
    return problem
