"""Torch's cache of compiled libraries, without those that were never finished.

A compiler that is killed leaves half a library under the name that every later process loads. Depending on where it
ends, that is an ImportError or a bus error which nothing can catch; where torch tests for vector units with it, they
are never used again. So files are looked at before any is loaded.
"""

import os
import struct
import sys
from pathlib import Path

_HEADER_BYTES = 64
_MAGIC = b"\x7fELF\x02\x01"
"""64 bits, little-endian."""


def remove_unfinished() -> list[Path]:
    """Remove unfinished libraries and object files from torch's cache; return which. Torch makes them again then.

    What a living process is making stays.
    """
    if sys.platform != "linux" or sys.byteorder != "little":
        return []
    from torch._inductor.codecache import get_lock_dir
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    files = [path for kind in ("*/*.so", "*/*.o") for path in Path(cache_dir()).glob(kind)]
    return [path for path in sorted(files) if not _is_whole(path) and _remove(path, Path(get_lock_dir()))]


def _remove(path: Path, locks: Path) -> bool:
    from filelock import FileLock, Timeout  # torch's own locks are of this kind

    try:
        with FileLock(locks / f"{path.name.partition('.')[0]}.lock", timeout=0):
            if _is_whole(path):  # it was finished meanwhile
                return False
            path.unlink(missing_ok=True)
            return True
    except Timeout:
        return False


def _is_whole(path: Path) -> bool:
    """Return whether a file ends where its table of sections does, which linkers and assemblers write last."""
    try:
        with path.open("rb") as file:
            header, size = file.read(_HEADER_BYTES), os.fstat(file.fileno()).st_size
    except FileNotFoundError:  # another process removed it
        return True
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        return False
    (table,), (entry, entries) = struct.unpack_from("<Q", header, 40), struct.unpack_from("<HH", header, 58)
    return table > 0 and table + entry * entries == size
