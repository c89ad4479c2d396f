"""Decide which groups of documents are held out for validation.

The decision hangs on a hash of the group's name alone: it stays the same when other documents come or go.
"""

import hashlib


def place(group: str) -> float:
    """Return where in [0, 1) the group's name falls."""
    digest = hashlib.sha256(group.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def is_held_out(group: str, share: float) -> bool:
    """Whether the group belongs to the held-out share (0..1) of all groups."""
    return place(group) < share
