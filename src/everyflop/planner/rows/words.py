"""What the free text of a table's line says that matters for speed.

A word counts unless it is denied: "no", "not", "without" or "w/o" before it, "off" or "disabled" after it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

BALANCED = r"balanced|token.?drop\w*|capacity|padded"
COMPILED = r"compile\w*"
MTP = r"MTP\b"
NO_OVERLAP = re.compile(r"(?:no|without) (?:\w+ )?overlap|overlap[^;,.]{0,20} off", re.IGNORECASE)
POWER_LIMIT = re.compile(r"(\d{2,4}) ?W (?:power )?limit", re.IGNORECASE)

_DENIED_BEFORE = re.compile(r"\b(?:(?:no|not|non|without|w/o)[ -]+(?:torch\.)?|un|im)$", re.IGNORECASE)
_DENIED_AFTER = re.compile(r" (?:is )?(?:off|disabled)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Words:
    """What was said."""

    balanced: bool
    """Every expert gets the same number of tokens: forced, padded, or the rest dropped."""
    compiled: bool
    """A compiler fuses elementwise operations."""
    overlaps: bool
    """Communication hides behind computing where it can."""
    mtp: bool
    """A layer predicts one token more."""
    power_limit_w: float | None


def words_of(row: Mapping[str, str]) -> Words:
    """Return what a line's notes and software say."""
    text = f"{row.get('notes', '')} {row.get('software', '')}"
    limit = POWER_LIMIT.search(text)
    return Words(
        balanced=_says(BALANCED, text),
        compiled=_says(COMPILED, text),
        overlaps=not NO_OVERLAP.search(text),
        mtp=_says(MTP, text),
        power_limit_w=float(limit[1]) if limit else None,
    )


def _says(words: str, text: str) -> bool:
    return any(
        not _DENIED_BEFORE.search(text[: found.start()]) and not _DENIED_AFTER.match(text, found.end())
        for found in re.finditer(words, text, re.IGNORECASE)
    )
