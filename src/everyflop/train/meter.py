"""Count time, speed and money while training."""

from dataclasses import dataclass

from everyflop.accounting.money import cost
from everyflop.spec.train import MoneySpec


@dataclass(frozen=True, slots=True)
class Meter:
    """Turns seconds and tokens into what a user wants to know. One device; money is price times time held."""

    money: MoneySpec
    flops_per_token: float
    peak_flops_per_s: float
    """Measured matmul rate in the type that trains."""

    def cost(self, seconds: float) -> float | None:
        """Return what the device has cost; None without a price."""
        price = self.money.price_per_device_hour
        return None if price is None else cost(seconds, price)

    def mfu(self, tokens_per_s: float) -> float:
        """Return the share of the measured matmul rate that model FLOPs use."""
        return tokens_per_s * self.flops_per_token / self.peak_flops_per_s
