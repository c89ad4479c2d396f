"""End a child process when the process that started it has died, however that died."""

import ctypes
import os
import signal
import sys
import threading
import time

PARENT = "EVERYFLOP_PARENT"
"""Environment variable with the process number of whoever started this one and wants to be outlived by nobody."""

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Arrange that this process is killed when its parent dies; does nothing for a process that nobody's child is."""
    if PARENT not in os.environ:
        return
    parent = int(os.environ.pop(PARENT))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(128 + signal.SIGKILL)
