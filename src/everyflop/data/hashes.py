"""Hashes of source files, remembered so that a large corpus is not read again each time a run starts.

A large file is known by its path, size and time of last change; small ones are simply hashed again.
"""

import json
from pathlib import Path

from everyflop.base.files import sha256_file, write_json

REMEMBERED_FROM_BYTES = 64 << 20
"""Smaller files take less than about a tenth of a second."""


class FileHashes:
    """SHA-256 of files, with a memory in a JSON file that may be deleted at any time."""

    def __init__(self, memory: Path):
        self._memory = memory
        self._known: dict[str, list[int | str]] = _read(memory)
        self._changed = False

    def sha256(self, path: Path) -> str:
        """Return the hex digest of a file."""
        status = path.stat()
        if status.st_size < REMEMBERED_FROM_BYTES:
            return sha256_file(path)
        key, seen = str(path.resolve()), [status.st_size, status.st_mtime_ns]
        if self._known.get(key, [])[:2] != seen:
            self._known[key] = [*seen, sha256_file(path)]
            self._changed = True
        return str(self._known[key][2])

    def save(self) -> None:
        """Write what was learnt, if anything."""
        if self._changed:
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._memory, self._known)


def _read(memory: Path) -> dict[str, list[int | str]]:
    try:
        known = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        return {}  # nothing is lost but time
    return known if isinstance(known, dict) else {}
