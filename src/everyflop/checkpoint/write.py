"""Write a checkpoint so that a crash at any instant leaves the previous ones usable.

All files go into a temporary folder, are read back, flushed to disk, and appear under their name in one rename.
"""

import contextlib
import errno
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from everyflop.base.errors import UsageError
from everyflop.base.files import new_folder
from everyflop.base.progress import OpenProgress, quiet
from everyflop.base.units import GIB
from everyflop.checkpoint.folder import remove, retain, step_folder, sweep
from everyflop.checkpoint.manifest import MANIFEST_NAME, Manifest, describe_files, verify, write_manifest
from everyflop.checkpoint.tensors import write_tensors

STATE_NAME = "state.json"


def save(
    folder: Path,
    step: int,
    *,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    files: Mapping[str, bytes],
    keep: int,
) -> Path:
    """Write folder/step-XXXXXXXX, remove all but the newest `keep` checkpoints, and return the path.

    `tensors` have flat names ("model.norm.weight", "exp_avg.norm.weight"), any dtype and device; `state` is plain
    JSON; `files` are small extra files, name -> content. A good checkpoint of the same step is left as it is, a
    damaged one is replaced. The caller holds the run's lock.

    Raises UsageError when the disk is full; earlier checkpoints are intact then. Raises ValueError for a state that
    JSON would change, and for a file name that a checkpoint needs itself.
    """
    sweep(folder)
    path = step_folder(folder, step)
    if not path.exists() or verify(path):
        write_checkpoint(path, step, tensors=tensors, state=state, files=files)
    retain(folder, written=path, keep=keep)
    return path


def write_checkpoint(
    path: Path,
    step: int,
    *,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    files: Mapping[str, bytes],
    progress: OpenProgress = quiet,
) -> None:
    """Write one checkpoint at `path`, in place of whatever stands there."""
    contents = {**_checked_names(files), STATE_NAME: _exact_json(state)}
    with _disk_full_explained(path, tensors), new_folder(path) as temporary:
        stored = write_tensors(temporary, tensors, progress=progress)
        for name, content in contents.items():
            (temporary / name).write_bytes(content)
        write_manifest(temporary, Manifest(step, describe_files(temporary, progress=progress), stored))
        if path.exists():
            remove(path)


def _exact_json(state: Mapping[str, Any]) -> bytes:
    """Encode a state, refusing what would come back changed: integer keys, tuples, NaN."""
    text = json.dumps(dict(state), indent=2, allow_nan=False)
    loaded = json.loads(text)
    if changed := sorted(str(key) for key, value in state.items() if loaded.get(key) != value):
        raise ValueError(
            f"JSON changes these entries of the state: {', '.join(changed)}; use plain lists and text keys"
        )
    return text.encode()


def _checked_names(files: Mapping[str, bytes]) -> Mapping[str, bytes]:
    for name in files:
        if name in (MANIFEST_NAME, STATE_NAME) or ".safetensors" in name or Path(name).name != name:
            raise ValueError(f"'{name}' cannot be an extra file of a checkpoint: its own files have such names")
    return files


@contextlib.contextmanager
def _disk_full_explained(path: Path, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # EFBIG is a file-size limit, EDQUOT a user's quota: to the user all three mean "no room".
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        needed_gib = sum(tensor.nbytes for tensor in tensors.values()) / GIB
        free_gib = shutil.disk_usage(path.parent).free / GIB
        raise UsageError(
            f"no room for checkpoint {path}: {error.strerror}. It needs about {needed_gib:.2f} GiB, and "
            f"{free_gib:.2f} GiB are free. Earlier checkpoints are intact: free some space, then resume."
        ) from error
