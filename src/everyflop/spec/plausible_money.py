"""Prices and rates of a fleet file that cannot be meant: a purchase price in place of an hour's, a rate upside down.

As in plausible.py the ranges are wide, and tables need not be valid.
"""

from collections.abc import Iterator
from dataclasses import replace

from everyflop.base.errors import Problem
from everyflop.spec.plausible import Range, is_positive
from everyflop.spec.toml_file import Tables, entries

_PRICES_USD = {
    ("pool", "price_per_device_hour"): Range(
        1e-3,
        50,
        mistaken_for=(("a price per second", 3600),),
        otherwise="one device and one hour: divide a node's price by its devices, a month's by 730, a year's by 8,760",
    ),
    ("link", "price_per_gb"): Range(1e-6, 5, mistaken_for=(("a price per TB", 1e-3),)),
}

_ROUGHLY_PER_USD = {"USD": 1, "EUR": 1, "GBP": 1, "CHF": 1, "CAD": 1.5, "AUD": 1.5, "CNY": 8, "TWD": 30, "INR": 90}
"""To the order of magnitude, for these ranges only. Prices in other currencies are not looked at."""

_MOST_OFF = 4
"""Rates of these currencies lie nearer than this factor to what the table says."""


def implausible_money(tables: Tables) -> list[Problem]:
    """Return a problem for each rate and each price that cannot be meant."""
    rates = _rates(tables)
    problems = {currency: _rate_problem(currency, rate, _common(tables)) for currency, rate in rates.items()}
    wrong = {currency for currency, problem in problems.items() if problem}
    return [problem for problem in [*problems.values(), *_prices(tables, rates, wrong)] if problem]


def _common(tables: Tables) -> str:
    """Return the currency of the fleet; empty where it is not known."""
    money = tables.get("money")
    said = money.get("currency") if isinstance(money, dict) else None
    said = said or next((pool["currency"] for _, pool in entries(tables, "pool") if pool.get("currency")), None)
    return said if isinstance(said, str) else ""


def _rates(tables: Tables) -> dict[str, float]:
    money = tables.get("money")
    rates = money.get("rates") if isinstance(money, dict) else None
    return {name: rate for name, rate in rates.items() if is_positive(rate)} if isinstance(rates, dict) else {}


def _rate_problem(currency: str, rate: float, common: str) -> Problem | None:
    """Return what is wrong with a rate between two currencies of which the rough value is known."""
    if currency == common or not {currency, common} <= set(_ROUGHLY_PER_USD):
        return None
    right = _ROUGHLY_PER_USD[common] / _ROUGHLY_PER_USD[currency]
    found = f"one {currency} is not worth {rate:g} {common}"
    if right / _MOST_OFF <= rate <= right * _MOST_OFF:
        return None
    if right / _MOST_OFF <= 1 / rate <= right * _MOST_OFF:
        return Problem(f"money.rates.{currency}", found, f"it looks upside down: write {1 / rate:.3g}")
    return Problem(f"money.rates.{currency}", found, f"how many {common} one {currency} is: about {right:.2g}")


def _prices(tables: Tables, rates: dict[str, float], wrong_rates: set[str]) -> Iterator[Problem | None]:
    common = _common(tables)
    for (table, name), usd in _PRICES_USD.items():
        for number, entry in entries(tables, table):
            price, currency = entry.get(name), entry.get("currency", common)
            if not is_positive(price) or not isinstance(currency, str) or currency in wrong_rates:
                continue
            key = f"{table}[{number}].{name}"
            if currency in _ROUGHLY_PER_USD:
                yield _in_currency(usd, currency).problem(key, price)
            elif currency in rates and common in _ROUGHLY_PER_USD:
                problem = _in_currency(usd, common).problem(key, price * rates[currency])
                said = f"{price:g} {currency} at money.rates.{currency}: one of them is wrong"
                yield problem and replace(problem, hint=said)


def _in_currency(usd: Range, currency: str) -> Range:
    scale = _ROUGHLY_PER_USD[currency]
    return replace(usd, low=usd.low * scale, high=usd.high * scale, unit=currency)
