"""The constants in the package are those that the script in the tree fits."""

import sys
import tomllib
from dataclasses import fields
from importlib.resources import files
from pathlib import Path

import pytest

from everyflop.planner.predict.predictor import efficiency_sha256, load_predictor
from everyflop.planner.rows.file import read_rows
from everyflop.planner.speed.cases import Constants

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT.parent / "shared" / "facts" / "measurements_dev.csv"


@pytest.mark.full
@pytest.mark.skipif(not PUBLISHED.exists(), reason="the table of published measurements is not here")
def test_fitting_again_gives_the_same_constants_and_measurements(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import fit_planner

    monkeypatch.setattr(fit_planner, "CATALOG", tmp_path)
    monkeypatch.setattr(sys, "argv", ["fit_planner.py", str(PUBLISHED)])
    fit_planner.main()

    catalog = files("everyflop.catalog")
    again, packaged = (tomllib.loads(place.joinpath("efficiency.toml").read_text()) for place in (tmp_path, catalog))
    # Libraries and threads sum in other orders: up to 4e-4 in a deviation of four digits, 1e-4 in a constant.
    assert again["constants"] == pytest.approx(packaged["constants"], rel=1e-3)
    for level in ("overall", "component"):
        assert again["deviations"].pop(level) == pytest.approx(packaged["deviations"].pop(level), rel=2e-3)
    assert again["deviations"] == pytest.approx(packaged["deviations"], rel=2e-3)
    assert again["provenance"] == packaged["provenance"]
    assert (tmp_path / "measurements.csv").read_bytes() == catalog.joinpath("measurements.csv").read_bytes()


def test_every_constant_is_positive_and_near_what_physics_allows():
    constants = load_predictor().constants
    shares = ("matmul", "memory", "inside", "between", "tensor_exposed", "expert_exposed")

    assert all(getattr(constants, f.name) > 0 for f in fields(Constants))
    assert all(getattr(constants, name) <= 1 for name in shares)


def test_no_calibrating_row_says_where_it_was_published():
    assert "source" not in load_predictor().calibration.measured.tags.__slots__


def test_packaged_measurements_are_a_table_that_predict_takes(tmp_path):
    table = tmp_path / "rows.csv"
    table.write_bytes(files("everyflop.catalog").joinpath("measurements.csv").read_bytes())
    rows = read_rows(table)

    assert len(rows) == len(load_predictor().calibration.residual)
    assert all(row["source_url"] for row in rows)


def test_a_plan_can_name_the_data_it_was_made_with():
    assert len(efficiency_sha256()) == 64
