"""How islands meet, and what merging them is assumed to cost in learning: the [islands] table of a fleet file."""

from itertools import pairwise
from math import log
from typing import Annotated

from pydantic import Field, field_validator

from everyflop.spec.base import Count, Misfit, Spec
from everyflop.spec.plan import ExchangeAssumption

EXTRA_TOKENS_SHARE = {2: 0.03, 4: 0.06, 8: 0.09}
"""Number of islands -> extra tokens for the same loss. From "Scaling Laws for DiLoCo" (arXiv 2503.09799, H = 30): its
largest model, 10B dense, ends at loss 2.096 with 4 replicas and at 2.090 with data parallel, a factor of 1.0029. Loss
falls as N^-0.0985 where tokens grow with N; half of that exponent is the tokens' part (both terms weigh the same where
compute is spent best), so that 4 islands take 1.0029^(1 / 0.0493) = 1.06 times the tokens, 3 % for each doubling.

How unsure that is: with 2 replicas that model was no worse than data parallel (2.086), and MoE runs of Decoupled
DiLoCo (arXiv 2604.21428) equal it; the law fitted over all sizes of the first paper, most of them small, has
M^0.0116, which is 18 % for 2 islands and 39 % for 4.
"""

DEFAULT_SOURCE = (
    "DiLoCo scaling laws, arXiv 2503.09799: the loss of 10B dense with 4 replicas against data parallel, in tokens; "
    "published evidence reaches from 0 to 18 % for 2 islands and to 39 % for 4"
)


MOST_STEPS_BETWEEN = 2000
"""DiLoCo (arXiv 2311.08105) tried up to 2,000. Islands that exchange less often than anybody tried train models of
their own, and what merging those would cost in learning is not known."""


class ExchangeSpec(Spec):
    """The [islands] table."""

    steps_between_exchanges: Annotated[Count, Field(le=MOST_STEPS_BETWEEN)] = 30
    """Optimizer steps; the penalty below was measured at 30. With 1, islands exchange gradients: no penalty."""
    bytes_per_parameter: float = Field(default=2.0, gt=0, le=8)
    """What travels for each parameter: 2 in bf16, 1 in int8."""
    extra_tokens_share: dict[int, float] = Field(default=EXTRA_TOKENS_SHARE, min_length=1)
    """Number of islands -> extra tokens needed for the same loss, as a share; numbers between are interpolated."""
    max_islands: Count = 4
    """The most islands in one plan."""
    source: str = ""
    """Where your own extra_tokens_share comes from."""

    @field_validator("extra_tokens_share")
    @classmethod
    def _possible(cls, table: dict[int, float]) -> dict[int, float]:
        if bad := sorted(n for n in table if n < 2):
            raise ValueError(f"a penalty for {bad[0]} islands makes no sense: numbers start at 2")
        if bad := [share for share in table.values() if not 0 <= share < 10]:
            raise ValueError(f"{bad[0]:g} is no share of extra tokens: write 0.05 for 5 %")
        table = dict(sorted(table.items()))
        for (fewer, share), (more, less) in pairwise(table.items()):
            if less < share:
                raise ValueError(f"more islands never need fewer extra tokens: {fewer} need {share:g}, {more} {less:g}")
        return table

    def misfits(self) -> list[Misfit]:
        """Return more islands than the penalty is known for."""
        largest = max(self.extra_tokens_share)
        if self.max_islands > largest and self.steps_between_exchanges > 1:
            return [("max_islands", f"{self.max_islands} exceeds {largest}, the largest number in extra_tokens_share")]
        return []

    def extra_tokens(self, islands: int) -> float:
        """Return the share of extra tokens for a number of islands: 0 for one, and where gradients are exchanged.

        Between two entries of the table it is linear in the logarithm of the number. Raises ValueError beyond it.
        """
        if islands == 1 or self.steps_between_exchanges == 1:
            return 0.0
        if islands > max(self.extra_tokens_share):
            raise ValueError(f"no penalty is known for {islands} islands")
        for (low, low_share), (high, high_share) in pairwise([(1, 0.0), *self.extra_tokens_share.items()]):
            if islands <= high:
                return low_share + (high_share - low_share) * log(islands / low) / log(high / low)
        raise AssertionError("the table ends at its largest number")

    @property
    def assumption(self) -> ExchangeAssumption:
        """The same as a plan states it, with every number of islands up to max_islands."""
        own = self.extra_tokens_share != EXTRA_TOKENS_SHARE
        return ExchangeAssumption(
            steps_between=self.steps_between_exchanges,
            bytes_per_parameter=self.bytes_per_parameter,
            extra_tokens_share={str(n): round(self.extra_tokens(n), 4) for n in range(1, self.max_islands + 1)},
            source=self.source or ("the fleet file" if own else DEFAULT_SOURCE),
        )
