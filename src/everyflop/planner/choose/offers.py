"""What each pool of a fleet offers: devices with all figures that predictions need, their price, how many to take."""

from dataclasses import dataclass

from everyflop.base.errors import UsageError
from everyflop.catalog.catalog import Catalog
from everyflop.catalog.fill import filled
from everyflop.planner.choose.goodput import Failures
from everyflop.planner.predict.predict import Hardware
from everyflop.planner.speed.chip import chip_of
from everyflop.spec.fleet import Fleet
from everyflop.spec.pool import Pool

COUNTS, FEWEST_COUNTS = {1: 64, 2: 16, 3: 8, 4: 6}, 3
"""Islands -> numbers of devices looked at for each of them where a pool offers a range; with more islands the fewest.
One island is looked at closely: a batch divides well among some numbers of replicas and badly among others."""
ANCHORS = 6

SAVED_BYTES_PER_PARAMETER = 12
"""Of a checkpoint: weights and two moments in fp32."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A pool with its device's figures filled in."""

    pool: Pool
    hardware: Hardware
    price_per_device_hour: float
    """In the plan's currency."""
    notes: tuple[str, ...]
    """What had to be inferred or assumed about the device."""

    @property
    def supplier(self) -> str:
        """Whose share of the tokens a limit on suppliers counts."""
        return self.pool.supplier or self.hardware.device.vendor

    def counts(self, islands: int) -> list[int]:
        """Return the numbers of devices that one of so many islands could take, smallest first.

        A pool that is taken whole is one island or even parts. Of a range, whole nodes between its ends, in even steps:
        no limit of a plan has a say in them, so that a looser limit never leaves out what a tighter one finds.
        """
        least, most = self.pool.count
        parts = range(1, islands + 1)
        if least == most:
            return sorted(most // share for share in parts if most % share == 0)
        shares = (self.whole_nodes(most / share) for share in parts)
        return sorted({*self._between(COUNTS.get(islands, FEWEST_COUNTS)), *(n for n in shares if n >= least)})

    @property
    def anchors(self) -> list[int]:
        """Numbers of devices whose layouts are searched in full; those between take over their neighbours'."""
        least, most = self.pool.count
        return sorted({*self.counts(4), *(self._between(ANCHORS) if most > least else ())})

    def _between(self, counts: int) -> set[int]:
        """Return about so many numbers of a range's devices: all whole nodes, or those in even ratios."""
        (least, most), node = self.pool.count, self.hardware.devices_per_node
        if (most - least) // node < counts:
            every = {least, most, *(n for n in map(self.whole_nodes, range(least, most)) if n >= least)}
            if len(every) <= counts + 2:  # below one node every number of devices counts as whole
                return every
        ratios = (least * (most / least) ** (step / (counts - 1)) for step in range(counts))
        return {least, most, *(max(self.whole_nodes(count), least) for count in ratios)}

    def whole_nodes(self, devices: float) -> int:
        """Return the largest number of devices up to this one that fills nodes; below one node, the number itself."""
        node = self.hardware.devices_per_node
        whole = int(devices * (1 + 1e-9))  # 255.999... is 256
        return whole // node * node or max(whole, 1)

    def failures(self, devices: int, parameters: float) -> Failures:
        """Return what failures do to an island of so many devices that trains so many parameters."""
        saved_gb = SAVED_BYTES_PER_PARAMETER * parameters / 1e9
        return Failures(
            per_day=devices * self.pool.failure_rate,
            save_s=saved_gb / (devices * self.pool.checkpoint_gb_per_s),
            restart_s=60 * self.pool.restart_minutes,
        )


def offers_of(fleet: Fleet, catalog: Catalog) -> tuple[list[Offer], dict[str, str]]:
    """Return the offers of a fleet, and for pools that cannot be predicted the reason."""
    known = catalog.with_devices(fleet.devices)
    offers: list[Offer] = []
    unusable: dict[str, str] = {}
    for pool in fleet.pools:
        device, notes = filled(known.find(pool.device), known)
        network = pool.scale_out_gbit_per_s or device.scale_out_gbit_per_s
        try:
            domain = pool.devices_per_node or device.scale_up_domain
            chip, assumed = chip_of(device, scale_out_gbit_per_s=network, domain=domain)
        except UsageError as error:
            unusable[pool.name] = str(error)
            continue
        node = int(chip.domain)
        if pool.most_devices <= node:
            assumed = tuple(note for note in assumed if "network" not in note)
        hardware = Hardware(device, node, float(chip.between_bytes_per_s) * 8 / 1e9)
        offers.append(Offer(pool, hardware, fleet.price_per_device_hour(pool), (*notes, *assumed)))
    return offers, unusable
