"""Decide whether a step's gradients may be applied."""

import math

from everyflop.base.errors import ExpectedNo
from everyflop.train.state import Progress

MOST_SKIPPED_IN_A_ROW = 5


def fault(loss: float, grad_norm: float) -> str | None:
    """Return why a step must be skipped, or None."""
    if not math.isfinite(loss):
        return f"loss is {loss}"
    if not math.isfinite(grad_norm):
        return f"gradient norm is {grad_norm}"
    return None


def refuse_divergence(progress: Progress) -> None:
    """Raise ExpectedNo once several batches in a row were unusable: the weights are the cause then, not the data."""
    if progress.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
        cause = progress.ledger[-1]["cause"]
        raise ExpectedNo(
            f"{progress.skipped_in_a_row} steps in a row had to be skipped ({cause}), so the run has diverged. "
            "Start again with a lower optim.lr or optim.clip, or add --resume --allow-change to do so from the last "
            "checkpoint, which is intact if one was saved."
        )
