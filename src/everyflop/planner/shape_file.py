"""A shape as a run file, ready for `everyflop train`."""

from typing import Any

import tomli_w

from everyflop.planner.shape import Shape

_HEADER = """\
# What scaling laws would train for a budget, as `everyflop plan` found it. Put your own text in [data].

"""


def run_text(shape: Shape, *, name: str) -> str:
    """Return the run file of a shape."""
    tables: dict[str, Any] = {
        "run": {"name": name},
        "model": shape.model.model_dump(mode="json", exclude_unset=True),
        "data": {"sources": ["python-stdlib"], "vocab_size": shape.model.vocab_size},
        "train": {"tokens": shape.tokens, "seq_len": shape.seq_len, "batch_tokens": shape.batch_tokens},
        "optim": {"lr": float(f"{shape.lr:.3g}")},
    }
    return _HEADER + tomli_w.dumps(tables)
