"""Everything one training process holds, how it is built, and how it goes to and from a checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from everyflop.accounting.money import cost
from everyflop.accounting.parameters import count_parameters
from everyflop.backend.device import DTYPES, Device, instruction_set
from everyflop.backend.memory import total_bytes
from everyflop.base.errors import ExpectedNo, UsageError
from everyflop.base.files import write_atomic
from everyflop.base.units import GIB
from everyflop.checkpoint import Checkpoint, save
from everyflop.data.prepared import Prepared
from everyflop.infer.load import read_weights
from everyflop.kernels import attention, grouped_mm
from everyflop.kernels.choice import Choice
from everyflop.model.build import build_model
from everyflop.model.transformer import CausalLM
from everyflop.optim.optimizer import build_optimizer, optimizer_steps, optimizer_tensors, restore_optimizer
from everyflop.spec.data import DataSpec
from everyflop.spec.model import SHAPELESS, ModelSpec
from everyflop.train.run_dir import RunDir, run_toml
from everyflop.train.settings import COMPILE_FROM_FLOPS, Settled
from everyflop.train.state import Progress, RouterLogits
from everyflop.train.step import LocalStep

SCHEMA = 1

COMPANIONS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "generation_config.json")
"""Files that lie beside a given tokenizer and say which of its tokens end a text; they go wherever it goes."""

BYTES_PER_PARAMETER = 16
"""fp32 weights, gradients and two moments of AdamW: the least that training holds."""


@dataclass(slots=True)
class Session:
    """A run in memory."""

    settled: Settled
    model: CausalLM
    optimizer: AdamW
    step: LocalStep
    logits: RouterLogits
    progress: Progress
    environment: dict[str, Any]
    kernels: list[Choice]
    """Which implementation of each kernel runs, and why."""


def build_run_model(settled: Settled, device: Device, *, resumed: bool = False) -> CausalLM:
    """Return a run's model with its starting weights: seeded, or those of init_from unless it is resumed.

    Raises ExpectedNo where the device's memory is too small for its weights, gradients and moments.
    """
    run, dtype = settled.run, DTYPES[settled.precision]
    _refuse_too_large(settled.model, device)
    model = build_model(settled.model, seed=run.run.seed, device=device.torch, compute_dtype=dtype)
    if run.init_from is not None and not resumed:
        weights = read_weights(Path(run.init_from))
        _refuse_other_shape(settled.model, weights.spec, run.init_from)
        model.load_state_dict(weights.tensors)
    model.recompute = run.train.recompute == "layer"
    model.compiled = settled.compile
    if not model.trained_mtp:
        model.mtp.requires_grad_(False)
    return model


def build_session(settled: Settled, model: CausalLM, device: Device) -> Session:
    """Return a run that has not begun."""
    run = settled.run
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return Session(
        settled=settled,
        model=model,
        optimizer=build_optimizer(trained, run.optim),
        step=LocalStep(model, run.router, seed=run.run.seed, device=device.torch),
        logits=RouterLogits.fresh(len(model.routers), device.torch),
        progress=Progress(),
        environment=environment(settled, device),
        kernels=kernel_choices(settled, device),
    )


def environment(settled: Settled, device: Device) -> dict[str, Any]:
    """Return what decides bits besides the run file; recorded with each checkpoint and compared on resume."""
    choices = kernel_choices(settled, device)
    return {
        "torch": torch.__version__.partition("+")[0],
        "device": device.type,
        "instruction_set": instruction_set() if device.type == "cpu" else device.name,
        "kernels": {choice.kernel: choice.implementation for choice in choices},
    }


def kernel_choices(settled: Settled, device: Device) -> list[Choice]:
    """Return which implementation of each kernel the run uses, and why."""
    model = settled.model
    widths = (model.hidden, 2 * model.expert_width, model.expert_width)
    layers = Choice("layers", "compiled", f"the run is of {COMPILE_FROM_FLOPS:.0e} FLOP or more, or told so")
    plain = Choice("layers", "plain", "not worth the start-up, not possible, or told so")
    return [
        grouped_mm.select(DTYPES[settled.precision], *widths),
        attention.select(device.type),
        layers if settled.compile else plain,
    ]


def keep_tokenizer(run_dir: RunDir, data: DataSpec, prepared: Prepared) -> None:
    """Put the tokenizer into the run directory, with the files that lie beside a given one."""
    write_atomic(run_dir.path / "tokenizer.json", prepared.tokenizer_path.read_bytes())
    if data.tokenizer == "train":
        return
    given = Path(data.tokenizer).expanduser()
    for file in [(given if given.is_dir() else given.parent) / name for name in COMPANIONS if given.exists()]:
        if file.is_file():
            write_atomic(run_dir.path / file.name, file.read_bytes())


def save_session(
    session: Session,
    run_dir: RunDir,
    prepared: Prepared,
    *,
    island: Mapping[str, Any] | None = None,
    outer: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a checkpoint of the run as it stands, and return its path.

    `island` is what an island notes about its rounds, `outer` the tensors of its outer step.
    """
    run, model = session.settled.run, session.settled.model
    tensors = {f"model.{name}": tensor for name, tensor in session.model.state_dict().items()}
    tensors |= optimizer_tensors(session.optimizer)
    tensors |= {"router.logit_mean": session.logits.mean_L, "router.logit_square": session.logits.square_L}
    tensors |= {f"outer.{name}": tensor for name, tensor in (outer or {}).items()}
    state = {
        "schema": SCHEMA,
        "tokens": session.progress.tokens,  # for those who list and merge checkpoints
        "progress": asdict(session.progress),
        "optimizer_steps": optimizer_steps(session.optimizer),
        "data_fingerprint": prepared.fingerprint,
        "environment": session.environment,
        **({"island": dict(island)} if island else {}),
    }
    files = {
        "model.json": model.model_dump_json(indent=2).encode(),
        "run.toml": run_toml(run).encode(),
        "tokenizer.json": prepared.tokenizer_path.read_bytes(),
        **{name: (run_dir.path / name).read_bytes() for name in COMPANIONS if (run_dir.path / name).is_file()},
    }
    folder, keep = run_dir.checkpoints, run.checkpoint.keep
    return save(folder, session.progress.step, tensors=tensors, state=state, files=files, keep=keep)


