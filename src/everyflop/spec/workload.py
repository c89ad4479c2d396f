"""What is to be trained, as a plan needs it: a model, how much text, in which steps."""

from typing import Literal

from pydantic import Field

from everyflop.base.units import short_count
from everyflop.spec.base import Count, Misfit, Spec
from everyflop.spec.model import ModelSpec

Precision = Literal["bf16", "fp8"]

MOST_TOKENS = 10**15
"""Some thirty times what the largest published runs trained on; all text ever written is said to be less."""


class Workload(Spec):
    """A training run without its devices. Tokens and batches mean the whole run's."""

    name: str = Field(min_length=1)
    """What people call the model, such as ling-plus."""
    model: ModelSpec
    tokens: Count
    seq_len: Count = 4096
    batch_tokens: Count
    """Tokens of one optimizer step over all islands."""
    precision: Precision = "bf16"
    """Type of the large matmuls; a device without fp8 computes them in bf16."""

    @property
    def batch_seqs(self) -> int:
        """Sequences of one optimizer step over all islands."""
        return self.batch_tokens // self.seq_len

    def misfits(self) -> list[Misfit]:
        """Return sizes that do not fit each other."""
        found: list[Misfit] = []
        if self.batch_tokens % self.seq_len:
            found.append(("batch_tokens", f"{self.batch_tokens} is not a multiple of seq_len = {self.seq_len}"))
        if self.tokens > MOST_TOKENS:
            most = short_count(MOST_TOKENS)
            found.append(("tokens", f"{self.tokens} are more than {most}, and no collection of text is that large"))
        if self.batch_tokens > self.tokens:
            found.append(("batch_tokens", f"{self.batch_tokens} exceeds tokens = {self.tokens}"))
        if self.seq_len > self.model.max_positions:
            found.append(("seq_len", f"{self.seq_len} exceeds the model's max_positions = {self.model.max_positions}"))
        return found
