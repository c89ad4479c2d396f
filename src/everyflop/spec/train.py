"""How to train: steps, precision, optimizer, router, checkpoints, money. One class for each table of a run file."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from everyflop.spec.base import Count, CountOrZero, Misfit, Spec


class TrainSpec(Spec):
    """The [train] table. Tokens always mean the whole run's."""

    tokens: Count
    seq_len: Count = 512
    batch_tokens: Count | None = None
    """Tokens in one optimizer step; by default from the MoE scaling law."""
    batch_warmup_from: Count | None = None
    """Batch size (tokens) at the start; it grows linearly to batch_tokens over batch_warmup_tokens."""
    batch_warmup_tokens: CountOrZero = 0
    micro_batch: Count | None = None
    """Sequences in one forward and backward pass; by default the largest divisor of the batch up to 16."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Compute type; parameters and optimizer state are fp32 always. "auto": bf16 where the device is fast at it."""
    recompute: Literal["none", "layer"] = "none"
    """"layer" keeps each layer's input only and computes the rest again in the backward pass."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether torch compiles the layers. "auto": where it can, and the run is long enough to win the start-up back."""
    validate_every_steps: CountOrZero = 0
    """0 validates at the end only. In between, at most validate_windows of each set are used; at the end, all."""
    validate_windows: Count = 64

    def misfits(self) -> list[Misfit]:
        """Return batch sizes that do not fit the other sizes."""
        found: list[Misfit] = []
        for name in ("batch_tokens", "batch_warmup_from"):
            size = getattr(self, name)
            if size is not None and size % (self.seq_len * (self.micro_batch or 1)):
                unit = f"seq_len = {self.seq_len}" + (
                    f" x micro_batch = {self.micro_batch}" if self.micro_batch else ""
                )
                found.append((name, f"{size} is not a multiple of {unit}"))
        if self.batch_tokens is not None and self.batch_tokens > self.tokens:
            found.append(("batch_tokens", f"{self.batch_tokens} exceeds tokens = {self.tokens}: not one step fits"))
        if self.batch_warmup_from and self.batch_tokens and self.batch_warmup_from > self.batch_tokens:
            found.append(("batch_warmup_from", f"{self.batch_warmup_from} exceeds batch_tokens = {self.batch_tokens}"))
        if bool(self.batch_warmup_from) != bool(self.batch_warmup_tokens):
            found.append(("batch_warmup_tokens", "goes together with batch_warmup_from: set both or neither"))
        return found


class OptimSpec(Spec):
    """The [optim] table: AdamW and its learning-rate schedule over tokens."""

    lr: float | None = Field(default=None, gt=0, lt=1)
    """Peak learning rate; by default from the MoE scaling law."""
    schedule: Literal["constant", "cosine", "linear", "ling-v1"] = "cosine"
    """After the warm-up. "constant" is WSM's training phase: decay comes from `everyflop checkpoint merge`."""
    warmup_share: float = Field(default=0.02, ge=0, lt=1)
    """Share of the run's tokens over which the rate rises linearly from 0."""
    final_share: float = Field(default=0.0, ge=0, le=1)
    """Learning rate at the end, as a share of the peak (cosine and linear)."""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    """Applied to matrices; never to norms and biases."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the whole gradient."""

    def misfits(self) -> list[Misfit]:
        """Return betas that no average has."""
        bad = any(not 0 <= beta < 1 for beta in self.betas)
        return [("betas", f"{list(self.betas)} must lie in [0, 1)")] if bad else []


class RouterSpec(Spec):
    """The [router] table: what keeps experts in balance while training."""

    balance_loss: float = Field(default=0.0, ge=0)
    """Weight of the load-balance loss, computed within each sequence. Ling V1 used 0.015."""
    z_loss: float = Field(default=0.0, ge=0)
    """Weight of the router z-loss. Ling V1 used 1e-4, Ling 2.0 3.5e-6."""
    bias_update: float = Field(default=1e-3, ge=0)
    """Step of the aux-free expert bias after each optimizer step, zero-mean (models with expert_bias)."""
    noise_warmup_steps: CountOrZero = 0
    """Steps of stochastic routing warm-up (Ling V1): router logits fade in from matched noise."""


class CheckpointSpec(Spec):
    """The [checkpoint] table. A finished or interrupted run always saves."""

    every_steps: CountOrZero = 0
    """0 saves at the end only."""
    keep: Count = 3
    """Newest checkpoints kept; older ones are removed after each save."""


class MoneySpec(Spec):
    """The [money] table."""

    currency: str = Field(default="USD", min_length=1, max_length=8)
    price_per_device_hour: float | None = Field(default=None, ge=0)
    example: bool = False
    """The price is an example: every output says so."""


class RunSection(Spec):
    """The [run] table."""

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    seed: int = Field(default=0, ge=0, lt=2**63)
    out_dir: str = "runs"
    threads: int | None = Field(default=None, gt=0, le=4096)
    """CPU threads; by default all cores. Part of the numerics: another count gives other bits."""

    @field_validator("out_dir")
    @classmethod
    def _possible(cls, path: str) -> str:
        if "\0" in path:
            raise ValueError("no path holds a zero byte")
        try:
            Path(path).expanduser()
        except RuntimeError as error:
            raise ValueError(f"{error}: write the whole path") from None
        return path
