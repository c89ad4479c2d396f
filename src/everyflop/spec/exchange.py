"""How islands meet, and what merging them is assumed to cost in learning: the [islands] table of a fleet file."""

import sys
from itertools import pairwise
from math import log
from typing import Annotated

from pydantic import Field, field_validator

from everyflop.spec.base import Count, Misfit, Spec
from everyflop.spec.frontier import FRONTIER, FRONTIER_SOURCE, MOST_STEPS, measured_extra_tokens, measured_steps
from everyflop.spec.plan import MOST_STEPS_BETWEEN, ExchangeAssumption


class ExchangeSpec(Spec):
    """The [islands] table."""

    steps_between_exchanges: Annotated[Count, Field(le=MOST_STEPS_BETWEEN)] = 8
    """Optimizer steps, on average over a run. With 1, islands exchange gradients: no penalty."""
    sync_share: float = Field(default=0.2, ge=0, le=1)
    """Share of the run's tokens at its start over which gradients are exchanged at every step. It saves extra tokens,
    and is most of what travels then."""
    bytes_per_parameter: float = Field(default=0.5, ge=0.5, le=8)
    """What travels for each parameter: 2 in bf16, 1 in int8, 0.5 in int4."""
    extra_tokens_share: dict[int, float] | None = Field(default=None, min_length=1)
    """Number of islands -> extra tokens needed for the same loss, as a share; numbers between are interpolated. By
    default what was measured at these steps_between_exchanges."""
    max_islands: Count = 4
    """The most islands in one plan."""
    source: str = ""
    """Where your own extra_tokens_share comes from."""

    @field_validator("extra_tokens_share")
    @classmethod
    def _possible(cls, table: dict[int, float] | None) -> dict[int, float] | None:
        if table is None:
            return None
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
        """Return more islands, or fewer exchanges, than the penalty is known for."""
        found = self.beyond_known(self.max_islands)
        return [found] if found else []

    def beyond_known(self, islands: int) -> Misfit | None:
        """Return why so many islands cannot be planned: what merging them costs in learning is not known."""
        if islands <= self.known_islands:
            return None
        if self.extra_tokens_share is None and self.steps_between_exchanges > MOST_STEPS:
            text = f"{self.steps_between_exchanges} exceeds {MOST_STEPS}, up to which extra tokens were measured"
            cure = f"exchange at least every {MOST_STEPS} steps, or write your own extra_tokens_share"
            return "steps_between_exchanges", f"{text}: {cure}"
        if self.extra_tokens_share:
            return "max_islands", f"{islands} exceeds {self.known_islands}, the largest number in extra_tokens_share"
        known = f"the most whose extra tokens were measured every {self.steps_between_exchanges} steps"
        cure = f"set max_islands = {self.known_islands}, exchange more often, or write your own extra_tokens_share"
        return "max_islands", f"{islands} exceeds {self.known_islands}, {known}: {cure}"

    @property
    def known_islands(self) -> int:
        """The largest number of islands whose extra tokens are known; any where gradients are exchanged."""
        if self.steps_between_exchanges == 1:
            return sys.maxsize
        if self.extra_tokens_share:
            return max(self.extra_tokens_share)
        return max(self._measured, default=1)

    def extra_tokens(self, islands: int) -> float:
        """Return the share of extra tokens for a number of islands: 0 for one, and where gradients are exchanged.

        Between two entries of the table it is linear in the logarithm of the number. Raises ValueError beyond it.
        """
        if islands == 1 or self.steps_between_exchanges == 1 or self.sync_share == 1:
            return 0.0
        if islands > self.known_islands:
            raise ValueError(f"no penalty is known for {islands} islands")
        table = self.extra_tokens_share or self._measured
        for (low, low_share), (high, high_share) in pairwise([(1, 0.0), *table.items()]):
            if islands <= high:
                return low_share + (high_share - low_share) * log(islands / low) / log(high / low)
        raise AssertionError("the table ends at its largest number")

    @property
    def assumption(self) -> ExchangeAssumption:
        """The same as a plan states it, with every number of islands up to max_islands."""
        return ExchangeAssumption(
            steps_between=self.steps_between_exchanges,
            sync_share=self.sync_share,
            bytes_per_parameter=self.bytes_per_parameter,
            extra_tokens_share={str(n): round(self.extra_tokens(n), 4) for n in range(1, self.max_islands + 1)},
            source=self.source or ("the fleet file" if self.extra_tokens_share else FRONTIER_SOURCE),
        )

    @property
    def ways(self) -> "tuple[ExchangeSpec, ...]":
        """The ways to exchange that a plan chooses among, the usual one first: what was measured, as far as the fleet
        file leaves it open. One's own extra_tokens_share is of one way."""
        said, usual = self.model_fields_set, self.steps_between_exchanges
        if self.extra_tokens_share or usual == 1:
            return (self,)
        starts = [self.sync_share, *(FRONTIER if "sync_share" not in said else ())]
        found = [
            (start, steps)
            for start in starts
            for steps in [usual, *(measured_steps(start) if "steps_between_exchanges" not in said else ())]
        ]
        keys = ("sync_share", "steps_between_exchanges")
        return tuple(self.model_copy(update=dict(zip(keys, way, strict=True))) for way in dict.fromkeys(found))

    @property
    def _measured(self) -> dict[int, float]:
        return measured_extra_tokens(self.steps_between_exchanges, self.sync_share)
