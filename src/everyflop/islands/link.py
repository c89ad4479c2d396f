"""A simulated link: bandwidth by a token bucket, latency by waiting. It needs no privileges."""

import threading
import time
from collections.abc import Callable

PACED_BYTES = 1 << 16
"""What is sent at once; a link's pace is kept by waiting between chunks."""

GBIT_BYTES = 1e9 / 8


class Link:
    """Paces what one island sends and receives, each direction by its own bucket."""

    def __init__(
        self,
        gbit_per_s: float | None = None,
        latency_ms: float = 0.0,
        *,
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._seconds_per_byte = 1 / (gbit_per_s * GBIT_BYTES) if gbit_per_s else 0.0
        self.latency_s = latency_ms / 1000
        self._now_s, self._sleep = now_s, sleep
        self._free_at_s = {"up": 0.0, "down": 0.0}
        self._lock = threading.Lock()

    def message(self) -> None:
        """Wait for the way that a message takes."""
        if self.latency_s:
            self._sleep(self.latency_s)

    def pace(self, direction: str, n_bytes: int) -> None:
        """Wait until the link has carried n_bytes more; threads that share a link share its bandwidth."""
        if not self._seconds_per_byte:
            return
        with self._lock:
            start_s = max(self._now_s(), self._free_at_s[direction])
            done_s = self._free_at_s[direction] = start_s + n_bytes * self._seconds_per_byte
        if (wait_s := done_s - self._now_s()) > 0:
            self._sleep(wait_s)
