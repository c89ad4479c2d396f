"""Constants and deviations are found again in measurements that were made with them."""

import csv
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

from everyflop.catalog.load import load_catalog
from everyflop.planner.predict.fitting import PRIOR, START, Measured, calibrate, fit_constants, fit_deviations, formula
from everyflop.planner.speed.cases import Constants

PACKAGED = files("everyflop.catalog").joinpath("measurements.csv").read_text(encoding="utf-8").splitlines()
ROWS = list(csv.DictReader(PACKAGED))[::12]
GROUPS = [np.arange(len(ROWS)), np.unique([row["accelerator"] for row in ROWS], return_inverse=True)[1]]


def made_with(constants: Constants, *, noise: float = 0.0) -> Measured:
    """Return the rows with the speeds that the formulas give under these constants."""
    some = Measured.of(ROWS, [1.0] * len(ROWS), load_catalog())
    luck = noise * np.random.default_rng(0).standard_normal(len(ROWS))
    return replace(some, log_speed=formula(some.rows, constants)[0] + luck)


def test_speeds_that_the_prior_explains_leave_it_alone():
    fitted = fit_constants(made_with(PRIOR))

    assert fitted.vector() == pytest.approx(PRIOR.vector(), abs=1e-4)


def test_what_the_formulas_alone_must_explain_moves_the_constants():
    truth = replace(PRIOR, matmul=0.7, memory=0.5)
    sure = replace(START, overall=(0.01,) * 6, component=(0.01,) * 6, alike=0.01)
    fitted = fit_constants(made_with(truth), sure)

    assert fitted.matmul == pytest.approx(0.7, rel=0.01)
    assert fitted.memory < 0.6  # of 0.7; the rest may be unfused kernels
    assert fitted.scale_loss == pytest.approx(PRIOR.scale_loss, rel=0.1)  # what they do not show stays put


def test_fitting_twice_gives_the_same_bits():
    measured = made_with(PRIOR, noise=0.1)

    assert fit_constants(measured) == fit_constants(measured)
    assert fit_deviations(measured, PRIOR, GROUPS) == fit_deviations(measured, PRIOR, GROUPS)


def test_noisier_measurements_are_found_to_be_noisier():
    quiet, noisy = (fit_deviations(made_with(PRIOR, noise=sd), PRIOR, GROUPS) for sd in (0.01, 0.3))

    assert noisy.noise > quiet.noise
    assert sum(noisy.overall) + sum(noisy.component) > sum(quiet.overall) + sum(quiet.component)


def test_a_calibration_knows_how_far_each_row_is_from_the_formulas():
    slower = replace(made_with(PRIOR), log_speed=made_with(PRIOR).log_speed - 0.2)
    calibration = calibrate(slower, PRIOR, START)

    assert calibration.residual == pytest.approx(np.full(len(ROWS), -0.2))


def test_what_blank_cells_leave_open_is_the_spread_over_their_cases():
    known, blank = ({**ROWS[0], "recompute": policy, "micro_batch": "1"} for policy in ("none", ""))
    variances = [formula(Measured.of([row], [1.0], load_catalog()).rows, PRIOR)[1][0] for row in (known, blank)]

    assert variances[0] == 0
    assert variances[1] > 0
