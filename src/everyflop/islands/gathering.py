"""Which anchor a run goes on from when nothing is under way: what the islands that are there hold decides."""

from collections.abc import Sequence

from everyflop.islands.commit import most_common
from everyflop.islands.roster import Member


def holders(ready: Sequence[Member]) -> list[Member]:
    """Return the islands that hold the anchor to go on from: the newest, and of several of a round that of most.

    One that the run has gone back from counts only where there is no other.
    """
    kept = [member for member in ready if not member.abandoned] or ready
    newest = max(member.round for member in kept)
    agreed = most_common([member.hash for member in kept if member.round == newest])
    return [member for member in kept if member.round == newest and member.hash == agreed]
