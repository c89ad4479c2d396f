"""A shape as a run file, ready for `everyflop train`."""

import re
from pathlib import Path
from typing import Any

import tomli_w

from everyflop.base.errors import UsageError
from everyflop.planner.shape.shape import Shape

HEADER = """\
# What scaling laws would train for a budget, as `everyflop plan` found it. Put your own text in [data].
# Planning again writes this file again: keep what you change under another name.
"""


def run_text(shape: Shape, *, name: str) -> str:
    """Return the run file of a shape; what a run cannot be called is left out of the name."""
    tables: dict[str, Any] = {
        "run": {"name": re.sub(r"[^A-Za-z0-9_.-]+", "-", name).lstrip("_.-") or "plan"},
        "model": shape.model.model_dump(mode="json", exclude_unset=True),
        "data": {"sources": ["python-stdlib"], "vocab_size": shape.model.vocab_size},
        "train": {"tokens": shape.tokens, "seq_len": shape.seq_len, "batch_tokens": shape.batch_tokens},
        "optim": {"lr": float(f"{shape.lr:.3g}")},
    }
    return HEADER + "\n" + tomli_w.dumps(tables)


def refuse_to_overwrite(path: Path) -> None:
    """Raise UsageError where a file is in the way that was not written for a shape."""
    first_line = HEADER.splitlines()[0].encode()
    if path.exists() and not (path.is_file() and path.read_bytes().startswith(first_line)):
        raise UsageError(
            f"the run file for the budget would go to {path}, beside the plan, and there is something of yours. "
            "Give another --out, or remove it."
        )
