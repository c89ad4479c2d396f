"""Which measurements are doubtful, in sentences: a prediction that rests on one is no surer than it."""

from collections.abc import Iterable, Iterator

from everyflop.base.units import percent
from everyflop.catalog.catalog import Catalog
from everyflop.spec.measured import MeasuredSpeed


def doubts(speeds: Iterable[MeasuredSpeed], catalog: Catalog) -> Iterator[tuple[str, str]]:
    """Yield the name of each device that was measured beside busy neighbours, and a sentence that says so."""
    for speed in speeds:
        if speed.is_doubtful:
            name = catalog.find(speed.device).name
            share = percent(speed.others_share or 0)
            yield name, f"{name}: its measured speed is doubtful, others used {share} of the processor meanwhile."
