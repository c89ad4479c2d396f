"""Fit the constants of the formulas, and how far they may be off, to published measurements.

Constants: generalised least squares on log speed, with the covariance that the calibration assumes, so that fifty runs
of one software on one chip do not outvote the rest; a wide prior holds what the data do not say. Deviations: the
probability of each group of measurements (a chip, a source, a row) given all others, maximised. Both are
deterministic.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import least_squares, minimize

from everyflop.catalog.catalog import Catalog
from everyflop.planner.rows.cases import RowCases, row_cases
from everyflop.planner.rows.cells import Row
from everyflop.planner.speed.calibration import LEVELS, Calibration, Deviations, Evidence, covariance
from everyflop.planner.speed.cases import Constants
from everyflop.planner.speed.features import sizes, time_shares
from everyflop.planner.speed.step_time import step_time

PRIOR = Constants(
    matmul=0.85,
    matmul_fp8=1.0,
    traffic=0.4,
    expert_matmul=0.95,
    attention=0.7,
    plain_attention=1.3,
    softmax=1.0,
    memory=0.7,
    unfused=1.5,
    inside=0.6,
    between=0.6,
    tensor_exposed=0.7,
    expert_exposed=0.6,
    layer_ms=1.0,
    moe_layer_ms=5.0,
    power=0.25,
    scale_loss=0.01,
)
"""What one would guess before looking at any step: see docs/predict.md."""

PRIOR_LOG_SD = Constants(
    matmul=0.15,
    matmul_fp8=0.2,
    traffic=0.3,
    expert_matmul=0.15,
    attention=0.3,
    plain_attention=0.2,
    softmax=0.3,
    memory=0.3,
    unfused=0.15,
    inside=0.3,
    between=0.3,
    tensor_exposed=0.5,
    expert_exposed=0.5,
    layer_ms=0.5,
    moe_layer_ms=0.5,
    power=0.5,
    scale_loss=0.7,
)
"""How sure that is: the standard deviation of each one's logarithm."""

START = Deviations(
    overall=(0.03, 0.06, 0.04, 0.03, 0.12, 0.08),
    component=(0.10, 0.20, 0.10, 0.10, 0.20, 0.15),
    alike=0.12,
    alike_distance=1.5,
    noise=0.03,
    moe_noise=0.13,
)
"""Noise: the ranges that one source prints of the same configurations measured with several releases of its software, 5
dense and 16 MoE ones; the others are guesses."""
HYPER_LOG_SD = 0.3
TAILS = 4.0
"""Degrees of freedom: some published rows are off by a factor, and must not widen the interval of all others."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Measured rows, ready to fit."""

    rows: RowCases
    log_speed: np.ndarray
    """Of the measured tokens/s of all devices of a row."""
    doubt: np.ndarray
    """Standard deviation of log speed that a row's quality adds to the noise of any measurement."""

    @classmethod
    def of(
        cls,
        rows: Sequence[Row],
        tokens_per_s_per_device: Sequence[float],
        catalog: Catalog,
        *,
        doubt: Sequence[float] | None = None,
    ) -> "Measured":
        """Take rows and their measured speeds."""
        cases = row_cases(rows, catalog)
        devices = cases.mean(cases.cases.layouts.devices)
        doubts = np.zeros(len(rows)) if doubt is None else np.asarray(doubt, dtype=float)
        return cls(cases, np.log(devices * np.asarray(tokens_per_s_per_device)), doubts)

    def formula(self, constants: Constants) -> tuple[np.ndarray, np.ndarray, Evidence]:
        """Return log speed by the formulas, each row's variance beside noise, and the evidence of each row."""
        log_speed, blank, evidence = formula(self.rows, constants)
        return log_speed, blank + self.doubt**2, evidence


