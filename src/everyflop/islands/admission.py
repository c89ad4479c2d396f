"""Whether an island would train the same model on the same data as the others."""

from typing import Any

NOT_SHARED = ("train.precision", "train.micro_batch", "train.compile", "train.recompute")
"""Settings in which islands may differ: how a device computes, not what. Numerics are proven before, see parity."""


def differences(joiner: dict[str, Any], run: dict[str, Any]) -> list[str]:
    """Return a line for each fact in which an island differs from the run."""
    here, there = _flat(joiner), _flat(run)
    keys = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
    return [
        f"{key}: {here.get(key)} there, {there.get(key)} in the run" for key in keys if not key.startswith(NOT_SHARED)
    ]


def _flat(facts: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
