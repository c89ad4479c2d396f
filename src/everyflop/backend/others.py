"""How much of the processor other processes use: a measurement beside them says little."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from everyflop.spec.measured import DISTURBING_SHARE

STAT = Path("/proc/stat")

IDLE_COLUMNS = (3, 4)
"""Of a processor's counters: idle, and waiting for a disk. The rest is busy, or was lent to another virtual machine."""


@dataclass(frozen=True, slots=True)
class ProcessorUse:
    """Counters at one moment, in seconds."""

    wall_s: float
    everybody_s: float
    """Of all processes, on the processors that this one may use."""
    own_s: float


def processor_use() -> ProcessorUse | None:
    """Return the counters now; None where the system does not tell them (it is Linux that does)."""
    if not STAT.exists():
        return None
    allowed = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    ticks = 0
    for line in STAT.read_text().splitlines():
        name, *counters = line.split()
        if name in allowed:
            ticks += sum(int(count) for column, count in enumerate(counters[:8]) if column not in IDLE_COLUMNS)
    return ProcessorUse(time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time())


def others_share(before: ProcessorUse | None, after: ProcessorUse | None) -> float | None:
    """Return the share of the processors that others used between two moments, 0 to 1; None where it is not known."""
    if before is None or after is None:
        return None
    wall_s = (after.wall_s - before.wall_s) * len(os.sched_getaffinity(0))
    others_s = (after.everybody_s - before.everybody_s) - (after.own_s - before.own_s)
    return min(max(others_s / wall_s, 0.0), 1.0) if wall_s > 0 else None


def is_disturbed(share: float | None) -> bool:
    """Whether others used so much of the processor that what was measured meanwhile is doubtful."""
    return share is not None and share >= DISTURBING_SHARE
