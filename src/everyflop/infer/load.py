"""Load a model from either of its two homes: a checkpoint (or run directory) of ours, or an HF directory."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from everyflop.base.errors import UsageError
from everyflop.checkpoint import find, open_checkpoint
from everyflop.model.hf.config import CONFIG_NAME, IMPORTED_CONFIG_NAME, read_config
from everyflop.model.hf.load import load_hf, load_tensors
from everyflop.model.transformer import CausalLM
from everyflop.spec.model import ModelSpec


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's shape and tensors by our names, in the types they were stored in."""

    spec: ModelSpec
    tensors: dict[str, Tensor]


def is_hf(path: Path) -> bool:
    """Whether a folder is an HF directory."""
    return (path / CONFIG_NAME).is_file()


def read_spec(path: Path) -> ModelSpec:
    """Read the shape of the model at a checkpoint, run or HF directory, and none of its weights."""
    if is_hf(path):
        return read_config(path)[0]
    return ModelSpec.model_validate_json(open_checkpoint(find(path), verify=False).file("model.json"))


def read_weights(path: Path) -> Weights:
    """Read all weights at a checkpoint, run or HF directory. Raises UsageError or DamagedFile."""
    if is_hf(path):
        spec, _ = read_config(path)
        return Weights(spec, load_tensors(path, spec))
    checkpoint = open_checkpoint(find(path))
    spec = ModelSpec.model_validate_json(checkpoint.file("model.json"))
    tensors = checkpoint.load([name for name in checkpoint.tensors if name.startswith("model.")])
    return Weights(spec, {name.removeprefix("model."): tensor for name, tensor in tensors.items()})


def load_checkpoint(path: str | Path, dtype: torch.dtype | None = None) -> CausalLM:
    """Return the model of a checkpoint folder or of a run directory's newest one; dtype None keeps fp32."""
    weights = read_weights(Path(path))
    with torch.device("meta"):
        model = CausalLM(weights.spec)
    model.load_state_dict(weights.tensors, assign=True)
    return model if dtype is None else to_dtype(model, dtype)


def to_dtype(model: CausalLM, dtype: torch.dtype) -> CausalLM:
    """Cast the parameters; expert biases stay fp32, as routing needs them."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def load_model(path: str | Path, dtype: torch.dtype | None = None) -> CausalLM:
    """Return the model at either kind of directory. Raises UsageError when the path is neither."""
    path = Path(path)
    if not path.is_dir():
        raise UsageError(f"{path} is no folder. Name a checkpoint, a run directory, or an HF directory.")
    return load_hf(path, dtype=dtype) if is_hf(path) else load_checkpoint(path, dtype)


def has_tokenizer(path: Path) -> bool:
    """Whether a tokenizer.json belongs to a model folder."""
    return (_folder(path) / "tokenizer.json").is_file()


def _folder(path: Path) -> Path:
    return path if is_hf(path) else find(path)


def begin_id(path: Path) -> int | None:
    """Return the id that texts of a published model begin with, also of an imported one; None where none is named."""
    found = _said(path, "bos_token_id", CONFIG_NAME, IMPORTED_CONFIG_NAME)
    return found if isinstance(found, int) else None


def end_ids(path: Path) -> set[int]:
    """Return the ids that end a text of a published model or one that began as such, as its files have them."""
    found = _said(path, "eos_token_id", "generation_config.json", CONFIG_NAME, IMPORTED_CONFIG_NAME)
    return {one for one in (found if isinstance(found, list) else [found]) if isinstance(one, int)}


def _said(path: Path, key: str, *names: str) -> Any:
    """Return what the first of these files beside a model that says something of a key says; None where none does."""
    files = (_folder(path) / name for name in names)
    said = (json.loads(file.read_bytes()).get(key) for file in files if file.is_file())
    return next((value for value in said if value is not None), None)


def tokenizer_file(path: Path) -> Path:
    """Return the tokenizer.json that belongs to a model folder. Raises UsageError when there is none."""
    folder = _folder(path)
    file = folder / "tokenizer.json"
    if not has_tokenizer(path):
        raise UsageError(f"{folder} has no tokenizer.json, so text cannot be read or written. Copy the model's there.")
    return file
