"""What is on offer, and what connects it: the [[pool]] and [[link]] tables of a fleet file."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from everyflop.base.units import parse_count
from everyflop.spec.base import Count, Misfit, Spec
from everyflop.spec.island_name import IslandName

FAILURES_PER_DEVICE_DAY = 0.0027
"""8 % of the devices a month, as DLRover reports of Ant's clusters. Quieter ones exist: the checkpoint interval that
Ling-1T used on 2,016 devices is the best one for 0.0003."""

CHECKPOINT_GB_PER_S = 0.2
"""Ling-1T saved in 30 s on 2,016 devices: about 12 bytes (weights and two moments in fp32) for each of 10**12
parameters."""

MOST_DEVICES = 10_000_000

Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
"""Three capital letters (ISO 4217), such as USD or CNY."""


def _count_range(value: Any) -> tuple[int, int]:
    ends = [parse_count(end) if isinstance(end, str) else end for end in _both_ends(value)]
    if any(not isinstance(end, int) or isinstance(end, bool) for end in ends):
        raise ValueError("devices are counted in whole numbers: write a number, or [least, most]")
    least, most = ends
    if least < 1:
        raise ValueError("a pool has at least one device")
    if least > most:
        raise ValueError("the least comes first: write [least, most]")
    if most > MOST_DEVICES:
        raise ValueError(f"that many devices are more than there are: up to {MOST_DEVICES:,} are planned with")
    return least, most


def _both_ends(value: Any) -> tuple[Any, Any]:
    if not isinstance(value, list | tuple):
        return value, value
    if len(value) != 2:
        raise ValueError("write a number of devices, or [least, most]")
    return value[0], value[1]


CountRange = Annotated[tuple[int, int], BeforeValidator(_count_range)]
"""The fewest and the most devices; written as a number, they are the same."""


class Pool(Spec):
    """One [[pool]]: like devices on offer at one price."""

    name: Annotated[IslandName, Field(max_length=90)]
    """Islands of a plan are called so; where it has several of one pool, with a number."""
    device: str = Field(min_length=1)
    """As the catalogue or the file's own [[device]] calls it."""
    count: CountRange
    """A number is what there is, taken whole as far as a layout can use it; of [least, most] a plan takes what pays."""
    price_per_device_hour: float = Field(gt=0)
    currency: Currency | None = None
    """By default that of [money]."""
    example: bool = False
    """The price is an example: every output says so."""
    supplier: str = ""
    """Whose share of the tokens a limit on suppliers counts; by default the device's vendor."""
    max_share: float = Field(default=1.0, gt=0, le=1)
    """The largest share of the run's tokens that this pool may train."""
    alone: bool = False
    """Never mixed with other pools, only compared with them."""

    devices_per_node: Count | None = None
    """By default as many as the device's fast links connect."""
    scale_out_gbit_per_s: float | None = Field(default=None, gt=0)
    """Network between nodes, one direction, per device; by default the device's usual one."""

    spot: bool = False
    """The supplier may take devices back at any time."""
    failures_per_device_day: float | None = Field(default=None, ge=0)
    """How often a device fails or is taken back; by default FAILURES_PER_DEVICE_DAY. Spot pools must say it."""
    restart_minutes: float = Field(default=10.0, gt=0)
    """From a failure to the next step; 10 is how long DLRover waits by default until it calls a job hung."""
    checkpoint_gb_per_s: float = Field(default=CHECKPOINT_GB_PER_S, gt=0)
    """What each device writes to storage that outlives it; training waits for it."""

    def misfits(self) -> list[Misfit]:
        """Return a spot pool that does not say how often its devices go away, or says that they never do."""
        if self.spot and not self.failures_per_device_day:
            said = "is needed by" if self.failures_per_device_day is None else "is 0, and that contradicts"
            return [
                (
                    "failures_per_device_day",
                    f"{said} spot = true: 0.5 means that a device is taken back every second day; "
                    "ask the supplier, or look at your own log",
                )
            ]
        return []

    @property
    def least_devices(self) -> int:
        """The fewest devices that a plan may take, if it takes any."""
        return self.count[0]

    @property
    def most_devices(self) -> int:
        """The most devices that a plan may take."""
        return self.count[1]

    @property
    def failure_rate(self) -> float:
        """Failures of one device in a day, spot devices that are taken back included."""
        given = self.failures_per_device_day
        return FAILURES_PER_DEVICE_DAY if given is None else given


class Link(Spec):
    """One [[link]]: what connects two pools, or the islands inside one pool."""

    between: tuple[str, str]
    """Names of two pools. Twice the same: between islands of that pool, which by default is its scale-out network."""
    gbit_per_s: float = Field(gt=0)
    """Of the whole link, one direction."""
    latency_ms: float = Field(default=1.0, ge=0)
    price_per_gb: float = Field(default=0.0, ge=0)
    """For what is sent, in the fleet's currency."""