def formula(rows: RowCases, constants: Constants) -> tuple[np.ndarray, np.ndarray, Evidence]:
    """Return log tokens/s of each row, its variance over what was assumed, and the evidence for a calibration."""
    cases = rows.cases
    parts = step_time(cases, constants)
    log_speed = np.log(cases.batch_seqs * cases.seq_len / np.sum(list(parts.values()), axis=0))
    shares, logs = time_shares(parts, cases.in_fp8), sizes(cases)
    evidence = Evidence(
        rows.tags,
        np.stack([rows.mean(column) for column in shares.T], axis=1),
        np.stack([rows.mean(column) for column in logs.T], axis=1),
    )
    return rows.mean(log_speed), rows.spread(log_speed) + rows.log_sd**2, evidence


def fit_constants(measured: Measured, deviations: Deviations = START, *, rounds: int = 3) -> Constants:
    """Return the constants that explain the measurements best."""
    prior, prior_sd = PRIOR.vector(), np.array(list(asdict(PRIOR_LOG_SD).values()))
    found = prior
    for _ in range(rounds):  # the covariance depends on where time goes, which depends on the constants
        _, blank, evidence = measured.formula(Constants.from_vector(found))
        total = covariance(evidence, evidence, deviations) + np.diag(blank + deviations.noise_of(evidence.tags) ** 2)
        root = np.linalg.cholesky(total)

        def misfit(vector: np.ndarray, root: np.ndarray = root) -> np.ndarray:
            residual = measured.log_speed - measured.formula(Constants.from_vector(vector))[0]
            return np.concatenate([solve_triangular(root, residual, lower=True), (vector - prior) / prior_sd])

        found = least_squares(misfit, found).x
    return Constants.from_vector(found)


def calibrate(measured: Measured, constants: Constants, deviations: Deviations) -> Calibration:
    """Return the calibration that the measurements make with these constants."""
    log_formula, blank, evidence = measured.formula(constants)
    return Calibration.fit(deviations, evidence, measured.log_speed - log_formula, np.sqrt(blank))


def fit_deviations(measured: Measured, constants: Constants, groupings: Sequence[np.ndarray]) -> Deviations:
    """Return the deviations under which each group is most probable given all others.

    groupings: for each way of holding out, the group's number of every row. Uses the closed form for a held-out block
    of a Gaussian process, so that nothing is fitted anew.
    """
    log_formula, blank, evidence = measured.formula(constants)
    residual = measured.log_speed - log_formula
    start = _pack(START)

    def surprise(vector: np.ndarray) -> float:
        deviations = _unpack(vector)
        total = covariance(evidence, evidence, deviations) + np.diag(blank + deviations.noise_of(evidence.tags) ** 2)
        inverse = np.linalg.inv(total)
        weighted = inverse @ residual
        score = sum(_surprise(inverse, weighted, groups) for groups in groupings) / len(groupings)
        return score + float((((vector - start) / HYPER_LOG_SD) ** 2).sum()) / 2

    return _unpack(minimize(surprise, start, method="L-BFGS-B", options={"maxiter": 60}).x)


def _surprise(inverse: np.ndarray, weighted: np.ndarray, groups: np.ndarray) -> float:
    """Return the sum over held-out rows of -log of their own predictive density, with Student's heavy tails."""
    total = 0.0
    for group in np.unique(groups):
        inside = np.flatnonzero(groups == group)
        block = np.linalg.inv(inverse[np.ix_(inside, inside)])
        error, variance = block @ weighted[inside], np.diag(block)
        tails = (TAILS + 1) * np.log1p(error**2 / (TAILS * variance))
        total += float((np.log(variance) + tails).sum()) / 2
    return total


def _pack(d: Deviations) -> np.ndarray:
    return np.log([*d.overall, *d.component, d.alike, d.alike_distance, d.noise, d.moe_noise])


def _unpack(vector: np.ndarray) -> Deviations:
    values = [float(value) for value in np.exp(vector)]
    n = len(LEVELS)
    return Deviations(tuple(values[:n]), tuple(values[n : 2 * n]), *values[2 * n :])
