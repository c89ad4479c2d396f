"""Fit the planner's constants and deviations to published measurements, and write them into the catalogue.

    python bench/fit_planner.py TABLE.csv

writes src/everyflop/catalog/efficiency.toml and measurements.csv. The same table gives the same bytes
with the same linear algebra library on the same number of threads; others move the fifth digit (OMP_NUM_THREADS=1 made
the files in the tree).
Takes about half a minute.
"""

import csv
import hashlib
import io
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import tomli_w

sys.path.insert(0, str(Path(__file__).parent))
from published_speeds import CONVERTED_DOUBT, QUALITY_DOUBT, converted_speed, printed_speed

from everyflop.catalog.load import load_catalog
from everyflop.planner.predict.fitting import PRIOR, START, Measured, fit_constants, fit_deviations
from everyflop.planner.rows.cases import row_cases, row_dims
from everyflop.planner.rows.cells import NUMBERS, Row
from everyflop.planner.rows.file import read_rows
from everyflop.planner.rows.sizes import UNKNOWN_SHAPE
from everyflop.planner.speed.calibration import LEVELS, Deviations
from everyflop.planner.speed.cases import Constants

CATALOG = Path(__file__).resolve().parent.parent / "src" / "everyflop" / "catalog"
COLUMNS = (
    *("id", "model", "kind", "accelerator", *NUMBERS, "sharding", "recompute", "dtype", "software", "notes"),
    *("source_id", "source_url", "quality", "tokens_per_s_per_device", "doubt"),
)
HEADER = """\
# Constants of the step-time formulas and how far they may be off. Written by bench/fit_planner.py;
# what each one means is in planner/speed/cases.py and planner/speed/calibration.py.

"""


def usable(rows: list[Row]) -> list[Row]:
    """Return the rows that can be fitted to, each with its speed and doubt: quality A and B with a layout."""
    catalog = load_catalog()
    found: list[Row] = []
    for row in rows:
        bad_figure = row["flags"] and "undercount" not in row["flags"]  # that flag is about TFLOP/s, not tokens/s
        if row["quality"] not in QUALITY_DOUBT or bad_figure or row["accelerator"] not in catalog:
            continue
        if (
            not (row["tp"] or row["pp"] or row["sharding"] == "fsdp")
            or UNKNOWN_SHAPE in row_cases([row], catalog).notes[0]
        ):
            continue
        printed = printed_speed(row)
        speed = printed or converted_speed(row, row_dims(row, catalog))
        if speed:
            doubt = float(np.hypot(QUALITY_DOUBT[row["quality"]], 0 if printed else CONVERTED_DOUBT))
            found.append({**row, "tokens_per_s_per_device": f"{speed:.6g}", "doubt": f"{doubt:.4g}"})
    return found


def measured_of(rows: list[Row]) -> Measured:
    """Return fitted rows, ready to fit."""
    speeds, doubts = ([float(row[name]) for row in rows] for name in ("tokens_per_s_per_device", "doubt"))
    return Measured.of(rows, speeds, load_catalog(), doubt=doubts)


def groupings(rows: list[Row]) -> list[np.ndarray]:
    """Return the ways of holding rows out: each alone, each source, each chip."""
    by = [np.unique([row[name] for row in rows], return_inverse=True)[1] for name in ("source_id", "accelerator")]
    return [np.arange(len(rows)), *by]


def fit(rows: list[Row]) -> tuple[Constants, Deviations]:
    """Return what explains the rows: constants, deviations under those, constants again."""
    measured = measured_of(rows)
    deviations = fit_deviations(measured, fit_constants(measured, START), groupings(rows))
    return fit_constants(measured, deviations), deviations


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    table = Path(sys.argv[1])
    rows = usable(read_rows(table))
    constants, deviations = fit(rows)
    found = {
        "provenance": provenance(table, rows),
        "constants": {name: float(f"{value:.5g}") for name, value in asdict(constants).items()},
        "deviations": tables_of(deviations),
    }
    (CATALOG / "efficiency.toml").write_text(HEADER + tomli_w.dumps(found))
    (CATALOG / "measurements.csv").write_text(csv_of(rows))
    print(f"fitted to {len(rows)} rows of {found['provenance']['sources']} sources", file=sys.stderr)
    return 0


def provenance(table: Path, rows: list[Row]) -> dict[str, object]:
    """Return what the constants were fitted to, from where they started, and by what."""
    return {
        "rows": len(rows),
        "sources": len({row["source_id"] for row in rows}),
        "chips": len({row["accelerator"] for row in rows}),
        "table_sha256": hashlib.sha256(table.read_bytes()).hexdigest(),
        "script": "bench/fit_planner.py",
        "prior": asdict(PRIOR),
    }


def tables_of(deviations: Deviations) -> dict:
    """Return the deviations by name, with four digits: more were noise of the optimiser."""
    by_level = {"overall": deviations.overall, "component": deviations.component}
    single = {name: value for name, value in asdict(deviations).items() if name not in by_level}
    levels = {name: dict(zip(LEVELS, values, strict=True)) for name, values in by_level.items()}
    return rounded({**single, **levels})


def rounded(values: dict) -> dict:
    """Return the same numbers with four digits."""
    return {k: rounded(v) if isinstance(v, dict) else float(f"{v:.4g}") for k, v in values.items()}


def csv_of(rows: list[Row]) -> str:
    """Return the fitted rows as a table that `everyflop predict` takes."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


if __name__ == "__main__":
    sys.exit(main())
