"""What `select` of a kernel answers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Choice:
    """Which implementation runs, and why."""

    kernel: str
    implementation: str
    reason: str
