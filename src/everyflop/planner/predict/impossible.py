"""Refuse measured speeds that their device cannot have reached: more FLOPs a second than its peak.

One such entry, a slip of a unit, would make every prediction for its device absurd and look sure.
"""

from collections.abc import Iterator
from pathlib import Path

from everyflop.accounting.flops import flops_per_token
from everyflop.base.errors import InvalidFile, Problem
from everyflop.base.units import TERA
from everyflop.catalog.catalog import Catalog
from everyflop.catalog.fill import filled
from everyflop.spec.device import DeviceSpec
from everyflop.spec.fleet import Fleet
from everyflop.spec.measured import MeasuredSpeed
from everyflop.spec.measured_file import Measurements
from everyflop.spec.toml_file import with_lines

MOST_OVER_MATMUL = 10
"""Where no peak is published, training is held against so many times the best measured matmul: one that was measured
beside other processes may be several times too slow."""


def refuse_impossible(source: str | Path, found: Fleet | Measurements, catalog: Catalog) -> None:
    """Raise InvalidFile with every speed in `found`, read from the file `source`, that is beyond its device."""
    devices = catalog.with_devices(found.devices)
    if problems := list(_beyond_the_peak(found.measured, devices)):
        path = Path(source)
        raise InvalidFile(source, with_lines(problems, path.read_text(encoding="utf-8") if path.is_file() else ""))


def _beyond_the_peak(speeds: tuple[MeasuredSpeed, ...], catalog: Catalog) -> Iterator[Problem]:
    for number, speed in enumerate(speeds):
        device, _ = filled(catalog.find(speed.device), catalog)
        flops = flops_per_token(speed.model, speed.seq_len).training
        reached, most = speed.tokens_per_s_per_device * flops, most_flops_per_s(device, speed.precision)
        if most is not None and reached > most:
            yield Problem(
                f"measured[{number}].tokens_per_s_per_device",
                f"{speed.tokens_per_s_per_device:g} is {reached / TERA:,.4g} TFLOP/s, and {device.name} can do at most "
                f"{most / TERA:,.4g} TFLOP/s: {most / flops:,.4g} tokens/s of this model",
                "give the speed of one device, in tokens a second",
            )


def most_flops_per_s(device: DeviceSpec, precision: str) -> float | None:
    """Return what a device cannot exceed; None where nothing is known of it."""
    peak_tflops = (device.fp8_tflops if precision == "fp8" else None) or device.bf16_tflops
    if peak_tflops is None and device.achieved_bf16_tflops is not None:
        peak_tflops = MOST_OVER_MATMUL * device.achieved_bf16_tflops
    return None if peak_tflops is None else peak_tflops * TERA