def restore_session(session: Session, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's weights, moments, statistics and counters into a fresh session. Raises DamagedFile."""
    if checkpoint.state["schema"] > SCHEMA:
        raise UsageError(f"{checkpoint.path} was written by a newer everyflop: update to continue it.")
    targets = {f"model.{name}": tensor for name, tensor in session.model.state_dict().items()}
    targets |= {"router.logit_mean": session.logits.mean_L, "router.logit_square": session.logits.square_L}
    checkpoint.load_into(targets)
    moments = checkpoint.load("exp_avg", device=session.step.device)
    restore_optimizer(session.optimizer, moments, steps=checkpoint.state["optimizer_steps"])
    progress, price = checkpoint.state["progress"], session.settled.run.money.price_per_device_hour
    then = {} if "cost" in progress else {"cost": None if price is None else cost(progress["seconds"], price)}
    session.progress = Progress(**then, **progress)


def _refuse_too_large(model: ModelSpec, device: Device) -> None:
    count = count_parameters(model)
    needed, there = BYTES_PER_PARAMETER * (count.total + count.mtp), total_bytes(device.torch)
    if needed > there:
        raise ExpectedNo(
            f"weights, gradients and optimizer state need {needed / GIB:.1f} GiB, and {device.name} has "
            f"{there / GIB:.1f} GiB. Take a smaller model, or a slice with the same widths: "
            f"lower model.n_layers = {model.n_layers} or model.n_experts = {model.n_experts}."
        )


def _refuse_other_shape(wanted: ModelSpec, found: ModelSpec, path: str) -> None:
    now, then = wanted.model_dump(exclude=SHAPELESS), found.model_dump(exclude=SHAPELESS)
    if different := [f"{key} ({then[key]} there, {now[key]} here)" for key in now if now[key] != then[key]]:
        raise UsageError(
            f"model.init_from = '{path}' holds another model: {', '.join(different)}. "
            "Leave the other [model] keys out to take the model from there."
        )
