"""The fitted formulas with their evidence: what turns layouts into speeds, for chips measured or not.

The constants, the deviations and the measurements behind them come with the package (catalog/efficiency.toml and
catalog/measurements.csv, written by bench/fit_planner.py); a user's own measurements are added to them.
"""

import csv
import functools
import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from everyflop.accounting.dims import dims_of
from everyflop.accounting.layouts import Layouts
from everyflop.catalog.catalog import Catalog
from everyflop.catalog.fill import filled
from everyflop.catalog.load import load_catalog
from everyflop.planner.predict.doubts import says_nothing
from everyflop.planner.predict.fitting import Measured, calibrate
from everyflop.planner.rows.cells import Row
from everyflop.planner.rows.line import REAL_IMBALANCE
from everyflop.planner.speed.calibration import Calibration, Deviations, Evidence, Tags
from everyflop.planner.speed.cases import Cases, Constants
from everyflop.planner.speed.chip import chip_of
from everyflop.planner.speed.features import sizes, time_shares
from everyflop.planner.speed.software import EVERYFLOP, stack_of
from everyflop.planner.speed.step_time import step_time
from everyflop.spec.device import DeviceSpec
from everyflop.spec.measured import MeasuredSpeed

EFFICIENCY, MEASUREMENTS = "efficiency.toml", "measurements.csv"


@dataclass(frozen=True, slots=True)
class Predictor:
    """Constants of the formulas, and the calibration on top of them."""

    constants: Constants
    calibration: Calibration

    def evidence(self, cases: Cases, parts_s: dict[str, np.ndarray], tags: Tags) -> Evidence:
        """Return cases as the calibration sees them; parts_s are their times by component."""
        return Evidence(tags, time_shares(parts_s, cases.in_fp8), sizes(cases))

    def with_measured(self, speeds: Sequence[MeasuredSpeed], catalog: Catalog) -> "Predictor":
        """Return a predictor that knows a user's measurements too."""
        speeds = [speed for speed in speeds if not says_nothing(speed, catalog)]
        if not speeds:
            return self
        found = [self._residual(speed, catalog) for speed in speeds]
        evidence = Evidence.stack_up([evidence for evidence, _ in found])
        more = self.calibration.also(evidence, np.array([residual for _, residual in found]))
        return Predictor(self.constants, more)

    def _residual(self, speed: MeasuredSpeed, catalog: Catalog) -> tuple[Evidence, float]:
        device, _ = filled(catalog.find(speed.device), catalog)
        chip, _ = chip_of(device)
        cases = Cases(
            dims=dims_of(speed.model),
            chip=chip,
            layouts=Layouts.of([speed.layout]),
            seq_len=speed.seq_len,
            batch_seqs=speed.batch_tokens // speed.seq_len,
            fp8=speed.precision == "fp8",
            imbalance=1.0 if speed.routing == "balanced" else REAL_IMBALANCE,
        )
        parts = step_time(cases, self.constants)
        predicted = speed.batch_tokens / float(np.sum(list(parts.values())))
        measured = speed.tokens_per_s_per_device * speed.layout.devices
        return self.evidence(cases, parts, tags_of(device)), float(np.log(measured / predicted))


def tags_of(device: DeviceSpec, kind: str = "moe", software: str = EVERYFLOP) -> Tags:
    """Return what a case on this device belongs to."""
    return Tags.one(device.name, device.architecture, software, stack_of(software), kind)


@functools.cache
def load_predictor() -> Predictor:
    """Return the predictor that comes with the package."""
    data = files("everyflop.catalog")
    tables = tomllib.loads(data.joinpath(EFFICIENCY).read_text(encoding="utf-8"))
    rows: list[Row] = list(csv.DictReader(data.joinpath(MEASUREMENTS).read_text(encoding="utf-8").splitlines()))
    constants = Constants(**tables["constants"])
    deviations = Deviations(
        overall=tuple(tables["deviations"]["overall"].values()),
        component=tuple(tables["deviations"]["component"].values()),
        **{key: tables["deviations"][key] for key in ("alike", "alike_distance", "noise", "moe_noise")},
    )
    measured = Measured.of(
        rows,
        [float(row["tokens_per_s_per_device"]) for row in rows],
        load_catalog(),
        doubt=[float(row["doubt"]) for row in rows],
    )
    return Predictor(constants, calibrate(measured, constants, deviations))


def efficiency_sha256() -> str:
    """Return the hex digest of the constants and measurements, so that a plan says what it was made with."""
    data = files("everyflop.catalog")
    return hashlib.sha256(b"".join(data.joinpath(name).read_bytes() for name in (EFFICIENCY, MEASUREMENTS))).hexdigest()
