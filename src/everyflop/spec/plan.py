"""plan.json: what the planner recommends, what it compared it with, and how sure it is.

The planner writes it, `train --plan` runs it, pages and reports are drawn from it and from nothing else.
Every money figure is in `currency`. Every speed and cost is *predicted* unless its basis says measured.
"""

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from everyflop.spec.base import Count, Spec
from everyflop.spec.island_name import IslandName
from everyflop.spec.layout import Layout
from everyflop.spec.pool import Currency
from everyflop.spec.workload import Workload

SCHEMA = 1

Basis = Literal["measured", "fitted", "prior"]
"""Where a speed comes from: this chip on nearly this workload was measured, this chip was measured on others, or only
its specification is known."""

MOST_STEPS_BETWEEN = 2000
"""DiLoCo (arXiv 2311.08105) tried up to 2,000. Islands that exchange less often than anybody tried train models of
their own, and what merging those would cost in learning is not known."""

ROUNDING = 1e-6
"""Of a step: what dividing by a token efficiency may be off."""

Compress = Literal["fp32", "bf16", "int8", "int4"]
"""What updates travel as."""

Objective = Literal["cost", "time"]

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Spread(Spec):
    """A predicted figure: one in ten outcomes is expected below p10, one in ten above p90."""

    p10: NotNegative
    p50: NotNegative
    p90: NotNegative

    @field_validator("p50", "p90")
    @classmethod
    def _in_order(cls, value: float, info: ValidationInfo) -> float:
        below = {"p50": "p10", "p90": "p50"}[info.field_name or ""]
        if value < info.data.get(below, 0):
            raise ValueError(f"is less than {below} = {info.data[below]:g}")
        return value


def _more_than_nothing(spread: Spread) -> Spread:
    if spread.p10 <= 0:
        raise ValueError("must lie above 0")
    return spread


PositiveSpread = Annotated[Spread, AfterValidator(_more_than_nothing)]
"""Of a speed or a time; a free pool's cost may be nothing."""


class PlannedIsland(Spec):
    """Devices of one pool that train one full replica together."""

    name: IslandName
    pool: str
    device: str
    """Its name in the catalogue."""
    title: str = ""
    vendor: str = ""
    torch_device: str = ""
    """torch's device type: cuda, npu, xpu, cpu; empty where the catalogue does not know it."""
    devices: Count
    """Of which a layout may leave some idle."""
    layout: Layout
    micro_batch: Count
    """Sequences of one pass, as in the layout."""
    batch_seqs: Count
    """Sequences that this island contributes to one optimizer step."""
    tokens_per_s: PositiveSpread
    """Of the whole island while it trains: before failures and exchanges."""
    goodput_share: float = Field(gt=0, le=1)
    """What failures, checkpoints and exchanges leave of that."""
    share: float = Field(ge=0, le=1)
    """Of the run's tokens."""
    price_per_device_hour: NotNegative
    """In the plan's currency."""
    example_price: bool = False
    """The fleet says that its price is an example: every output says so too."""
    cost: Spread
    """Of the whole run."""
    cost_per_ttoken: Spread
    """Of 10**12 tokens that count: failures, exchanges and the extra tokens of several islands included."""
    mfu: NotNegative
    """Share of the dense peak in the precision used."""
    break_even_mfu: NotNegative | None = None
    """The MFU at which this island costs as much per token as the plan's cheapest single pool; None for that pool."""
    mem_gib: dict[str, NotNegative]
    """Peak of the fullest device by component; the total is their sum."""
    mem_limit_gib: float = Field(gt=0)
    step_s: dict[str, NotNegative]
    """One optimizer step by component; the total is their sum."""
    basis: Basis
    link_gbit_per_s: Positive | None = None
    """The slowest link that this island's exchanges cross; None where it never exchanges."""
    least_link_gbit_per_s: Positive | None = None
    """Below this, exchanges cost more than 5 % of the time; None where its latency alone does, and for an
    island that exchanges with none."""

    @field_validator("layout")
    @classmethod
    def _lies_on_the_devices(cls, layout: Layout, info: ValidationInfo) -> Layout:
        if layout.devices > info.data.get("devices", layout.devices):
            raise ValueError(f"{layout} needs {layout.devices} devices, and the island has {info.data['devices']}")
        return layout

    @field_validator("micro_batch")
    @classmethod
    def _is_the_layouts(cls, micro_batch: int, info: ValidationInfo) -> int:
        layout = info.data.get("layout")
        if layout is not None and micro_batch != layout.micro_batch:
            raise ValueError(f"is not layout.micro_batch = {layout.micro_batch}")
        return micro_batch


