"""A slower device, simulated: what is done takes a multiple of the processor time that it needs here."""

import contextlib
import time
from collections.abc import Callable, Iterator


class SlowDevice:
    """Stretches blocks of work by waiting.

    What is stretched is `worked_s`, by default the thread's processor time, so that other load on this machine is not
    multiplied with it.
    """

    def __init__(
        self,
        slowdown: float,
        *,
        now_s: Callable[[], float] = time.monotonic,
        worked_s: Callable[[], float] = time.thread_time,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.slowdown, self._now_s, self._worked_s, self._sleep = slowdown, now_s, worked_s, sleep

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """Make the block take as long as on the slower device."""
        started_s, before_s = self._now_s(), self._worked_s()
        yield
        wanted_s = self.slowdown * (self._worked_s() - before_s)
        if self.slowdown > 1 and (wait_s := wanted_s - (self._now_s() - started_s)) > 0:
            self._sleep(wait_s)
