"""Numbers of a fleet file that are in another unit than their key says.

The ranges are so wide that nothing real lies outside: bits in place of gigabits, megabytes in place of gigabytes.
Works on the tables of a file that need not be valid: what is no positive number is left to validation. Money is in
plausible_money.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, log, sqrt
from typing import Any, TypeGuard

from everyflop.base.errors import Problem
from everyflop.spec.problems import without_numbers
from everyflop.spec.toml_file import Tables


@dataclass(frozen=True, slots=True)
class Range:
    """What a number may be, and the units that it is mistaken for, each with its factor to the right one."""

    low: float
    high: float
    unit: str = ""
    mistaken_for: tuple[tuple[str, float], ...] = ()
    otherwise: str = ""
    """A hint for numbers that look like none of these."""

    def problem(self, key: str, value: float) -> Problem | None:
        """Return what is wrong with a value, if anything."""
        if self.low <= value <= self.high:
            return None
        return Problem(key, f"{value:g} {self.unit} is not plausible", self._hint(value))

    def _hint(self, value: float) -> str:
        """Name the unit in which the value is nearest to the middle of the range."""
        middle = log(sqrt(self.low * self.high))
        looks_like = sorted(
            (abs(log(value * factor) - middle), unit, value * factor)
            for unit, factor in self.mistaken_for
            if self.low <= value * factor <= self.high
        )
        if looks_like:
            _, unit, converted = looks_like[0]
            return f"it looks like {unit}: write {converted:.12g}"
        return self.otherwise or f"expected {self.low:g} to {self.high:g} {self.unit}"


_GBIT = (("Mbit/s", 1e-3), ("bit/s", 1e-9))
_GB = (("MB", 1e-3), ("bytes", 1e-9))
_GB_PER_S = (("TB/s", 1e3), ("MB/s", 1e-3), ("bytes/s", 1e-9))
_TFLOPS = Range(1e-3, 200_000, "TFLOP/s", (("GFLOP/s", 1e-3), ("FLOP/s", 1e-12)))
_NETWORK = Range(0.01, 5_000, "Gbit/s", _GBIT)

RANGES = {
    "pool.scale_out_gbit_per_s": _NETWORK,
    "pool.devices_per_node": Range(1, 20_000, "devices", otherwise="what fast links connect: 8 in most servers"),
    "pool.failures_per_device_day": Range(1e-9, 24, "failures a day"),
    "pool.restart_minutes": Range(0.01, 1_440, "minutes", (("seconds", 1 / 60), ("ms", 1 / 60_000))),
    "pool.checkpoint_gb_per_s": Range(1e-4, 10_000, "GB/s", _GB_PER_S),
    "link.gbit_per_s": Range(1e-3, 1e6, "Gbit/s", _GBIT),  # a whole link: 2,500 devices with 400 each
    "link.latency_ms": Range(1e-3, 5_000, "ms", (("microseconds", 1e-3), ("nanoseconds", 1e-6))),
    "device.bf16_tflops": _TFLOPS,
    "device.fp8_tflops": _TFLOPS,
    "device.achieved_bf16_tflops": _TFLOPS,
    "device.mem_gb": Range(0.1, 8_000, "GB", _GB),
    "device.mem_bw_gb_per_s": Range(1, 50_000, "GB/s", _GB_PER_S),
    "device.scale_up_gb_per_s": Range(1, 50_000, "GB/s", _GB_PER_S),
    "device.scale_out_gbit_per_s": _NETWORK,
    "device.tdp_w": Range(1, 50_000, "W", (("kW", 1e3), ("mW", 1e-3))),
    "measured.peak_mem_gib": Range(1e-3, 8_000, "GiB", (("MiB", 2**-10), ("bytes", 2**-30))),
}


def implausible(tables: Tables) -> list[Problem]:
    """Return a problem for each positive number that its key's unit makes impossible, with the unit it looks like."""
    found = [
        RANGES[name].problem(key, value) for key, value in _numbers(tables) if (name := without_numbers(key)) in RANGES
    ]
    return [problem for problem in found if problem]


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Yield the positive numbers of tables with their keys."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _numbers(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _numbers(inner, f"{key}[{number}]")
    elif is_positive(value):
        yield key, value


def is_positive(value: Any) -> TypeGuard[float]:
    """Whether a value of a file is a positive number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return isfinite(value) and value > 0
    except OverflowError:  # an integer that no float holds
        return False
