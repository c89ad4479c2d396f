"""Published models by name. The numbers are in presets.toml, with their sources."""

import difflib
import functools
import tomllib
from importlib.resources import files
from typing import Any

from everyflop.base.errors import UsageError
from everyflop.spec.model import ModelSpec


@functools.cache
def _tables() -> dict[str, dict[str, Any]]:
    return tomllib.loads(files("everyflop.spec").joinpath("presets.toml").read_text())


def preset_names() -> list[str]:
    """Return the names that `preset` takes, in the order of the file."""
    return list(_tables())


def preset_fields(name: str) -> dict[str, Any]:
    """Return a preset's [model] table. Raises UsageError for an unknown name, with the nearest known one."""
    tables = _tables()
    if name not in tables:
        near = difflib.get_close_matches(name, tables, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UsageError(f"there is no preset '{name}': {hint}known are {', '.join(tables)}")
    return dict(tables[name])


def preset(name: str) -> ModelSpec:
    """Return a published model's spec. Raises UsageError for an unknown name."""
    return ModelSpec.model_validate(preset_fields(name))
