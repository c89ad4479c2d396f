"""What a plan assumes, in sentences: whoever does not believe one knows what to change."""

from collections.abc import Iterator, Sequence

from everyflop.planner.choose.offers import SAVED_BYTES_PER_PARAMETER, Offer
from everyflop.planner.choose.settle import Settled
from everyflop.planner.plan.desk import Desk
from everyflop.spec.workload import Workload


def assumptions(desk: Desk, choices: Sequence[Settled], workload: Workload) -> tuple[str, ...]:
    """Return the assumptions behind some choices."""
    return tuple(dict.fromkeys(_assumptions(desk, choices, workload)))


def _assumptions(desk: Desk, choices: Sequence[Settled], workload: Workload) -> Iterator[str]:
    offers = [desk.supply.offers[pool] for pool in sorted({pool for choice in choices for pool in choice.pools})]
    yield "Limits are held against median predictions (P50); intervals are those of speeds, nothing else is varied."
    if desk.caps.days is None and any(offer.pool.least_devices < offer.pool.most_devices for offer in offers):
        yield "Without a deadline the cheapest may be slow: of a range of devices, few cost least."
    if workload.model.n_mtp_layers and not workload.model.mtp_loss_weight:
        yield "The MTP layer is not trained and costs nothing, as model.mtp_loss_weight is 0."
    yield from _devices(offers)
    if workload.precision == "fp8" and (without := [o.pool.name for o in offers if not o.hardware.device.fp8_tflops]):
        yield f"{_and(without)} compute in bf16, having no fp8."
    yield from _failures(offers)
    if any(found.layout.devices < i.devices for c in choices for i, found in zip(c.islands, c.found, strict=True)):
        yield "Devices that a layout leaves idle are paid for."
    if any(found.batch_seqs % (found.layout.dp * found.layout.micro_batch) for c in choices for found in c.found):
        yield "Where a batch does not divide evenly among data-parallel ranks, those with a micro-batch less wait."
    if any(len(choice.islands) > 1 for choice in choices):
        yield (
            "Islands train parts of the batch in proportion to their speeds, send their updates to a coordinator "
            "beside one of them and wait for the merged one; islands of one pool share the link to it."
        )


def _devices(offers: Sequence[Offer]) -> Iterator[str]:
    """Yield one sentence for each device of which something is inferred or assumed."""
    notes: dict[str, list[str]] = {}
    for offer in offers:
        device = offer.hardware.device.name
        said = notes.setdefault(device, [])
        said += [words for note in offer.notes if (words := note.removeprefix(f"{device}: ")) not in said]
    yield from (f"{device}: {'; '.join(said)}." for device, said in notes.items() if said)


def _failures(offers: Sequence[Offer]) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for offer in offers:
        pool = offer.pool
        words = (
            f"{pool.failure_rate:g} failures of a device a day, {pool.restart_minutes:g} minutes to restart, "
            f"checkpoints of {SAVED_BYTES_PER_PARAMETER} bytes a parameter, {pool.checkpoint_gb_per_s:g} GB/s a device"
        )
        groups.setdefault(words, []).append(pool.name)
    for words, names in groups.items():
        yield f"{_and(names)}: {words}, as often as is best; an island stops when one of its devices does."


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
