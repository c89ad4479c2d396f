"""Names for unit conversions, and numbers as people write and read them.

GiB is 2**30 bytes and GB is 10**9; rates are per second, prices per hour.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from math import floor, log10

SECONDS_PER_HOUR = 3600.0
SECONDS_PER_DAY = 24 * SECONDS_PER_HOUR
MIB = 2**20
GIB = 2**30
GIGA = 1e9
TERA = 1e12

_SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}


def parse_count(text: str) -> int:
    """Read a count such as "250000", "1_000_000", "1.5M" or "9T".

    Raises ValueError when the text is no such number or the result is no whole number.
    """
    value = _number(text, "a count such as 250000, 1_000_000, 1.5M or 9T")
    if value != int(value):
        raise ValueError(f"'{text}' is not a whole number")
    return int(value)


def parse_amount(text: str) -> float:
    """Read an amount such as "12.3", "5K" or "1.5M". Raises ValueError when the text is none."""
    return float(_number(text, "an amount such as 12.3, 5K or 1.5M"))


def _number(text: str, what: str) -> Decimal:
    match = re.fullmatch(r"(\d[\d_]*(?:\.\d+)?)\s*([KMBGT]?)", text.strip(), re.IGNORECASE | re.ASCII)
    if not match:
        raise ValueError(f"'{text}' is not {what}")
    return Decimal(match[1]) * _SUFFIXES[match[2].upper()]


def short_count(value: float) -> str:
    """Write a count with three figures: 954000 -> "954 K", 9.6e6 -> "9.60 M"."""
    rounded = float(f"{value:.2e}")
    for suffix, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if abs(rounded) >= size:
            scaled = rounded / size
            digits = 2 if abs(scaled) < 10 else 1 if abs(scaled) < 100 else 0
            return f"{scaled:.{digits}f} {suffix}"
    return f"{rounded:g}"


def short_time(seconds: float) -> str:
    """Write a duration: 95 -> "1 min 35 s"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{seconds / SECONDS_PER_HOUR / 24:.1f} days"


def money(amount: float, currency: str) -> str:
    """Write an amount so that small ones do not vanish: 0.00123 -> "0.0012 USD"."""
    return f"{amount:,.2f} {currency}" if abs(amount) >= 1 else f"{amount:.2g} {currency}"


def short_money(amount: float, currency: str) -> str:
    """Write an amount with three figures: 5_083_210 -> "5.08 M CNY"."""
    return f"{short_count(amount)} {currency}"


def percent(share: float) -> str:
    """Write a share of 1: 0.213 -> "21 %", 0.034 -> "3.4 %"."""
    return f"{100 * share:.1f} %" if abs(share) < 0.0995 else f"{100 * share:.0f} %"


def decimals_of(largest: float) -> int:
    """Return how many decimals give the largest of some figures at least three digits, and at most six decimals."""
    return next((n for n in range(6) if abs(largest) * 10**n >= 100), 6)


@dataclass(frozen=True, slots=True)
class Scale:
    """One size and number of decimals for a whole column or axis, so that its figures can be compared at a glance."""

    size: float
    suffix: str
    """Of the size: "M" where it is 1e6, empty where it is 1."""
    decimals: int

    def write(self, value: float) -> str:
        """Write a value without the suffix, which belongs in the heading: 5_083_210 -> "5.08"."""
        return f"{value / self.size:,.{self.decimals}f}"


def scale_of(values: Iterable[float]) -> Scale:
    """Return the scale that gives the smallest positive value two or three figures: 9e5 -> "0.90" M."""
    least = min((value for value in values if value > 0), default=1.0)
    size, suffix = next(((s, text) for s, text in _SCALES if least >= 0.5 * s), _SCALES[-1])
    scaled = least / size
    decimals = 2 if 0.5 <= scaled < 10 else max(0, (2 if scaled >= 10 else 1) - floor(log10(scaled)))
    return Scale(size, suffix, decimals)


def time_scale_of(days: Iterable[float]) -> Scale:
    """Return the scale of times given in days: the longest unit of which the shortest time has one."""
    least = min((value for value in days if value > 0), default=1.0)
    size, suffix = next(((s, text) for s, text in _TIMES_IN_DAYS if least >= s), _TIMES_IN_DAYS[-1])
    return Scale(size, suffix, 0 if least / size >= 100 else 1)


_TIMES_IN_DAYS = ((1.0, "days"), (1 / 24, "hours"), (1 / 1440, "minutes"), (1 / 86_400, "seconds"))
_SCALES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"), (1.0, ""))
