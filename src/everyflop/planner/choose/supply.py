"""Options of a market: for each pool and number of devices the best layout, as fast as failures leave it.

With several islands each trains a part of the batch. Options are made for even parts; settle.py looks again at what
is chosen, at the parts that it really gets.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from itertools import combinations_with_replacement

import numpy as np

from everyflop.accounting.rounds import exchanges_in
from everyflop.planner.choose.market import Market, Option, PoolRules
from everyflop.planner.choose.offers import Offer
from everyflop.planner.choose.search import Found, Search, Training
from everyflop.planner.choose.split import even_part
from everyflop.planner.predict.predict import Hardware
from everyflop.spec.fleet import Fleet
from everyflop.spec.workload import Workload

PARTS = (1, 2, 4, 8)
"""Layouts are sought for the whole batch and for such parts of it: what is best for one may not fit into another."""


class Supply:
    """Offers, and what layouts make of them. Pools with the same hardware share their searches."""

    def __init__(self, workload: Workload, training: Training, offers: Sequence[Offer], *, max_islands: int):
        self.workload = workload
        self.training = training
        self.offers = offers
        self.max_islands = min(max_islands, workload.batch_seqs)
        self._searches: dict[Hardware, Search] = {}
        batches = [even_part(workload.batch_seqs, part) for part in PARTS if part <= workload.batch_seqs]
        for offer in offers:
            search = self._search(offer)
            search.prepare(offer.anchors, batches=batches)
        for offer in offers:
            between = sorted({n for islands in range(1, self.max_islands + 1) for n in offer.counts(islands)})
            self._search(offer).refit(between, offer.anchors, batch_seqs=workload.batch_seqs)

    def found(self, pool: int, devices: int, batch_seqs: int) -> Found | None:
        """Return the best layout of an island for its part of the batch, None where none fits."""
        return self._search(self.offers[pool]).best([(devices, batch_seqs)])[0]

    def why_nothing(self, pool: int) -> str:
        """Say why a pool has no option."""
        offer = self.offers[pool]
        search, most = self._search(offer), offer.pool.most_devices
        least_gib = min(search.least_gib[count] for count in offer.anchors)
        if search.limit_gib < least_gib < np.inf:
            return (
                f"the model does not fit: of all layouts on up to {most:,} devices the smallest needs "
                f"{least_gib:,.1f} GiB of a device and {search.limit_gib:,.1f} GiB are usable"
            )
        if any(self.found(pool, count, self.workload.batch_seqs) for count in offer.anchors):
            return f"failures eat all of its time: look at failures_per_device_day = {offer.pool.failure_rate:g}"
        return (
            f"no layout on up to {most:,} devices suits the model and a batch of {self.workload.batch_seqs:,} sequences"
        )

    def options(self, islands: int) -> list[Option]:
        """Return what one of so many islands could be, if all train equal parts."""
        batch_seqs = even_part(self.workload.batch_seqs, islands)
        made = []
        for pool, offer in enumerate(self.offers):
            counts = offer.counts(islands)
            found = self._search(offer).best([(count, batch_seqs) for count in counts])
            rows = zip(counts, found, strict=True)
            made += [self.option(pool, count, one) for count, one in rows if one is not None]
        return [option for option in made if option.tokens_per_s > 0]

    def option(self, pool: int, devices: int, found: Found) -> Option:
        """Return the option that a layout makes: its speed less what failures and checkpoints take."""
        offer = self.offers[pool]
        return Option(
            pool=pool,
            devices=devices,
            tokens_per_s=found.tokens_per_s * self.kept_share(pool, devices),
            money_per_hour=devices * offer.price_per_device_hour,
        )

    def at_price(self, pool: int, factor: float) -> "Supply":
        """Return the same supply with another price for one pool; searches are shared."""
        changed = copy(self)
        changed.offers = [
            replace(offer, price_per_device_hour=offer.price_per_device_hour * factor) if place == pool else offer
            for place, offer in enumerate(self.offers)
        ]
        return changed

    def kept_share(self, pool: int, devices: int) -> float:
        """Return what failures and checkpoints leave of an island's time."""
        return self.offers[pool].failures(devices, float(self.training.dims.total_parameters)).kept_share

    def _search(self, offer: Offer) -> Search:
        if offer.hardware not in self._searches:
            self._searches[offer.hardware] = Search(self.training, offer.hardware)
        return self._searches[offer.hardware]


def market_of(fleet: Fleet, supply: Supply) -> Market:
    """Return the market that a fleet makes: rules of its pools, and links between any two islands."""
    n, workload = len(supply.offers), supply.workload
    steps = workload.tokens / workload.batch_tokens
    gbit, latency, price = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n))
    for a, b in combinations_with_replacement(range(n), 2):
        one, other = supply.offers[a].pool, supply.offers[b].pool
        link = fleet.link_between(one.name, other.name)
        if link is not None:
            gbit[a, b], latency[a, b], price[a, b] = link.gbit_per_s, link.latency_ms / 1000, link.price_per_gb
        elif a == b:
            # By default islands of one pool use all network ports of the smallest of them.
            gbit[a, b] = supply.offers[a].hardware.scale_out_gbit_per_s * supply.offers[a].anchors[0]
    most = min(supply.max_islands, fleet.islands.max_islands)
    return Market(
        pools=tuple(
            PoolRules(o.pool.name, o.supplier, o.pool.least_devices, o.pool.most_devices, o.pool.max_share)
            for o in supply.offers
        ),
        gbit_per_s=np.maximum(gbit, gbit.T),
        latency_s=np.maximum(latency, latency.T),
        price_per_gb=np.maximum(price, price.T),
        tokens=workload.tokens,
        batch_tokens=workload.batch_tokens,
        steps_between_exchanges=steps / exchanges_in(fleet.islands, steps),
        exchange_gb=fleet.islands.bytes_per_parameter * float(supply.training.dims.total_parameters) / 1e9,
        extra_tokens_share={m: fleet.islands.extra_tokens(m) for m in range(1, most + 1)},
    )
