"""Whether an island would train the same model on the same data as the others."""

from collections.abc import Mapping, Sequence
from typing import Any

from everyflop.base.version import VERSION
from everyflop.spec.dotted import dotted
from everyflop.spec.islands import NOT_AGREED, IslandSpec, IslandsSpec

NOT_SHARED = ("train.precision", "train.micro_batch", "train.compile", "train.recompute")
"""Settings in which islands may differ: how a device computes, not what."""


def refusal(
    name: str, facts: dict[str, Any], *, known: Sequence[str], present: Sequence[str], run: dict[str, Any]
) -> str:
    """Return why an island cannot take part; empty where it can."""
    if name not in known:
        return f"the run has no island '{name}'; it has {', '.join(known)}"
    if name in present:
        return f"another process is the island '{name}' already"
    if different := differences(facts, run):
        return "it would train another model:\n" + "\n".join(f"  - {line}" for line in different)
    return ""


def agreed(first: dict[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what islands must be: what the coordinator's run asks, and where that is open what the first one is."""
    return {
        key: {**value, **asked.get(key, {})} if isinstance(value, dict) else asked.get(key, value)
        for key, value in first.items()
    }


def other_version(theirs: str) -> str:
    """Return why an island with another version of everyflop cannot take part; empty where it is the same.

    What an update means, and what is sent beside it, is each version's own.
    """
    if theirs == VERSION:
        return ""
    return f"it runs everyflop {theirs or 'of an older version'}, and the coordinator {VERSION}: install one on all"


def first_speed(island: IslandSpec, how: IslandsSpec, measured: float) -> float:
    """Return the measured speed, or where rounds must repeat exactly what the run file says of the island."""
    return island.devices / island.slowdown if how.rounds == "steps" else max(measured, 1e-9)


def differences(joiner: dict[str, Any], run: dict[str, Any]) -> list[str]:
    """Return a line for each fact in which an island differs from the run."""
    here, there = dotted(joiner), dotted(run)
    keys = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
    ignored = (*NOT_SHARED, *(f"islands.{key}" for key in NOT_AGREED))
    return [f"{key}: {here.get(key)} there, {there.get(key)} in the run" for key in keys if not key.startswith(ignored)]
