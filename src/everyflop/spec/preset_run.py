"""A run of a published model without a run file: enough of one to measure how fast it trains."""

from collections.abc import Iterable
from typing import Any

from everyflop.base.errors import InvalidFile
from everyflop.spec.overrides import apply_overrides
from everyflop.spec.read import parse_run
from everyflop.spec.run import RunSpec


def preset_run(name: str, overrides: Iterable[str] = ()) -> RunSpec:
    """Return a run of a preset, in steps of four sequences of 4096 tokens unless overrides say otherwise.

    Raises InvalidFile with all problems.
    """
    steps = {"tokens": "1T", "seq_len": 4096, "batch_tokens": 4 * 4096, "micro_batch": 1}
    tables: dict[str, Any] = {"model": {"preset": name}, "train": steps}
    _, problems = apply_overrides(tables, overrides)
    run, found = parse_run(tables)
    if run is None or problems:
        raise InvalidFile(f"a run of '{name}'", [*problems, *found])
    return run
