"""The islands of a run, and how they meet: [[island]] and [islands] of a run file.

exchange.py is what a fleet file says of the same for plans.
"""

from typing import Literal

from pydantic import Field

from everyflop.spec.base import Count, Misfit, Spec
from everyflop.spec.island_name import IslandName
from everyflop.spec.plan import Compress

Numerics = Literal["own", "split"]


class IslandSpec(Spec):
    """One [[island]]: devices that train one replica together."""

    name: IslandName
    devices: Count = 1
    """Devices that are held and paid for."""
    device: str = ""
    """torch's device type; by default what the island finds where it runs."""
    threads: int | None = Field(default=None, gt=0, le=4096)
    """CPU threads; by default the run's, or an equal share of the cores."""
    price_per_device_hour: float | None = Field(default=None, ge=0)
    """Overrides that of [money]."""
    slowdown: float = Field(default=1.0, ge=1, le=1000)
    """Simulates a slower device: multiplies, by waiting, the processor time of steps and of making and taking
    updates."""
    numerics: Numerics = "own"
    """Simulates another device's numerics: "split" sums matrix products in parts, each rounded to their type."""
    link_gbit_per_s: float | None = Field(default=None, gt=0)
    """Simulates a thin link to the coordinator, in each direction."""
    link_latency_ms: float = Field(default=0.0, ge=0, le=10_000)
    """Simulates a long way to the coordinator: added to each message that the island sends."""

    @property
    def price_per_hour(self) -> float | None:
        """Of all its devices; None without a price."""
        return None if self.price_per_device_hour is None else self.devices * self.price_per_device_hour

    @property
    def thin_link(self) -> bool:
        """Whether the way to the coordinator is made up."""
        return self.link_gbit_per_s is not None or self.link_latency_ms > 0

    @property
    def simulated(self) -> bool:
        """Whether anything about the island is made up."""
        return self.slowdown > 1 or self.numerics != "own" or self.thin_link


class IslandsSpec(Spec):
    """The [islands] table."""

    steps: Count | Literal["auto"] = 4
    """Optimizer steps between two exchanges on average: fewer while the learning rate is high, and more where it is
    low. With 1, islands exchange gradients; "auto" chooses them from what the last exchange took and what longer rounds
    cost in learning, and needs rounds by the clock."""
    sync_share: float = Field(default=0.2, ge=0, le=1)
    """Share of the run's tokens at its start over which gradients are exchanged at every step; on thin links, 0."""
    rounds: Literal["clock", "steps"] = "clock"
    """"clock" ends a round when its time is up; "steps" after as many steps of every island, reproducibly."""
    round_s: float | None = Field(default=None, gt=0)
    """Length of rounds by the clock, all alike; by default the time that their steps take at the measured speeds.
    Rounds by steps have no length."""
    outer_lr: float = Field(default=1.0, gt=0, le=2)
    """Learning rate of the outer step; 1 without momentum is plain averaging."""
    outer_momentum: float = Field(default=0.0, ge=0, lt=1)
    """Nesterov momentum of the outer step."""
    merge: Literal["tokens", "steps"] = "steps"
    """"steps" weighs updates by tokens over steps, so that speed never counts twice; "tokens" by tokens alone."""
    compress: Compress = "fp32"
    """What gradients and updates travel as; int8 and int4 keep their rounding error and add it to the next of them."""
    overlap: bool = False
    """Train ahead while updates travel, on top of the anchor that comes: for links that are slow beside a round."""
    guards: bool = True
    """Reject updates far larger than an island's own earlier ones and the others'; the rest is rejected always."""
    heartbeat_s: float = Field(default=5.0, gt=0)
    """An island that is silent for this long is lost."""
    hang_s: float | None = Field(default=None, gt=0)
    """An island without progress for this long hangs; by default several times its longest step. While it saves or
    validates it has ten minutes at least."""
    join_s: float = Field(default=120.0, ge=0)
    """How long a run waits at its start for islands that its file names."""
    restarts: int = Field(default=100, ge=0)
    """How often a local island that died is started again."""

    def misfits(self) -> list[Misfit]:
        """Return a choice of steps that nothing could repeat or that is made already."""
        if self.steps != "auto":
            return []
        problems = {
            "rounds": self.rounds == "steps" and "'steps' repeats bit for bit, and steps = 'auto' goes by the clock",
            "round_s": self.round_s is not None and "sets the steps of a round, and so does steps = 'auto'",
        }
        return [(key, f"{what}: drop one of them") for key, what in problems.items() if what]


NOT_AGREED = ("heartbeat_s", "hang_s", "join_s", "restarts")
"""Keys of [islands] that no weight depends on: islands need not agree on them, and a resumed run may change them."""
