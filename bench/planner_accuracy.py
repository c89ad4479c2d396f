"""How far the planner's predictions are from published measurements that it was not fitted to.

    python bench/planner_accuracy.py TABLE.csv [--details OUT.csv]

prints one JSON line. Every figure is of |log(predicted / measured)| on all quality-A rows that print a speed or a step
time; rows that print only MFU or TFLOP/s are converted to their source's convention and reported apart. Constants and
deviations are fitted again for each way of holding out, to the rows that are left:

    known         a tenth of the rows at a time, drawn once; four other draws stand beside it
    new source    one source at a time, on chips that other sources measured
    new chip      one chip at a time
    calibrated    the same with one of the chip's rows told as a user's measurement, every one of up to eight in turn
    asked for     the same with the row told that the planner would ask for: the one whose measurement narrows the
                  intervals of the chip's other rows most, chosen without any measured speed

Beside it stands a constant-MFU guess that is fitted the same way (median MFU of chip and type, of the type where the
chip is new). The negative control gives every row the speed of another row of its chip: what then remains right was
never learned. Takes about five minutes.
"""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from fit_planner import fit, groupings, measured_of, usable

from everyflop.accounting.memory import memory
from everyflop.accounting.model_flops import training_flops_per_token
from everyflop.catalog.load import load_catalog
from everyflop.planner.predict.fitting import calibrate
from everyflop.planner.predict.predict import Z80
from everyflop.planner.rows.cases import row_cases
from everyflop.planner.rows.cells import Row
from everyflop.planner.rows.file import read_rows
from everyflop.planner.speed.calibration import Calibration, Evidence
from everyflop.planner.speed.cases import Constants

MOST_CALIBRATIONS = 8
DRAWS = 5
SPLITS = ("known", "new source", "new chip")


@dataclass(frozen=True, slots=True)
class Errors:
    """Held-out predictions; arrays with one entry for each."""

    row: np.ndarray
    log_error: np.ndarray
    log_sd: np.ndarray
    formula_error: np.ndarray
    """Before the calibration."""
    guess_error: np.ndarray
    """Of the constant-MFU guess."""


def held_out(rows: list[Row], train: np.ndarray, test: np.ndarray) -> Errors:
    """Fit constants and deviations to the rows at `train`, and predict those at `test`."""
    known = [rows[i] for i in train]
    constants, deviations = fit(known)
    return errors_of(rows, train, test, constants, calibrate(measured_of(known), constants, deviations))


def errors_of(rows: list[Row], train: np.ndarray, test: np.ndarray, c: Constants, known: Calibration) -> Errors:
    """Predict the rows at `test`; those at `train` are for the constant-MFU guess."""
    asked = measured_of([rows[i] for i in test])
    log_formula, variance, evidence = asked.formula(c)
    correction, log_sd = known.correct(evidence)
    guess = np.log([constant_mfu(rows, train, i) / mfu_of(rows[i]) for i in test])
    error = log_formula - asked.log_speed
    return Errors(np.asarray(test), error + correction, np.sqrt(log_sd**2 + variance), error, guess)


def mfu_of(row: Row) -> float:
    """Return model FLOP/s over the dense peak of the row's type."""
    cases = row_cases([row], load_catalog())
    flops = cases.mean(training_flops_per_token(cases.cases.dims, cases.cases.seq_len))[0]
    peak = cases.mean(cases.cases.chip.peak("fp8" in row["dtype"]))[0]
    return float(row["tokens_per_s_per_device"]) * flops / peak


def constant_mfu(rows: list[Row], train: np.ndarray, asked: int) -> float:
    """Return the median MFU of the fitted rows of the same chip and type, or of the type."""
    for same in (("accelerator", "dtype"), ("dtype",), ()):
        like = [rows[i] for i in train if all(rows[i][key] == rows[asked][key] for key in same)]
        if like:
            return float(np.median([mfu_of(row) for row in like]))
    raise ValueError("there is no row to guess from")


