"""Which measurements are doubtful, in sentences: a prediction that rests on one is no surer than it."""

from collections.abc import Iterable, Iterator

from everyflop.base.units import percent
from everyflop.catalog.catalog import Catalog
from everyflop.spec.measured import MeasuredSpeed


def doubts(speeds: Iterable[MeasuredSpeed], catalog: Catalog) -> Iterator[tuple[str, str]]:
    """Yield each device with a measurement that is doubtful or says nothing, and a sentence that says so."""
    for speed in speeds:
        if says_nothing(speed, catalog):
            name = catalog.find(speed.device).name
            yield name, f"{name}: its speed measured in fp32 is left out, since plans train in bf16 or fp8."
        if speed.is_doubtful:
            name = catalog.find(speed.device).name
            share = percent(speed.others_share or 0)
            yield name, f"{name}: its measured speed is doubtful, others used {share} of the processor meanwhile."


def says_nothing(speed: MeasuredSpeed, catalog: Catalog) -> bool:
    """Whether a speed was reached in fp32 on a device that is planned with in bf16."""
    return speed.precision == "fp32" and catalog.find(speed.device).bf16_tflops is not None
