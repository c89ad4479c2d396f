"""A training speed that was reached: what `everyflop measure` writes, and what a fleet file takes as [[measured]].

One such entry makes a plan's figures for its device better than any specification does.
"""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from everyflop.base.errors import UsageError
from everyflop.base.units import SECONDS_PER_DAY
from everyflop.spec.base import Count, Misfit, Spec
from everyflop.spec.layout import Layout
from everyflop.spec.model import ModelSpec
from everyflop.spec.presets import preset_fields


def _as_text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


Day = Annotated[str, BeforeValidator(_as_text), Field(pattern=r"^\d{4}-\d\d(-\d\d)?$")]
"""A day or a month: 2026-09-16 (also without quotes), "2026-09"."""

DISTURBING_SHARE = 0.1
"""Of the processor. Beside one busy process on two cores, steps took from 0.14 s to 11 s."""


class MeasuredSpeed(Spec):
    """Speed of one layout of one model on devices of one kind."""

    device: str = Field(min_length=1)
    """Its name, or another that the catalogue knows it by."""
    date: Day
    source: str = Field(min_length=1)
    """Who measured, and with what: `everyflop measure, torch 2.13`, or a link."""
    model: ModelSpec
    """In a file also a preset's name, or a table with `preset` and the fields that differ."""
    seq_len: Count
    batch_tokens: Count
    """Tokens of one optimizer step of all the devices measured."""
    precision: Literal["bf16", "fp8", "fp32"] = "bf16"
    """Type of the large matmuls."""
    layout: Layout = Layout()
    routing: Literal["real", "balanced"] = "real"
    """"balanced" where every expert was forced to take the same number of tokens, which is faster."""
    tokens_per_s_per_device: float = Field(gt=0)
    peak_mem_gib: float | None = Field(default=None, gt=0)
    """Of the fullest device."""
    others_share: float | None = Field(default=None, ge=0, le=1)
    """Of the processor, used by other processes meanwhile, where that matters and is known."""

    @property
    def is_doubtful(self) -> bool:
        """Whether others disturbed so much that the speed says little."""
        return self.others_share is not None and self.others_share >= DISTURBING_SHARE

    @field_validator("model", mode="before")
    @classmethod
    def _expand_preset(cls, value: Any) -> Any:
        fields = {"preset": value} if isinstance(value, str) else value
        if not isinstance(fields, dict) or "preset" not in fields:
            return value
        try:
            published = preset_fields(str(fields["preset"]))
        except UsageError as error:
            raise ValueError(str(error)) from None
        return {**published, **{name: field for name, field in fields.items() if name != "preset"}}

    def misfits(self) -> list[Misfit]:
        """Return sizes that cannot have been trained."""
        found: list[Misfit] = []
        unit = self.seq_len * self.layout.micro_batch * self.layout.dp
        if self.batch_tokens % unit:
            sizes = f"seq_len = {self.seq_len} x layout.micro_batch = {self.layout.micro_batch}"
            found.append(
                ("batch_tokens", f"{self.batch_tokens} is not a multiple of {sizes} x layout.dp = {self.layout.dp}")
            )
        if self.seq_len > self.model.max_positions:
            found.append(("seq_len", f"{self.seq_len} exceeds model.max_positions = {self.model.max_positions}"))
        if self.model.n_heads % self.layout.tp:
            found.append(("layout.tp", f"{self.layout.tp} does not divide model.n_heads = {self.model.n_heads}"))
        stages = self.layout.pp * self.layout.vpp
        if stages > self.model.n_layers:
            found.append(("layout.pp", f"{stages} stages exceed model.n_layers = {self.model.n_layers}"))
        if self.layout.ep > max(self.model.n_experts, 1):
            found.append(("layout.ep", f"{self.layout.ep} exceeds model.n_experts = {self.model.n_experts}"))
        step_s = self.batch_tokens / (self.tokens_per_s_per_device * self.layout.devices)
        if step_s > SECONDS_PER_DAY:
            took = f"makes a step of batch_tokens = {self.batch_tokens} take {step_s / SECONDS_PER_DAY:.3g} days"
            found.append(("tokens_per_s_per_device", f"{self.tokens_per_s_per_device:g} {took}: no step takes one"))
        return found

    def to_tables(self) -> dict[str, Any]:
        """Return the entry as a [[measured]] table."""
        return self.model_dump(mode="json", exclude_none=True)