class Total(Spec):
    """All islands together."""

    tokens_per_s: PositiveSpread
    days: PositiveSpread
    cost: Spread
    cost_per_ttoken: Spread
    devices: Count
    token_efficiency: float = Field(ge=0.09, le=1)
    """Tokens that count, of tokens trained: what merging several islands is assumed to cost in learning."""


class Choice(Spec):
    """One way to train: alone on a pool, or a mix."""

    name: str
    kind: Literal["single", "mix"]
    islands: tuple[PlannedIsland, ...] = Field(min_length=1)
    total: Total
    meets_limits: bool
    broken_limits: tuple[str, ...] = ()
    """Which limits it breaks, in words with numbers."""


class WhatIf(Spec):
    """The best bill after one thing changed."""

    change: str
    """Such as "pool h100 vanishes" or "price of a +30 %"."""
    pool: str
    cost: NotNegative | None
    """P50 of the new best plan; None where no plan fits any more."""
    days: Positive | None
    best: str
    """Name of the new best choice, or which limit binds."""


class Measurement(Spec):
    """A measurement that would narrow the interval of the plan's cost."""

    device: str
    command: str
    width_now: Positive
    """P90 / P10 of the plan's cost."""
    width_after: Positive


class ExchangeAssumption(Spec):
    """How islands meet, and what that is assumed to cost; all of it can be set."""

    steps_between: Annotated[Count, Field(le=MOST_STEPS_BETWEEN)]
    """Optimizer steps between two exchanges, on average over a run."""
    sync_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the run's tokens at its start over which gradients are exchanged at every step."""
    bytes_per_parameter: float = Field(gt=0, le=8)
    """2 for bf16, 1 for int8, 0.5 for int4."""
    extra_tokens_share: dict[str, NotNegative]
    """Number of islands -> extra tokens needed for the same loss, as a share."""
    source: str


class Limits(Spec):
    """What the user allows."""

    budget: float | None = Field(default=None, gt=0)
    deadline_days: float | None = Field(default=None, gt=0)
    max_supplier_share: float | None = Field(default=None, gt=0, le=1)
    """Of the run's tokens, for devices of one supplier."""
    max_islands: Count = 4
    max_devices: Count | None = None


class Plan(Spec):
    """The whole answer. `islands` and `total` are those of the recommended choice."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    objective: Objective
    currency: Currency
    fleet: str
    """The fleet file's name."""
    workload: Workload
    limits: Limits
    recommended: str
    """Name of the recommended choice, the first among equals."""
    why: str
    """One sentence, such as "do not mix: h100 alone is cheaper than every mix that keeps the limits"."""
    mix_cheaper_probability: Probability | None = None
    """How probable it is that the best mix costs less than the best single pool; None where the limits
    leave no mix or no pool alone."""
    islands: tuple[PlannedIsland, ...] = Field(min_length=1)
    total: Total
    alternatives: tuple[Choice, ...]
    """Each pool alone and the best mixes, best first by the objective; the recommended one is among them."""
    unusable: dict[str, str] = Field(default_factory=dict)
    """Pools that cannot train this model, and why."""
    front: tuple[Choice, ...] = ()
    """Choices that no other beats in both cost and time, cheapest first."""
    what_if: tuple[WhatIf, ...] = ()
    measure_next: tuple[Measurement, ...] = ()
    exchange: ExchangeAssumption
    assumptions: tuple[str, ...] = ()
    """What was assumed, in sentences."""
    launch: str
    """The command that runs it."""
    everyflop: str = ""
    """Version that wrote it."""
    catalogue_sha256: str = ""
    """Of the efficiency constants and devices used, so that a plan can be made again."""

    @property
    def trained_tokens(self) -> int:
        """Tokens to train, in whole batches, for the loss that one island reaches with the workload's."""
        tokens, batch = self.workload.tokens, self.workload.batch_tokens
        if self.total.token_efficiency == 1:
            return tokens
        return math.ceil(tokens / self.total.token_efficiency / batch - ROUNDING) * batch

    @property
    def compress(self) -> Compress:
        """What gradients and updates travel as: the widest type that sends no more than was assumed, or int4."""
        sent = self.exchange.bytes_per_parameter
        return "fp32" if sent >= 4 else "bf16" if sent >= 2 else "int8" if sent >= 1 else "int4"
