"""Another device, simulated: a slower one, or one that sums matrix products otherwise."""

import contextlib
import time
from collections.abc import Callable, Iterator

from everyflop.kernels.split_sums import SplitSums
from everyflop.spec.islands import Numerics


class SimulatedDevice:
    """Blocks of work as another device would do them: with its numerics, and stretched by waiting.

    What is stretched is `worked_s`, by default the thread's processor time, so that other load on this machine is not
    multiplied with it.
    """

    def __init__(
        self,
        slowdown: float,
        numerics: Numerics = "own",
        *,
        now_s: Callable[[], float] = time.monotonic,
        worked_s: Callable[[], float] = time.thread_time,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._as_there = contextlib.nullcontext() if numerics == "own" else SplitSums()
        self.slowdown, self._now_s, self._worked_s, self._sleep = slowdown, now_s, worked_s, sleep

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """Make the block compute what the other device would, and take as long."""
        started_s, before_s = self._now_s(), self._worked_s()
        with self._as_there:
            yield
        wanted_s = self.slowdown * (self._worked_s() - before_s)
        if self.slowdown > 1 and (wait_s := wanted_s - (self._now_s() - started_s)) > 0:
            self._sleep(wait_s)
