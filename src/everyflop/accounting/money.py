"""What devices cost. Prices are per device and hour, in whatever currency the price was given."""

from everyflop.base.units import GIGA, SECONDS_PER_HOUR


def cost(device_seconds: float, price_per_device_hour: float) -> float:
    """Return what device_seconds (devices times seconds) cost."""
    return device_seconds / SECONDS_PER_HOUR * price_per_device_hour


def cost_per_gtoken(tokens_per_device_s: float, price_per_device_hour: float) -> float:
    """Return what a billion tokens cost at a speed per device."""
    return cost(GIGA / tokens_per_device_s, price_per_device_hour)
