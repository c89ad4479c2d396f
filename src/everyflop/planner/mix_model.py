"""The choice of a fixed number of islands as a mixed-integer linear program.

Unknowns, for options j, pools p, and levels l (exchange times that links allow, shortest first):
  x_j   how many islands are of option j
  v_pk  1 if pool p has at least k islands
  z_l   1 if exchanges take as long as level l: pools with a slower link between them cannot both be taken
  y     speed of all islands after exchanges
  t_u   y if two islands with a priced link between them are taken, else 0: traffic is paid by the token
The speed y is a concave function of the speed before exchanges. Tangents bound it from above; mix.py adds them where
they turn out to be too loose.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement, pairwise
from math import sqrt

import numpy as np
from scipy.optimize import Bounds, milp
from scipy.sparse import csr_array

from everyflop.base.units import SECONDS_PER_DAY, SECONDS_PER_HOUR
from everyflop.planner.market import Caps, Market, Option

GAP = 1e-7
"""Relative gap at which the solver may stop; there is no time limit."""

Terms = Mapping[int, float]
"""Column -> coefficient."""


@dataclass
class MixModel:
    """Columns, and the rows that hold whatever is optimised."""

    market: Market
    options: Sequence[Option]
    islands: int
    caps: Caps
    least_pools: int = 1
    rows: list[tuple[Terms, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pools = sorted({option.pool for option in self.options})
        self.speed_unit = _middle([option.tokens_per_s for option in self.options])
        self.money_unit = _middle([option.money_per_hour for option in self.options])
        self.most_speed = self.islands * max(option.tokens_per_s for option in self.options) / self.speed_unit
        pairs = list(self._pairs())
        self.level_s = sorted({self._exchange_s(*pair) for pair in pairs if self.market.connected(*pair)}) or [0.0]
        self._number_columns(pairs)
        self._count_islands()
        self._keep_devices()
        self._keep_shares()
        self._connect(pairs)
        self._pay_traffic()
        if self.caps.days is not None:
            needed = self.market.tokens_needed(self.islands) / (self.caps.days * SECONDS_PER_DAY)
            self.rows.append(({self.y: 1.0}, needed / self.speed_unit, np.inf))
        self.add_tangent(0.0, 0)

    def solve(self, objective: Terms, extra: Sequence[tuple[Terms, float, float]] = ()) -> np.ndarray | None:
        """Return the columns that minimise the objective, None where nothing is possible."""
        rows = [*self.rows, *extra]
        at = [(r, c, value) for r, (terms, _, _) in enumerate(rows) for c, value in terms.items() if value]
        row, column, value = (np.array(part) for part in zip(*at, strict=True))
        matrix = csr_array((value, (row, column)), shape=(len(rows), self.n_columns))
        weights = np.zeros(self.n_columns)
        weights[list(objective)] = list(objective.values())
        result = milp(
            weights,
            integrality=self.integrality,
            bounds=Bounds(0, self.upper),  # pyright: ignore[reportArgumentType]
            constraints=(matrix, [low for _, low, _ in rows], [high for _, _, high in rows]),
            options={"mip_rel_gap": GAP, "presolve": False},  # HiGHS's presolve failed on one of these in 10**4
        )
        if result.status == 2:  # infeasible
            return None
        assert result.status == 0, result.message
        return result.x

    def chosen(self, columns: np.ndarray) -> list[int]:
        """Return the indices of the options taken, one for each island."""
        return [j for j in range(len(self.options)) for _ in range(round(columns[j]))]

    def level(self, columns: np.ndarray) -> int:
        """Return the level at which islands exchange."""
        return int(np.argmax(columns[self.z.start : self.z.stop]))

    def add_tangent(self, tokens_per_s: float, level: int) -> None:
        """Bound the speed after exchanges by its tangent at a speed before them, on this level and on slower ones."""
        loss = self.level_s[level] * self.speed_unit / self.market.tokens_between
        at = tokens_per_s / self.speed_unit
        slope, offset = 1 / (1 + loss * at) ** 2, loss * at**2 / (1 + loss * at) ** 2
        before = {j: -slope * option.tokens_per_s / self.speed_unit for j, option in enumerate(self.options)}
        slack = self.most_speed if level else 0.0
        at_least_so_slow = dict.fromkeys(self.z[level:], slack)
        self.rows.append(({self.y: 1.0, **at_least_so_slow, **before}, -np.inf, offset + slack))

    def money(self) -> dict[int, float]:
        """Return the terms of the price per hour, traffic included."""
        rent = {j: option.money_per_hour / self.money_unit for j, option in enumerate(self.options)}
        return rent | self.traffic_price

    def budget_row(self, cost: float) -> tuple[Terms, float, float]:
        """Return the row that keeps the whole run's price within a budget."""
        hourly = cost * SECONDS_PER_HOUR / self.market.tokens_needed(self.islands)
        return self.money() | {self.y: -hourly * self.speed_unit / self.money_unit}, -np.inf, 0.0

    def _pairs(self) -> Iterator[tuple[int, int]]:
        """Yield the pairs of pools that could both have an island, a pool with itself among them."""
        if self.islands > 1:
            yield from combinations_with_replacement(self.pools, 2)

    def _exchange_s(self, pool: int, other: int) -> float:
        return self.market.exchange_s(self.islands, pool, other)

    def _number_columns(self, pairs: list[tuple[int, int]]) -> None:
        n_options, levels = len(self.options), len(self.level_s)
        self.v = {
            (pool, k): n_options + place * self.islands + k - 1
            for place, pool in enumerate(self.pools)
            for k in range(1, self.islands + 1)
        }
        start = n_options + len(self.v)
        self.z = range(start, start + levels)
        self.y = start + levels
        priced = [pair for pair in pairs if self.market.connected(*pair) and self.market.price_per_gb[pair] > 0]
        units = [unit for pair in priced for unit in self._pair_units(*pair)]
        self.t = {unit: self.y + 1 + number for number, unit in enumerate(units)}
        self.n_columns = self.y + 1 + len(self.t)
        self.integrality = np.array([1] * self.y + [0] * (1 + len(self.t)))
        ones = [1.0] * (len(self.v) + levels)
        self.upper = np.array([float(self.islands)] * n_options + ones + [self.most_speed] * (1 + len(self.t)))

    def _pair_units(self, pool: int, other: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Yield pairs of one island's v with another's, such that as many are 1 as islands make pairs."""
        for k in range(1, self.islands + 1):
            for m in range(1, self.islands + 1):
                if (pool != other and k + m <= self.islands) or (pool == other and k < m):
                    yield (pool, k), (other, m)

    def _count_islands(self) -> None:
        add = self.rows.append
        add(({j: 1.0 for j in range(len(self.options))}, self.islands, self.islands))
        for pool in self.pools:
            of_pool = {j: 1.0 for j, option in enumerate(self.options) if option.pool == pool}
            ladder = [self.v[pool, k] for k in range(1, self.islands + 1)]
            add((of_pool | dict.fromkeys(ladder, -1.0), 0.0, 0.0))
            for below, above in pairwise(ladder):
                add(({below: 1.0, above: -1.0}, 0.0, np.inf))
        if self.least_pools > 1:
            add(({self.v[pool, 1]: 1.0 for pool in self.pools}, self.least_pools, np.inf))

    def _keep_devices(self) -> None:
        for pool in self.pools:
            rule = self.market.pools[pool]
            taken = {j: float(option.devices) for j, option in enumerate(self.options) if option.pool == pool}
            self.rows.append((taken, -np.inf, rule.most_devices))
            self.rows.append((taken | {self.v[pool, 1]: -float(rule.least_devices)}, 0.0, np.inf))
        if self.caps.devices is not None:
            self.rows.append(({j: float(o.devices) for j, o in enumerate(self.options)}, -np.inf, self.caps.devices))

    def _keep_shares(self) -> None:
        rules = self.market.pools
        groups = [({pool}, rules[pool].max_share) for pool in self.pools]
        if (cap := self.caps.supplier_share) is not None:
            suppliers = sorted({rules[pool].supplier for pool in self.pools})
            groups += [({p for p in self.pools if rules[p].supplier == supplier}, cap) for supplier in suppliers]
        for members, cap in groups:
            if cap < 1:
                weigh = {j: (o.pool in members) - cap for j, o in enumerate(self.options)}
                speeds = {j: w * self.options[j].tokens_per_s / self.speed_unit for j, w in weigh.items()}
                self.rows.append((speeds, -np.inf, 0.0))

    def _connect(self, pairs: list[tuple[int, int]]) -> None:
        self.rows.append(({column: 1.0 for column in self.z}, 1.0, 1.0))
        for pool, other in pairs:
            both = {self.v[pool, 1]: 1.0, self.v[other, 1]: 1.0} if pool != other else {self.v[pool, 2]: 1.0}
            connected = self.market.connected(pool, other)
            needs_s = self._exchange_s(pool, other) if connected else np.inf
            slow_enough = [column for column, level_s in zip(self.z, self.level_s, strict=True) if level_s >= needs_s]
            if len(slow_enough) < len(self.z):
                self.rows.append((both | dict.fromkeys(slow_enough, -1.0), -np.inf, len(both) - 1))

    def _pay_traffic(self) -> None:
        """Set t >= y where both are taken, and keep what a token's traffic costs in units of money and speed."""
        self.traffic_price: dict[int, float] = {}
        for (one, other), column in self.t.items():
            most = self.most_speed
            row = {column: 1.0, self.y: -1.0, self.v[one]: -most, self.v[other]: -most}
            self.rows.append((row, -2 * most, np.inf))
            per_token = self.market.traffic_price(self.islands, one[0], other[0])
            self.traffic_price[column] = per_token * SECONDS_PER_HOUR * self.speed_unit / self.money_unit


def _middle(values: Sequence[float]) -> float:
    """Return the number as many times above the least as below the largest: a unit that suits both."""
    return sqrt(min(values) * max(values))
