"""The folder that checkpoints stand in: find them, keep the newest, clear away the rest.

Only the process that holds the run's lock writes here, so that a temporary folder met at the start of a save is what
a killed process left.
"""

import re
import shutil
from pathlib import Path

from everyflop.base.errors import DamagedFile, UsageError
from everyflop.base.files import TEMPORARY_PREFIX
from everyflop.checkpoint.manifest import MANIFEST_NAME, file_problems, read_manifest

_STEP_NAME = re.compile(r"step-(\d{8,})")


def step_folder(folder: Path, step: int) -> Path:
    """Return folder/step-00000100 for step 100."""
    return folder / f"step-{step:08d}"


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, oldest first, good or not. A missing folder holds none."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if _STEP_NAME.fullmatch(p.name) and p.is_dir()), key=_step_of)


def find_all(path: Path) -> list[Path]:
    """Return the checkpoints that a path means, oldest first: itself, those in it, or those of a run directory.

    Raises UsageError when there are none.
    """
    if (_STEP_NAME.fullmatch(path.name) and path.is_dir()) or (path / MANIFEST_NAME).is_file():
        return [path]
    found = list_checkpoints(path) or list_checkpoints(path / "checkpoints")
    if not found:
        what = "holds no checkpoint" if path.is_dir() else "does not exist"
        raise UsageError(f"{path} {what}. Give a run directory, its checkpoints folder, or one step-00000100 in it.")
    return found


def find(path: Path) -> Path:
    """Return the newest checkpoint that a path means. Raises UsageError when there is none."""
    return find_all(path)[-1]


def refuse_run_folder(out: Path) -> None:
    """Raise UsageError where `out` would stand among a run's own checkpoints, which it resumes from and clears away."""
    if (parent := out.resolve().parent).name == "checkpoints":
        raise UsageError(f"{parent} is for the checkpoints that a run saves itself. Name a folder elsewhere.")


def retain(folder: Path, *, written: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints; the one just written stays in any case.

    A checkpoint that a glance (names and sizes) shows to be damaged is not counted, and goes once it is older than
    all that are kept.
    """
    paths = list_checkpoints(folder)
    sound = [path for path in paths if path == written or _looks_sound(path)]
    kept = {*sound[-keep:], written}
    oldest_kept = min(_step_of(path) for path in kept)
    for path in paths:
        if path not in kept and (path in sound or _step_of(path) < oldest_kept):
            remove(path)


def remove(path: Path) -> None:
    """Remove a checkpoint so that a crash half-way does not leave one that looks damaged."""
    condemned = path.with_name(f"{TEMPORARY_PREFIX}removed-{path.name}")
    path.rename(condemned)
    shutil.rmtree(condemned)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written or half-removed."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*step-*"):
        shutil.rmtree(leftover)


def _looks_sound(path: Path) -> bool:
    try:
        return not file_problems(path, read_manifest(path), contents=False)
    except DamagedFile:
        return False
    except UsageError:  # a newer everyflop wrote it, and may know better
        return True


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
