"""A checkpoint of ours becomes a Hugging Face folder that transformers, vLLM, SGLang and llama.cpp load."""

import json
from pathlib import Path
from typing import Any

import torch

from everyflop.base.progress import OpenProgress, quiet
from everyflop.checkpoint.folder import find
from everyflop.checkpoint.read import Checkpoint, open_checkpoint
from everyflop.export.converted import CARRIED, HF_SOURCE_NAME, Converted
from everyflop.export.tokenizer import token_ids, tokenizer_config
from everyflop.model.hf.config import IMPORTED_CONFIG_NAME
from everyflop.model.hf.names import parts
from everyflop.model.hf.save import check_target, save_tensors
from everyflop.model.hf.source import Source
from everyflop.spec.model import ModelSpec


def export_checkpoint(
    ckpt: Path, out: Path, *, dtype: torch.dtype | None = None, progress: OpenProgress = quiet
) -> Converted:
    """Write the model of a checkpoint, or of a run directory's newest one, as a Hugging Face folder.

    dtype None keeps fp32, or for an imported model whose weights are unchanged the types it came with. Tokenizer files
    are carried along; a tokenizer of our own gets the tokenizer_config.json that transformers needs. Raises UsageError
    if `out` exists or config.json cannot express the model, DamagedFile for a damaged checkpoint.
    """
    check_target(out)  # before all of a checkpoint is read
    checkpoint = open_checkpoint(find(ckpt), progress=progress)
    spec = ModelSpec.model_validate_json(checkpoint.file("model.json"))
    names = sorted({f"model.{part.ours}" for part in parts(spec)})
    loaded = checkpoint.load(names, progress=progress)
    tensors = {name.removeprefix("model."): tensor for name, tensor in loaded.items()}
    files = {name: checkpoint.file(name) for name in CARRIED if name in checkpoint.files}
    config, source = _origin(checkpoint)
    if "tokenizer.json" in files:
        ours = tokenizer_config(files["tokenizer.json"], spec.max_positions)
        config = config or token_ids(files["tokenizer.json"], files.setdefault("tokenizer_config.json", ours))
    save_tensors(spec, tensors, out, config=config, source=source, dtype=dtype, files=files, progress=progress)
    written: dict[str, Any] = json.loads((out / "config.json").read_bytes())
    return Converted.of(spec, out, tensors, written.get("torch_dtype") or written.get("dtype") or "float32")


def _origin(checkpoint: Checkpoint) -> tuple[dict[str, Any] | None, Source | None]:
    """Return what an imported checkpoint remembers of its files; None, None for one that was trained from scratch."""
    if IMPORTED_CONFIG_NAME not in checkpoint.files:
        return None, None
    config: dict[str, Any] = json.loads(checkpoint.file(IMPORTED_CONFIG_NAME))
    if HF_SOURCE_NAME not in checkpoint.files:
        return config, None
    return config, Source.from_json(config, json.loads(checkpoint.file(HF_SOURCE_NAME)))
