"""Open a checkpoint: check it first, then hand out its state, files and tensors."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from everyflop.base.errors import DamagedFile, UsageError
from everyflop.base.progress import OpenProgress, quiet
from everyflop.checkpoint.folder import list_checkpoints
from everyflop.checkpoint.manifest import FileInfo, TensorInfo, file_problems, read_manifest
from everyflop.checkpoint.tensors import dtype_name, read_tensors
from everyflop.checkpoint.write import STATE_NAME


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose manifest has been read. Tensors stay on disk until they are asked for."""

    path: Path
    step: int
    state: dict[str, Any]
    tensors: dict[str, TensorInfo]
    files: dict[str, FileInfo]

    def file(self, name: str) -> bytes:
        """Return an extra file's content. Raises UsageError if it was never there, DamagedFile if it changed."""
        if name not in self.files:
            raise UsageError(f"{self.path} holds no {name}. It holds: {', '.join(sorted(self.files))}.")
        return _read_checked(self.path, name, self.files[name])

    def load(
        self, names: str | Iterable[str], *, device: torch.device | str = "cpu", progress: OpenProgress = quiet
    ) -> dict[str, Tensor]:
        """Load the named tensors, or with a text such as "model." all whose names start with it.

        Raises DamagedFile for a name that is not there.
        """
        wanted = [name for name in self.tensors if name.startswith(names)] if isinstance(names, str) else list(names)
        if missing := [name for name in wanted if name not in self.tensors]:
            raise DamagedFile(f"{self.path} lacks {', '.join(missing)}")
        infos = {name: self.tensors[name] for name in wanted}
        loaded = {n: torch.empty(i.shape, dtype=getattr(torch, i.dtype), device=device) for n, i in infos.items()}
        read_tensors(self.path, loaded, progress=progress)
        return loaded

    def load_into(self, tensors: Mapping[str, Tensor]) -> None:
        """Fill tensors of any device in place; nothing is filled unless all fit.

        For each kind of tensor asked for (the name up to its first dot) exactly the stored ones must be asked for,
        with their shapes and dtypes. Raises DamagedFile naming every misfit.
        """
        if misfits := self._misfits(tensors):
            raise DamagedFile(f"{self.path} does not fit:\n" + "\n".join(f"  - {misfit}" for misfit in misfits))
        read_tensors(self.path, tensors)

    def _misfits(self, tensors: Mapping[str, Tensor]) -> list[str]:
        misfits = []
        for name, tensor in tensors.items():
            wanted = f"{dtype_name(tensor.dtype)} {tuple(tensor.shape)}"
            if name not in self.tensors:
                misfits.append(f"{name} is missing")
            elif (stored := f"{self.tensors[name].dtype} {self.tensors[name].shape}") != wanted:
                misfits.append(f"{name} is {stored} in {self.tensors[name].file} where {wanted} is needed")
        kinds = {name.partition(".")[0] for name in tensors}
        extra = [name for name in self.tensors if name.partition(".")[0] in kinds and name not in tensors]
        return misfits + [f"{name} is stored and has no place here" for name in extra]


def open_checkpoint(path: Path, *, verify: bool = True, progress: OpenProgress = quiet) -> Checkpoint:
    """Open one checkpoint; with `verify` every byte of it is read and checked first.

    Raises DamagedFile naming each file that is missing, cut short or changed, and UsageError when a newer everyflop
    wrote it. Without `verify` only the manifest, the sizes and the state are checked.
    """
    manifest = read_manifest(path)
    if problems := file_problems(path, manifest, contents=verify, progress=progress):
        raise DamagedFile(f"checkpoint {path} is damaged: {'; '.join(problems)}")
    state = json.loads(_read_checked(path, STATE_NAME, manifest.files[STATE_NAME]))
    return Checkpoint(path, manifest.step, state, manifest.tensors, manifest.files)


def newest_good(
    folder: Path, on_damaged: Callable[[Path, str], None], *, progress: OpenProgress = quiet
) -> Checkpoint | None:
    """Open the newest checkpoint that passes every check, or return None.

    Each damaged one met on the way is reported as on_damaged(path, what is wrong) and skipped.
    """
    for path in reversed(list_checkpoints(folder)):
        try:
            return open_checkpoint(path, progress=progress)
        except DamagedFile as error:
            on_damaged(path, str(error))
    return None


def _read_checked(folder: Path, name: str, info: FileInfo) -> bytes:
    content = (folder / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != info.sha256:
        raise DamagedFile(f"checkpoint {folder} is damaged: {name} does not match its checksum")
    return content
