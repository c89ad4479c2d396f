"""A Hugging Face folder becomes a checkpoint of ours, with fp32 weights to train on."""

import json
from pathlib import Path

import torch

from everyflop.base.errors import UsageError
from everyflop.base.progress import OpenProgress, quiet
from everyflop.checkpoint.folder import refuse_run_folder
from everyflop.checkpoint.write import write_checkpoint
from everyflop.export.converted import CARRIED, HF_SOURCE_NAME, Converted
from everyflop.model.hf.config import IMPORTED_CONFIG_NAME, read_config
from everyflop.model.hf.folder import list_tensors
from everyflop.model.hf.load import load_tensors, source_of_folder


def import_hf(hf_dir: Path, out: Path, *, progress: OpenProgress = quiet) -> Converted:
    """Write the model of a Hugging Face folder as a checkpoint at `out`, with its tokenizer's files.

    Weights become fp32; the types they had are noted, so that exporting them unchanged gives back the same tensors.
    Raises UsageError if `out` exists or stands in a run's checkpoints folder, and what load_hf raises.
    """
    if out.exists():
        raise UsageError(f"{out} exists already; choose a new folder or remove it first.")
    refuse_run_folder(out)
    spec, config = read_config(hf_dir)
    tensors = load_tensors(hf_dir, spec, torch.float32, progress=progress)
    source = source_of_folder(spec, config, list_tensors(hf_dir))
    files = {name: (hf_dir / name).read_bytes() for name in CARRIED if (hf_dir / name).is_file()}
    files["model.json"] = spec.model_dump_json(indent=2).encode()
    files[IMPORTED_CONFIG_NAME] = json.dumps(config, indent=2).encode()
    files[HF_SOURCE_NAME] = json.dumps(source.to_json(), indent=2).encode()
    write_checkpoint(
        out,
        0,
        tensors={f"model.{name}": tensor for name, tensor in tensors.items()},
        state={"schema": 1, "imported_from": str(hf_dir)},
        files=files,
        progress=progress,
    )
    return Converted.of(spec, out, tensors, "float32")
