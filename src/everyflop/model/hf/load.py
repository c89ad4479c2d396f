"""Load a Hugging Face model folder, one tensor at a time: memory holds the model and one file's pages."""

import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from everyflop.base.errors import DamagedFile
from everyflop.base.progress import OpenProgress, quiet
from everyflop.model.hf.config import read_config
from everyflop.model.hf.folder import DTYPES, Stored, list_tensors, refuse
from everyflop.model.hf.names import Part, copies, parts
from everyflop.model.hf.source import Source, remember
from everyflop.model.transformer import CausalLM
from everyflop.spec.model import ModelSpec

IGNORED = re.compile(r".*rotary_emb\.inv_freq$")
"""Tensors of old checkpoints that config.json determines."""


def load_hf(path: str | Path, dtype: torch.dtype | None = None) -> CausalLM:
    """Return the model of a Hugging Face folder, on the CPU, ready to compute or train.

    dtype None keeps each tensor's type as stored (the expert bias is fp32 at least). `model.hf_config` holds the raw
    config.json. Raises UsageError or InvalidFile for config.json, DamagedFile for tensor files; each message names the
    keys, tensors and files, all at once.
    """
    folder = Path(path)
    spec, config = read_config(folder)
    stored = list_tensors(folder)
    model = empty_model(spec)
    tensors = _load(folder, model, stored, dtype, quiet)
    model.load_state_dict(tensors, assign=True)
    if dtype is None:
        remember(model, source_of_folder(spec, config, stored))
    else:
        vars(model)["hf_config"] = config
    return model


def load_tensors(
    path: str | Path, spec: ModelSpec, dtype: torch.dtype | None = None, *, progress: OpenProgress = quiet
) -> dict[str, Tensor]:
    """Return the tensors of a Hugging Face folder under our names, for a spec that read_config returned.

    Raises DamagedFile as load_hf does.
    """
    folder = Path(path)
    return _load(folder, empty_model(spec), list_tensors(folder), dtype, progress)


def source_of_folder(spec: ModelSpec, config: dict[str, Any], stored: Mapping[str, Stored]) -> Source:
    """Return what to remember of a folder whose tensors list_tensors returned."""
    weights = {name: tensor for name, tensor in stored.items() if not IGNORED.fullmatch(name)}
    return Source.of(config, weights, frozenset(weights) & frozenset(copies(spec)))


def empty_model(spec: ModelSpec) -> CausalLM:
    """Return a model on the meta device: names and shapes without memory."""
    with torch.device("meta"):
        return CausalLM(spec)


def _load(
    folder: Path, model: CausalLM, stored: Mapping[str, Stored], dtype: torch.dtype | None, progress: OpenProgress
) -> dict[str, Tensor]:
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    wanted = list(parts(model.spec))
    refuse(folder, _problems(model, wanted, stored))
    tensors = {
        name: torch.empty(shapes[name], dtype=kept, device="cpu")
        for name, kept in _dtypes(wanted, stored, dtype).items()
    }
    with ExitStack() as files, progress(f"Reading {folder.name}", total=len(wanted), unit="tensors") as bar:
        opened = {}
        for part in sorted(wanted, key=lambda part: stored[part.name].file):
            file = stored[part.name].file
            if file not in opened:
                files.close()  # one file at a time
                opened = {file: files.enter_context(safe_open(file, "pt"))}
            part.of(tensors[part.ours]).copy_(_read(opened[file], part.name, file))
            bar.advance()
    refuse(folder, _unequal_copies(model.spec, stored))
    return tensors


def _problems(model: CausalLM, wanted: list[Part], stored: Mapping[str, Stored]) -> list[str]:
    """Compare the files' headers with what the spec needs."""
    ours, problems = model.state_dict(), []
    shapes = {part.name: tuple(part.of(ours[part.ours]).shape) for part in wanted}
    known = {**shapes, **{name: shapes[other] for name, other in copies(model.spec).items()}}
    problems += [f"tensor {name} is missing" for name in shapes if name not in stored]
    for name, found in stored.items():
        if IGNORED.fullmatch(name):
            continue
        if name not in known:
            problems.append(f"tensor {name} in {found.file.name} has no place in this model")
        elif found.shape != known[name]:
            wanted_shape = list(known[name])
            problems.append(
                f"tensor {name} in {found.file.name} is {list(found.shape)}, config.json says {wanted_shape}"
            )
        elif found.dtype not in DTYPES:
            usable = ", ".join(DTYPES)
            problems.append(f"tensor {name} in {found.file.name} has type {found.dtype}, and one of {usable} is needed")
    return problems


def _dtypes(wanted: list[Part], stored: Mapping[str, Stored], dtype: torch.dtype | None) -> dict[str, torch.dtype]:
    """Return the type of each of our tensors: one that holds all its parts without loss, unless dtype says which."""
    kept: dict[str, torch.dtype] = {}
    for part in wanted:
        found = dtype or DTYPES[stored[part.name].dtype]
        if part.ours.endswith("expert_bias"):
            found = torch.promote_types(found, torch.float32)  # its steps are small: bf16 would lose them
        kept[part.ours] = torch.promote_types(kept.get(part.ours, found), found)
    return kept


def _unequal_copies(spec: ModelSpec, stored: Mapping[str, Stored]) -> list[str]:
    problems = []
    for name, other in copies(spec).items():
        if name not in stored:
            continue
        one, two = (_read_alone(stored[each].file, each) for each in (name, other))
        if one.dtype != two.dtype or not torch.equal(one, two):
            problems.append(f"tensor {name} in {stored[name].file.name} differs from {other}, which it must repeat")
    return problems


def _read_alone(file: Path, name: str) -> Tensor:
    with safe_open(file, "pt") as opened:
        return _read(opened, name, file)


def _read(opened: safe_open, name: str, file: Path) -> Tensor:
    try:
        return opened.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise DamagedFile(f"{file}: tensor {name} cannot be read: {error}") from None
