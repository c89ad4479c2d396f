"""How a run with islands can end, and what to say where it failed."""

from everyflop.base.errors import ExpectedNo

FAILURES = {
    "diverged": "several rounds in a row brought no update that could be merged, so the run has diverged. Start again "
    "with a lower optim.lr or optim.clip; the last checkpoint is intact.",
    "differs": "the replay has come to another anchor than its log; events.jsonl says in which round. Replay with the "
    "same versions, threads and kind of processor.",
}


def refuse_failure(how: str) -> None:
    """Raise ExpectedNo for a run that ended otherwise than "finished", "stopped" or, for one island, "left"."""
    if how in FAILURES:
        raise ExpectedNo(FAILURES[how])
