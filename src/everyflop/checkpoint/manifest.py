"""The manifest of a checkpoint: what lies in its folder, and whether it still does.

manifest.json is written last. It names every file with size and SHA-256 and every tensor with dtype, shape and file,
and carries a checksum of itself, so that no byte of a checkpoint can change unnoticed.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everyflop.base.errors import DamagedFile, UsageError
from everyflop.base.files import sha256_file, write_json
from everyflop.base.progress import OpenProgress, quiet

SCHEMA = 1
MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A stored tensor: dtype as torch names it ("float32"), shape, and the file it lies in."""

    dtype: str
    shape: tuple[int, ...]
    file: str


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A stored file."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a checkpoint holds, apart from the manifest itself."""

    step: int
    files: dict[str, FileInfo]
    tensors: dict[str, TensorInfo]


def describe_files(folder: Path, *, progress: OpenProgress = quiet) -> dict[str, FileInfo]:
    """Measure every file in a folder."""
    sizes = {path: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
    with progress("Computing checksums", total=sum(sizes.values()), unit="bytes") as bar:
        return {path.name: FileInfo(size, sha256_file(path, advance=bar.advance)) for path, size in sizes.items()}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest with its own checksum."""
    body = {"schema": SCHEMA, **dataclasses.asdict(manifest)}
    write_json(folder / MANIFEST_NAME, {**body, "sha256": _digest(body)})


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest.

    Raises DamagedFile when it is missing, torn or changed, and UsageError when a newer everyflop wrote it.
    """
    path = folder / MANIFEST_NAME
    try:
        body = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise DamagedFile(f"{folder} has no {MANIFEST_NAME}, so nothing tells whether it is whole") from None
    except ValueError as error:
        raise DamagedFile(f"{path} is torn or changed: {error}") from None
    if not isinstance(body, dict):
        raise DamagedFile(f"{path} is torn or changed: it holds no table")
    schema = body.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise UsageError(
            f"{path} has schema {schema}, and this everyflop reads schemas up to {SCHEMA}. "
            "Upgrade everyflop to use this checkpoint."
        )
    if body.pop("sha256", None) != _digest(body):
        raise DamagedFile(f"{path} does not match its own checksum")
    return Manifest(
        step=body["step"],
        files={name: FileInfo(**info) for name, info in body["files"].items()},
        tensors={n: TensorInfo(i["dtype"], tuple(i["shape"]), i["file"]) for n, i in body["tensors"].items()},
    )


def file_problems(folder: Path, manifest: Manifest, *, contents: bool, progress: OpenProgress = quiet) -> list[str]:
    """Compare a folder with its manifest: names and sizes, and with `contents` every byte's checksum.

    Returns one line for each file that differs; an empty list means that all is well.
    """
    problems, whole = [], []
    for name, info in manifest.files.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif (size := path.stat().st_size) != info.size_bytes:
            problems.append(f"{name} has {size} bytes where {info.size_bytes} were written")
        else:
            whole.append(name)
    if contents:
        problems += _changed(folder, {name: manifest.files[name] for name in whole}, progress)
    # The reader takes tensors from every tensor file in the folder, so one too many could stand in for the true one.
    strangers = {path.name for path in folder.glob("*.safetensors")} - manifest.files.keys()
    return problems + [f"{name} does not belong to this checkpoint" for name in sorted(strangers)]


def _changed(folder: Path, files: dict[str, FileInfo], progress: OpenProgress) -> list[str]:
    total = sum(info.size_bytes for info in files.values())
    with progress(f"Checking {folder.name}", total=total, unit="bytes") as bar:
        digests = {name: sha256_file(folder / name, advance=bar.advance) for name in files}
    return [f"{name} does not match its checksum" for name in files if digests[name] != files[name].sha256]


def verify(path: Path, *, progress: OpenProgress = quiet) -> list[str]:
    """Check every byte of a checkpoint. Returns what is wrong, one line each; an empty list means that it is good.

    Raises UsageError when a newer everyflop wrote it.
    """
    try:
        return file_problems(path, read_manifest(path), contents=True, progress=progress)
    except DamagedFile as error:
        return [str(error)]


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
