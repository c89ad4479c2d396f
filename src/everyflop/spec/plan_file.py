"""Read and write plan.json, the file in which a plan travels from the planner to whoever shows or runs it."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from everyflop.base.errors import InvalidFile, Problem, UsageError
from everyflop.base.files import write_json
from everyflop.spec.plan import SCHEMA, Plan
from everyflop.spec.problems import details_of

_PLAN_AGAIN = "`everyflop plan` writes a new one"


def write_plan(path: str | Path, plan: Plan) -> None:
    """Write a plan as JSON, whole or not at all; the folder must exist."""
    write_json(Path(path), plan.model_dump(mode="json", by_alias=True))


def read_plan(path: str | Path) -> Plan:
    """Return the plan that a file holds.

    Raises UsageError when the file is missing or a newer everyflop wrote it, InvalidFile with all its problems when
    it is damaged or no plan.
    """
    path = Path(path)
    body = _json_object(path)
    schema = body.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise UsageError(
            f"{path} has schema {schema}, and this everyflop reads plans up to schema {SCHEMA}. "
            "Upgrade everyflop, or make the plan again with this one."
        )
    problems = [*_without_schema(body), *_unknown_recommended(body)]
    try:
        plan = Plan.model_validate(body)
    except ValidationError as error:
        raise InvalidFile(path, problems + _problems_of(error)) from None
    if problems:
        raise InvalidFile(path, problems)
    return plan


def _json_object(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the plan {path}: {error.strerror}; {_PLAN_AGAIN}.") from None
    except UnicodeDecodeError as error:
        raise InvalidFile(path, [Problem("JSON", f"is no UTF-8 text: {error.reason}", _PLAN_AGAIN)]) from None
    except json.JSONDecodeError as error:
        raise InvalidFile(path, [Problem("JSON", error.msg, _PLAN_AGAIN, line=error.lineno)]) from None
    except (ValueError, RecursionError) as error:  # integers of thousands of digits; lists nested as deep
        raise InvalidFile(path, [Problem("JSON", str(error), _PLAN_AGAIN)]) from None
    if not isinstance(body, dict):
        raise InvalidFile(path, [Problem("JSON", f"holds no object but {type(body).__name__}", _PLAN_AGAIN)])
    return body


def _without_schema(body: dict[str, Any]) -> list[Problem]:
    """Return a problem where nothing says that this is a plan: every one that was written does."""
    return [] if "schema" in body else [Problem("schema", "is missing", _PLAN_AGAIN)]


def _unknown_recommended(body: dict[str, Any]) -> list[Problem]:
    """Return a problem where the recommended choice is none of those that were compared, valid or not."""
    alternatives, name = body.get("alternatives"), body.get("recommended")
    if not isinstance(alternatives, list) or not isinstance(name, str):
        return []  # validation says so
    names = [choice.get("name") for choice in alternatives if isinstance(choice, dict)]
    if name in names:
        return []
    known = ", ".join(map(str, names)) or "none"
    return [Problem("recommended", f"'{name}' is no name in alternatives: {known}", _PLAN_AGAIN)]


def _problems_of(error: ValidationError) -> list[Problem]:
    """Return a problem for each error; nobody types a plan, so the hint is the same for all."""
    problems = []
    for detail in details_of(error):
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"]).lstrip(".")
        if detail["type"] == "missing":
            problems.append(Problem(key, "is missing", _PLAN_AGAIN))
        elif detail["type"] == "extra_forbidden":
            problems.append(Problem(key, "is no known key", _PLAN_AGAIN))
        else:
            what = detail["msg"].removeprefix("Value error, ")
            problems.append(Problem(key, f"{what}, found {_short(detail['input'])}", _PLAN_AGAIN))
    return problems


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
