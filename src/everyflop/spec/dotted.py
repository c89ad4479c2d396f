"""Nested tables as one table with dotted keys."""

from collections.abc import Mapping
from typing import Any


def dotted(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return {"train.tokens": 1000} for {"train": {"tokens": 1000}}; arrays of tables stay values."""
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        flat |= dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
