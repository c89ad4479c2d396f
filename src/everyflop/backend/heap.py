"""The heap of a process that trains on a processor: one that keeps large blocks instead of handing them back.

A training step asks for the same large blocks again and again. glibc gives them back to the system, which clears each
page anew, and keeps pieces of them between others. Measured with 99 M parameters (docs/profile.md): a tenth of a step's
processor time and a fifth of its memory go with tcmalloc in glibc's place, and nearly as much time, but no memory, with
glibc told to keep what it has.

A heap is chosen when a process starts, so the process begins again with other variables in its environment.
"""

import contextlib
import ctypes.util
import os
import sys
from collections.abc import Callable, Mapping

TRAINING = ("train", "profile", "measure")
"""Commands that train."""

TCMALLOC = "tcmalloc_minimal"
"""gperftools' heap without its profilers; Debian and Ubuntu have it as libtcmalloc-minimal4."""

KEEPING = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "TCMALLOC_RELEASE_RATE": "0"}
"""What tells glibc to keep every block, whatever its size, and tcmalloc; each looks at its own."""


def begin_again_with_better_heap() -> None:
    """Begin this process again, with the same words and process number, where another heap is better for it."""
    wanted = better_heap(sys.argv[1:], os.environ)
    if wanted and sys.platform == "linux" and sys.executable:
        with contextlib.suppress(OSError):  # it goes on as it is then
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **wanted})


def better_heap(
    words: list[str],
    environment: Mapping[str, str],
    find: Callable[[str], str | None] = ctypes.util.find_library,
) -> dict[str, str]:
    """Return the variables that a process with these words on its command line lacks; none where somebody chose."""
    chosen = [
        name
        for name in environment
        if name in ("LD_PRELOAD", "GLIBC_TUNABLES") or name.startswith(("MALLOC_", "TCMALLOC_"))
    ]
    if not words or words[0] not in TRAINING or chosen:
        return {}
    library = find(TCMALLOC)
    return {**KEEPING, **({"LD_PRELOAD": library} if library else {})}