def splits(rows: list[Row]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield a name, the rows to fit to and the rows to predict; all but those that tell one row of a chip."""
    every = np.arange(len(rows))
    _, source, chip = groupings(rows)
    for draw in range(DRAWS):
        tenth = np.random.default_rng(draw).permutation(len(rows)) % 10
        for part in range(10):
            yield "known" if draw == 0 else f"known, draw {draw}", every[tenth != part], every[tenth == part]
    for one in np.unique(source):
        train = every[source != one]
        known = np.isin(chip, chip[train])
        yield "new source", train, every[(source == one) & known]
    for one in np.unique(chip):
        yield "new chip", every[chip != one], every[chip == one]


def told(rows: list[Row], judged: np.ndarray) -> Iterator[tuple[str, Errors]]:
    """Yield predictions of a new chip's other rows after one of its rows is told as a user's measurement."""
    every, chip = np.arange(len(rows)), groupings(rows)[2]
    for one in np.unique(chip):
        others, own = every[chip != one], every[(chip == one) & judged]
        if len(own) < 2:
            continue
        known = [rows[i] for i in others]
        constants, deviations = fit(known)
        before = calibrate(measured_of(known), constants, deviations)
        asked = measured_of([rows[i] for i in own])
        log_formula, _, evidence = asked.formula(constants)
        for name, given in _given(before, evidence):
            at = np.array([given])
            after = before.also(evidence.take(at), (asked.log_speed - log_formula)[at])
            yield name, errors_of(rows, np.append(others, own[given]), np.delete(own, given), constants, after)


def _given(known: Calibration, evidence: Evidence) -> Iterator[tuple[str, int]]:
    """Yield which of a chip's rows are told: up to MOST_CALIBRATIONS in turn, and the one that explains most."""
    n = len(evidence.shares)
    for i in range(0, n, max(1, -(-n // MOST_CALIBRATIONS))):
        yield "calibrated", i
    shared = known.joint(evidence)
    alone = np.diag(shared) + known.deviations.noise_of(evidence.tags) ** 2
    explained = (shared**2 / alone).sum(axis=0) - np.diag(shared) ** 2 / alone  # of the others, by each row
    yield "asked for", int(np.argmax(explained))


def together(parts: list[Errors]) -> Errors:
    """Put predictions one after the other."""
    names = ("row", "log_error", "log_sd", "formula_error", "guess_error")
    return Errors(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def figures(errors: Errors, rows: list[Row], only: np.ndarray) -> dict[str, float | int]:
    """Return the figures of the predictions whose row is in the mask."""
    use = only[errors.row]
    error, sd = np.abs(errors.log_error[use]), errors.log_sd[use]
    if not len(error):
        return {"n": 0}
    source = np.array([rows[i]["source_id"] for i in errors.row[use]])
    by_source = [np.median(error[source == name]) for name in np.unique(source)]
    guess = np.abs(errors.guess_error[use])
    return {
        "n": len(error),
        "median": _round(np.median(error)),
        "p90": _round(np.quantile(error, 0.9)),
        "median_over_sources": _round(np.median(by_source)),
        "formula_median": _round(np.median(np.abs(errors.formula_error[use]))),
        "constant_mfu_median": _round(np.median(guess)),
        "of_constant_mfu": _round(np.median(error) / np.median(guess)),
        "coverage_80": _round(np.mean(error <= Z80 * sd)),
    }


def shuffled(rows: list[Row]) -> list[Row]:
    """Return the rows with MFU dealt anew among rows of the same chip, as speeds: the negative control."""
    order = np.random.default_rng(0).permutation(len(rows))
    chips: dict[str, list[int]] = {}
    for i in order:
        chips.setdefault(rows[i]["accelerator"], []).append(int(i))
    dealt = list(rows)
    for members in chips.values():
        for to, start in zip(sorted(members), members, strict=True):
            speed = float(rows[to]["tokens_per_s_per_device"]) * mfu_of(rows[start]) / mfu_of(rows[to])
            dealt[to] = {**rows[to], "tokens_per_s_per_device": f"{speed:.6g}"}
    return dealt


def pooled_coverage(found: dict[str, Errors], judged: np.ndarray) -> float:
    """Return the share of all held-out predictions of the three splits that lie inside their 80 % interval."""
    inside = [np.abs(e.log_error[judged[e.row]]) <= Z80 * e.log_sd[judged[e.row]] for e in map(found.get, SPLITS) if e]
    return float(np.mean(np.concatenate(inside)))


def memory_errors(rows: list[Row]) -> np.ndarray:
    """Return |log(predicted / measured)| of the peak memory of every row that prints one."""
    cases = row_cases(rows, load_catalog())
    c = cases.cases
    parts = memory(c.dims, c.layouts, seq_len=c.seq_len, n_micro=c.n_micro)
    predicted = cases.mean(np.log(np.sum(list(parts.values()), axis=0)))
    return np.abs(predicted - np.log([float(row["peak_mem_gb"]) for row in rows]))


def regrets(rows: list[Row], errors: Errors) -> dict[str, float | int]:
    """Return the mean regret of picking the best predicted layout, over groups that differ only in layout.

    Regret is the share of the best measured speed that the pick loses; beside
    it a random pick's, and that of the largest micro-batch.
    """
    predicted = {
        int(i): np.log(float(rows[i]["tokens_per_s_per_device"])) + e
        for i, e in zip(errors.row, errors.log_error, strict=True)
    }
    lost: list[tuple[float, float, float]] = []
    for members in alternatives(rows, list(predicted)):
        speed = np.array([float(rows[i]["tokens_per_s_per_device"]) for i in members])
        pick = int(np.argmax([predicted[i] for i in members]))
        largest = int(np.argmax([float(rows[i]["micro_batch"] or 1) for i in members]))
        lost.append((1 - speed[pick] / speed.max(), 1 - speed.mean() / speed.max(), 1 - speed[largest] / speed.max()))
    mean = np.mean(lost, axis=0)
    return {
        "groups": len(lost),
        "mean_regret": _round(mean[0]),
        "random": _round(mean[1]),
        "largest_micro_batch": _round(mean[2]),
    }


def alternatives(rows: list[Row], members: list[int]) -> Iterator[list[int]]:
    """Yield groups of rows that differ only in layout and whose speeds differ by a tenth or more."""
    same = ("model", "accelerator", "n_devices", "seq_len", "dtype", "source_id", "global_batch_seqs")
    layout = ("tp", "pp", "vpp", "cp", "ep", "etp", "micro_batch", "sharding")
    groups: dict[tuple[str, ...], list[int]] = {}
    for i in members:
        groups.setdefault(tuple(rows[i][key] for key in same), []).append(i)
    for group in groups.values():
        speeds = [float(rows[i]["tokens_per_s_per_device"]) for i in group]
        if len({tuple(rows[i][key] for key in layout) for i in group}) > 1 and max(speeds) / min(speeds) >= 1.1:
            yield group


def _round(value: float) -> float:
    return float(f"{value:.3g}")


def held_out_everywhere(rows: list[Row], judged: np.ndarray) -> dict[str, Errors]:
    """Return the predictions of each way of holding out."""
    parts: dict[str, list[Errors]] = {}
    for name, train, test in splits(rows):
        if len(test):
            parts.setdefault(name, []).append(held_out(rows, train, test))
    for name, errors in told(rows, judged):
        parts.setdefault(name, []).append(errors)
    return {name: together(errors) for name, errors in parts.items()}


def control(rows: list[Row]) -> Errors:
    """Return predictions by tenths after the speeds of all rows were shuffled within their chips."""
    dealt = shuffled(rows)
    return together([held_out(dealt, train, test) for name, train, test in splits(rows) if name == "known"])


def main() -> int:
    details = sys.argv[sys.argv.index("--details") + 1] if "--details" in sys.argv else None
    everything = read_rows(Path(sys.argv[1]))
    rows = usable(everything)
    printed = np.array([row["quality"] == "A" and bool(row["derived_tps_per_device"]) for row in rows])
    moe = np.array([row["kind"] == "moe" for row in rows])
    found = held_out_everywhere(rows, printed)
    mem = memory_errors([r for r in everything if r["quality"] == "A" and r["peak_mem_gb"]])
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    line = {
        "what": "predicted against published speed, held out, |log ratio|",
        "commit": commit.stdout.strip(),
        "rows_judged": int(printed.sum()),
        "rows_fitted": len(rows),
        **{name: figures(errors, rows, printed) for name, errors in found.items()},
        "moe": {name: figures(errors, rows, printed & moe) for name, errors in found.items()},
        "mfu_only": {name: figures(errors, rows, ~printed) for name, errors in found.items()},
        "pooled_coverage_80": _round(pooled_coverage(found, printed)),
        "control_shuffled": figures(control(rows), rows, printed),
        "memory": {"n": len(mem), "median": _round(np.median(mem)), "p90": _round(np.quantile(mem, 0.9))},
        "choice": regrets(rows, found["known"]),
        "choice_new_source": regrets(rows, found["new source"]),
    }
    print(json.dumps(line))
    if details:
        write_details(Path(details), rows, found, printed)
    return 0


def write_details(path: Path, rows: list[Row], found: dict[str, Errors], judged: np.ndarray) -> None:
    """Write every held-out prediction beside its measurement."""
    shown = ("id", "vendor", "kind", "dtype", "accelerator", "model")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["split", *shown, "measured", "predicted", "log_sd", "judged"])
        for name, errors in found.items():
            for i, error, sd in zip(errors.row, errors.log_error, errors.log_sd, strict=True):
                speed = float(rows[i]["tokens_per_s_per_device"])
                numbers = [f"{speed:.6g}", f"{speed * np.exp(error):.6g}", f"{sd:.4g}"]
                writer.writerow([name, *(rows[i][key] for key in shown), *numbers, "yes" if judged[i] else "no"])


if __name__ == "__main__":
    sys.exit(main())
