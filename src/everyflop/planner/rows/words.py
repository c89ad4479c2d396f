"""What the free text of a table's line says that matters for speed.

A word counts unless it is denied: "no", "not", "without", "w/o" or "excluding" before it; "off", "disabled", "none",
"not used" or 0 after it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

BALANCED = (
    r"(?<!load[- ])(?:force[d]?[- ])?balanced\b|token.?drop\w*|capacity (?:factor )?\d(?:\.\d+)?(?![\d ]*[GT]B)|padded"
)
COMPILED = r"compile\w*"
MTP = r"MTP\b"
OVERLAP = r"(?:\b(?!no\b|not\b|without\b)\w+[ -])?overlap\w*(?: features)?"
POWER_LIMIT = re.compile(r"(\d{2,4}) ?W (?:power )?limit|limit(?:ed to)? (\d{2,4}) ?W\b", re.IGNORECASE)

_DENIED_BEFORE = re.compile(r"\b(?:(?:no|not|non|without|w/o|excluding)[ -]+(?:torch\.)?|un|im)$", re.IGNORECASE)
_DENIED_AFTER = re.compile(r"(?: is|:|=)? ?(?:off|disabled|none|no|0|not (?:used|enabled))\b", re.IGNORECASE)


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
    overlap = list(re.finditer(OVERLAP, text, re.IGNORECASE))
    return Words(
        balanced=_says(BALANCED, text),
        compiled=_says(COMPILED, text),
        overlaps=not overlap or any(not _denied(found, text) for found in overlap),
        mtp=_says(MTP, text),
        power_limit_w=float(limit[1] or limit[2]) if limit else None,
    )


def _says(words: str, text: str) -> bool:
    return any(not _denied(found, text) for found in re.finditer(words, text, re.IGNORECASE))


def _denied(found: re.Match[str], text: str) -> bool:
    return bool(_DENIED_BEFORE.search(text[: found.start()]) or _DENIED_AFTER.match(text, found.end()))
