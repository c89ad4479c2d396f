"""How far the bill of a choice may be from the predicted one, and how probable it is that another one is lower.

The logarithms of islands' speeds are normal, with errors in common: of the formulas, of a chip, of a software. So all
choices are drawn together. The draws are no random numbers but an even lattice: the same question has the same answer.
Of what is not speed (failures, learning with several islands, prices) no uncertainty is known, so none is added.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from everyflop.planner.choose.market import Market
from everyflop.planner.choose.settle import Settled
from everyflop.planner.predict.predict import Z80
from everyflop.planner.speed.calibration import Calibration, Evidence
from everyflop.spec.plan import Spread

DRAWS = 4096


class Chances:
    """Joint draws of the bills of some choices."""

    def __init__(self, market: Market, choices: Sequence[Settled], calibration: Calibration):
        evidence = [found.evidence for choice in choices for found in choice.found]
        errors = normal_draws(log_speed_covariance(evidence, calibration))
        ends = np.cumsum([len(choice.islands) for choice in choices])
        parts = np.split(errors, ends[:-1], axis=1)
        drawn = [_bills(market, choice, part) for choice, part in zip(choices, parts, strict=True)]
        self.choices = list(choices)
        self.errors = parts
        self.days = [days for days, _ in drawn]
        self.costs = [costs for _, costs in drawn]

    def cheaper(self, one: int, other: int) -> float:
        """Return the probability that one choice costs less than another, by their numbers."""
        return float(np.mean(self.costs[one] < self.costs[other]))


def spread(p50: float, draws: np.ndarray) -> Spread:
    """Return a figure at median speeds with the ends of its central 80 %."""
    p10, p90 = np.quantile(draws, [0.1, 0.9])
    return Spread(p10=float(min(p10, p50)), p50=p50, p90=float(max(p90, p50)))


def log_spread(p50: float, log_sd: float) -> Spread:
    """Return the same for a figure whose logarithm is normal."""
    return Spread(p10=p50 * np.exp(-Z80 * log_sd), p50=p50, p90=p50 * np.exp(Z80 * log_sd))


def cost_width(market: Market, choice: Settled, calibration: Calibration) -> float:
    """Return P90 / P10 of the cost of a choice."""
    p10, p90 = np.quantile(Chances(market, [choice], calibration).costs[0], [0.1, 0.9])
    return float(p90 / p10)


def log_speed_covariance(evidence: Sequence[Evidence], calibration: Calibration) -> np.ndarray:
    """Return the covariance of log(actual / predicted speed) among islands.

    What makes two measurements of one configuration differ is mostly the release of the software, and islands of one
    kind of device run the same: that noise is common to them.
    """
    cases = Evidence.stack_up(list(evidence))
    noise = calibration.deviations.noise_of(cases.tags)
    same = cases.tags.chip[:, None] == cases.tags.chip
    return calibration.joint(cases) + same * noise[:, None] * noise


def normal_draws(covariance: np.ndarray) -> np.ndarray:
    """Return DRAWS draws (rows) of normal numbers with mean 0 and this covariance, evenly spread.

    A Kronecker lattice: multiples, modulo 1, of powers of the number that solves x^(d + 1) = x + 1, which generalises
    the golden ratio to d dimensions.
    """
    dimensions = len(covariance)
    ratio = 2.0
    for _ in range(64):  # a contraction: far more steps than digits
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    powers = ratio ** -np.arange(1, dimensions + 1)
    lattice = (0.5 + np.arange(1, DRAWS + 1)[:, None] * powers) % 1.0
    values, vectors = np.linalg.eigh(covariance)
    return ndtri(lattice) @ (vectors * np.sqrt(np.maximum(values, 0.0))).T


def _bills(market: Market, choice: Settled, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return days and cost of a choice for each draw of its islands' log speed errors.

    Exchanges take the same time at any speed; islands stop together, when enough tokens are trained.
    """
    speeds = np.array([island.tokens_per_s for island in choice.islands])
    raw = np.exp(errors) @ speeds
    bill = choice.bill
    after = raw / (1 + (1 / bill.kept_share - 1) * raw / speeds.sum())
    days = bill.days * bill.tokens_per_s / after
    hourly = sum(island.money_per_hour for island in choice.islands)
    traffic = bill.cost - hourly * 24 * bill.days
    return days, hourly * 24 * days + traffic
