"""Merge checkpoints into one set of weights.

With a constant learning rate, a weighted sum of checkpoints equals training with a decayed one (WSM, arXiv
2507.17634); optim/merge.py derives the weights.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from everyflop.base.errors import UsageError
from everyflop.base.progress import Bar, OpenProgress, quiet
from everyflop.checkpoint.folder import refuse_run_folder
from everyflop.checkpoint.read import Checkpoint, open_checkpoint
from everyflop.checkpoint.write import STATE_NAME, write_checkpoint

_MODEL_NAME = "model.json"


def merge(paths: Sequence[Path], out: Path, *, weights: Sequence[float], progress: OpenProgress = quiet) -> None:
    """Write to `out` a checkpoint whose model and router tensors are the weighted sum of the sources'.

    Sums run in fp64 and are stored in the newest source's dtype. The expert bias and running statistics of routers
    are averaged like parameters; integer tensors and extra files are the newest source's. There is no optimizer
    state; state.json tells the sources, their weights and the newest one's token count.

    Raises UsageError when `out` exists or stands in a run's checkpoints folder, the sources are not of one model, or
    the weights do not sum to 1; DamagedFile when a source is damaged.
    """
    if out.exists():
        raise UsageError(f"{out} exists already. Name a folder that does not exist yet.")
    refuse_run_folder(out)
    if len(weights) != len(paths) or abs(sum(weights) - 1.0) > 1e-6:
        raise UsageError(f"the {len(weights)} weights {list(weights)} of {len(paths)} checkpoints must sum to 1")
    sources = [open_checkpoint(path, progress=progress) for path in paths]
    newest = max(sources, key=lambda source: source.step)
    _check_same_model(sources, newest)
    shares = zip(sources, weights, strict=True)
    state = {
        "merged_from": [{"path": str(source.path), "step": source.step, "weight": share} for source, share in shares],
        **({"tokens": newest.state["tokens"]} if "tokens" in newest.state else {}),
    }
    extra = [name for name in newest.files if name != STATE_NAME and ".safetensors" not in name]
    write_checkpoint(
        out,
        newest.step,
        tensors=_weighted_sums(sources, newest, weights, progress),
        state=state,
        files={name: newest.file(name) for name in extra},
        progress=progress,
    )


def _check_same_model(sources: Sequence[Checkpoint], newest: Checkpoint) -> None:
    wanted = _mergeable(newest)
    for source in sources:
        held = _mergeable(source)
        if differing := sorted(name for name in wanted.keys() | held.keys() if wanted.get(name) != held.get(name)):
            raise UsageError(
                f"{source.path} and {newest.path} hold different models: {', '.join(differing[:5])} differ in "
                "presence, dtype or shape. Only checkpoints of one run can be merged."
            )
        if _MODEL_NAME in newest.files and source.files.get(_MODEL_NAME) != newest.files[_MODEL_NAME]:
            raise UsageError(f"{_MODEL_NAME} in {source.path} differs from {newest.path}: these are different models.")


def _mergeable(checkpoint: Checkpoint) -> dict[str, tuple[str, tuple[int, ...]]]:
    infos = checkpoint.tensors.items()
    return {name: (info.dtype, info.shape) for name, info in infos if name.startswith(("model.", "router."))}


def _weighted_sums(
    sources: Sequence[Checkpoint], newest: Checkpoint, weights: Sequence[float], progress: OpenProgress
) -> dict[str, Tensor]:
    """Sum file by file, so that of the sources no more than one file's tensors are in memory at a time."""
    merged: dict[str, Tensor] = {}
    wanted = _mergeable(newest)
    with progress("Merging", total=len(wanted) * len(sources), unit="tensors") as bar:
        for file in sorted({newest.tensors[name].file for name in wanted}):
            names = [name for name, info in newest.tensors.items() if info.file == file]
            merged |= _weighted_sum(sources, newest.load(names), weights, bar)
    return merged


def _weighted_sum(
    sources: Sequence[Checkpoint], latest: dict[str, Tensor], weights: Sequence[float], bar: Bar
) -> dict[str, Tensor]:
    sums = {name: torch.zeros(t.shape, dtype=torch.float64) for name, t in latest.items() if t.is_floating_point()}
    for source, weight in zip(sources, weights, strict=True):
        for name, tensor in source.load(latest).items():
            if name in sums:
                sums[name].add_(tensor.double(), alpha=weight)
            bar.advance()
    return {name: sums[name].to(tensor.dtype) if name in sums else tensor for name, tensor in latest.items()}
