"""Fill in what the user left open, once, so that a resume never decides again.

The result is a run spec without "auto" and without open defaults; the run directory keeps it as run.toml.
"""

import os
from dataclasses import dataclass
from typing import Any

from everyflop.accounting.laws import default_batch_tokens, default_lr, law_note, training_compute
from everyflop.backend.compiler import why_not
from everyflop.backend.device import Device, Precision
from everyflop.base.errors import UsageError
from everyflop.spec.data import DataSpec
from everyflop.spec.dotted import dotted
from everyflop.spec.islands import NOT_AGREED
from everyflop.spec.model import ModelSpec
from everyflop.spec.run import RunSpec
from everyflop.spec.train import TrainSpec

LARGEST_DEFAULT_MICRO_BATCH = 16

COMPILE_FROM_FLOPS = 2e13
"""Of a run on the processor: a minute and more. Compiling took 15 s there and saved a tenth to a quarter of a step."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A run with nothing left open: `run` says all of it, the other fields repeat what used to be optional."""

    run: RunSpec
    model: ModelSpec
    threads: int
    batch_tokens: int
    micro_batch: int
    precision: Precision
    compile: bool
    peak_lr: float
    law_note: str | None
    """How far the scaling law can be trusted that gave the batch or the learning rate; None where the user set both."""


def settle(run: RunSpec, model: ModelSpec, device: Device) -> Settled:
    """Decide threads, precision, batch, micro-batch and learning rate where the run leaves them open.

    Raises UsageError if the run is too short for one step, or what it leaves open does not fit what it says.
    """
    train = run.train
    unit = train.seq_len * (train.micro_batch or 1)
    batch_tokens = train.batch_tokens or default_batch_tokens(model, train.tokens, unit)
    if batch_tokens > train.tokens:
        raise UsageError(
            f"train.tokens = {train.tokens} is less than one batch of {batch_tokens} tokens. Train on more tokens, "
            f"or lower train.seq_len = {train.seq_len}."
        )
    precision = device.best_precision if train.precision == "auto" else train.precision
    micro_batch = train.micro_batch or _default_micro_batch(train, batch_tokens)
    compiles = _compiles(train, model, device)
    threads = run.run.threads or len(os.sched_getaffinity(0))
    peak_lr = run.optim.lr or default_lr(model, train.tokens)
    update = {"batch_tokens": batch_tokens, "micro_batch": micro_batch, "precision": precision}
    update["compile"] = "on" if compiles else "off"
    full = run.model_copy(
        update={
            "model": model,
            "run": run.run.model_copy(update={"threads": threads}),
            "train": train.model_copy(update=update),
            "optim": run.optim.model_copy(update={"lr": peak_lr}),
        }
    )
    if misfits := full.all_misfits():
        raise UsageError("the run does not fit together: " + "; ".join(f"{key} {what}" for key, what in misfits))
    by_law = train.batch_tokens is None or run.optim.lr is None
    note = law_note(training_compute(model, train.tokens)) if by_law else None
    return Settled(full, model, threads, batch_tokens, micro_batch, precision, compiles, peak_lr, note)


def _compiles(train: TrainSpec, model: ModelSpec, device: Device) -> bool:
    """Decide by what there is and by the run's size, never by a stopwatch."""
    why = why_not(device) if train.compile != "off" else None
    if train.compile == "on" and why:
        raise UsageError(
            f"train.compile = 'on', and torch cannot compile here: {why}. Install one, or set train.compile=off; a run "
            "that began compiled goes on with other rounding then, which --allow-change permits."
        )
    long = device.type == "cpu" and training_compute(model, train.tokens) >= COMPILE_FROM_FLOPS
    return train.compile == "on" or (train.compile == "auto" and why is None and long and train.recompute == "none")


def _default_micro_batch(train: TrainSpec, batch_tokens: int) -> int:
    """Return the largest number of sequences, up to a bound, that divides the first and the full batch."""
    full, first = batch_tokens // train.seq_len, (train.batch_warmup_from or batch_tokens) // train.seq_len
    sizes = range(min(LARGEST_DEFAULT_MICRO_BATCH, first), 0, -1)
    return next(size for size in sizes if not full % size and not first % size)


def keep_settled(run: RunSpec, earlier: RunSpec) -> RunSpec:
    """Return the run with everything it leaves open taken from the same run as it was settled earlier."""
    return run.model_copy(
        update={
            "model": run.model or earlier.model,
            "run": _fill(run.run, earlier.run, "threads"),
            "train": _fill(run.train, earlier.train, "batch_tokens", "micro_batch", "precision", "compile"),
            "optim": _fill(run.optim, earlier.optim, "lr"),
            "data": run.data if run.init_from is None else _same_tokenizer(run.data, earlier.data),
        }
    )


def _same_tokenizer(data: DataSpec, earlier: DataSpec) -> DataSpec:
    """Keep the tokenizer that came with the weights a run started from."""
    is_open = data.tokenizer == "train" and data.vocab_size is None
    return data.model_copy(update={"tokenizer": earlier.tokenizer}) if is_open else data


def _fill(section, earlier, *names: str):
    open_names = [name for name in names if getattr(section, name) in (None, "auto")]
    return section.model_copy(update={name: getattr(earlier, name) for name in open_names})


NOT_NUMERIC = (
    "run.name",
    "run.out_dir",
    "data.prepared_dir",
    "train.validate_",
    "checkpoint.",
    "money.price_per_device_hour",
    "money.example",
    "data.tokenizer",
)
"""Keys that may change on resume: they do not touch the weights. (A currency may not: sums of two
make no sense.) What a tokenizer holds, wherever it lies, is in the data's fingerprint, which is compared as well."""


def changed_numerics(run: RunSpec, earlier: RunSpec) -> dict[str, Any]:
    """Return the settings that affect weights and differ: key -> [earlier, now]."""
    before, now = dotted(earlier.to_tables()), dotted(run.to_tables())
    keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    may_change = {
        "island",
        *(f"islands.{key}" for key in NOT_AGREED),
    }  # who takes part, and for how long they are awaited
    return {
        key: [before.get(key), now.get(key)]
        for key in keys
        if key not in may_change and not key.startswith(NOT_NUMERIC)
    }
