"""Save a model as a Hugging Face folder: hub key names, safetensors files with an index, config.json."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from everyflop.base.errors import UsageError
from everyflop.base.files import new_folder, write_atomic, write_json
from everyflop.base.progress import Bar, OpenProgress, quiet
from everyflop.model.hf.config import CONFIG_NAME, write_config
from everyflop.model.hf.folder import INDEX_NAME, SINGLE_NAME
from everyflop.model.hf.names import Part, copies, parts, written_copies
from everyflop.model.hf.source import Source, source_of
from everyflop.model.transformer import CausalLM
from everyflop.spec.model import ModelSpec

MAX_SHARD_BYTES = 5 * 10**9


def save_hf(
    model: CausalLM,
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Write a model as a new Hugging Face folder, whole or not at all.

    dtype None keeps each parameter's type; a model from load_hf gives back the files it came from, bit by bit. The
    expert bias stays fp32. `files` are written beside (tokenizer.json and the like). Raises UsageError if the folder
    exists and is not empty, or where the family's config.json cannot express the model.
    """
    config = vars(model).get("hf_config")
    save_tensors(
        model.spec,
        model.state_dict(),
        Path(path),
        config=config,
        source=source_of(model),
        dtype=dtype,
        max_shard_bytes=max_shard_bytes,
        files=files or {},
    )


def save_tensors(
    spec: ModelSpec,
    tensors: Mapping[str, Tensor],
    folder: Path,
    *,
    config: Mapping[str, Any] | None,
    source: Source | None,
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    files: Mapping[str, bytes],
    progress: OpenProgress = quiet,
) -> None:
    """Do what save_hf says for tensors under our names. config and source describe the files the model came from."""
    check_target(folder)
    if max_shard_bytes <= 0:
        raise UsageError(f"max_shard_bytes is {max_shard_bytes}; a file needs room for a tensor.")
    planned = _plan(spec, tensors, source, dtype)
    written_dtype: str | None = str(planned[0][2]).removeprefix("torch.")
    if dtype is None and source is not None and _goes_back(planned, tensors, source):
        planned = [(name, part, source.dtype_of(name)) for name, part, _ in planned]
        written_dtype = None  # config.json says what it said
    table = write_config(spec, config, dtype=written_dtype)
    shards = list(_shards(planned, tensors, max_shard_bytes))
    with new_folder(folder) as temporary:
        with progress("Writing", total=len(planned), unit="tensors") as bar:
            _write_shards(temporary, shards, tensors, bar)
        write_json(temporary / CONFIG_NAME, table)
        for name, content in files.items():
            write_atomic(temporary / name, content)


Planned = tuple[str, Part, torch.dtype]
"""A tensor to write: its name, the block of ours that it is, its type in the file."""


def check_target(folder: Path) -> None:
    """Make way for a new folder. Raises UsageError where something is in it, or it cannot be another one."""
    if folder.is_dir() and not any(folder.iterdir()):
        try:
            folder.rmdir()  # an empty folder holds nothing to lose
        except OSError as error:
            raise UsageError(
                f"{folder} cannot be replaced ({error.strerror}); name a folder in it that does not exist yet."
            ) from None
    if folder.exists():
        raise UsageError(f"{folder} exists already; choose a new folder or remove it first.")


def _plan(
    spec: ModelSpec, tensors: Mapping[str, Tensor], source: Source | None, dtype: torch.dtype | None
) -> list[Planned]:
    """List what the files will hold, the embedding first."""
    by_name = {part.name: part for part in parts(spec)}
    kept = source.copies & copies(spec).keys() if source else written_copies(spec)
    by_name |= {name: by_name[other] for name, other in copies(spec).items() if name in kept}
    return [(name, part, _dtype(part, tensors, dtype)) for name, part in by_name.items()]


def _dtype(part: Part, tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> torch.dtype:
    own = tensors[part.ours].dtype
    if dtype is not None and part.ours.endswith("expert_bias"):
        return torch.promote_types(dtype, torch.float32)
    return dtype or own


def _goes_back(planned: list[Planned], tensors: Mapping[str, Tensor], source: Source) -> bool:
    """Whether every tensor survives a return to the type it was loaded from: true unless training changed it."""
    for name, part, _ in planned:
        block, dtype = part.of(tensors[part.ours]), source.dtype_of(name)
        if block.dtype != dtype and not torch.equal(block.to(dtype).to(block.dtype), block):
            return False
    return True


def _shards(planned: list[Planned], tensors: Mapping[str, Tensor], limit: int) -> Iterator[list[Planned]]:
    """Group tensors in order so that each group's bytes stay within the limit; a larger tensor is alone."""
    shard: list[Planned] = []
    size = 0
    for name, part, dtype in planned:
        more = part.of(tensors[part.ours]).numel() * dtype.itemsize
        if shard and size + more > limit:
            yield shard
            shard, size = [], 0
        shard.append((name, part, dtype))
        size += more
    yield shard


def _write_shards(folder: Path, shards: list[list[Planned]], tensors: Mapping[str, Tensor], bar: Bar) -> None:
    placed: dict[str, str] = {}
    total = 0
    for number, shard in enumerate(shards, 1):
        file = SINGLE_NAME if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        # clone: safetensors refuses tensors that share memory, and blocks of ours do.
        content = {
            name: part.of(tensors[part.ours]).detach().to("cpu", dtype, copy=True).contiguous()
            for name, part, dtype in shard
        }
        try:
            save_file(content, folder / file, metadata={"format": "pt"})
        except SafetensorError as error:  # also where the system has no room
            raise UsageError(
                f"{folder / file} cannot be written: {error}. Free some space, then export again."
            ) from None
        bar.advance(len(shard))
        placed |= dict.fromkeys(content, file)
        total += sum(tensor.nbytes for tensor in content.values())
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": placed}
        write_atomic(folder / INDEX_NAME, json.dumps(index, indent=2, sort_keys=True) + "\n")
