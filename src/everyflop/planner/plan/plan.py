"""The planner as one call: what `everyflop plan` and `ef.plan` do."""

from collections.abc import Sequence
from pathlib import Path

from everyflop.base.errors import InvalidFile, Problem
from everyflop.catalog.catalog import Catalog
from everyflop.catalog.load import load_catalog
from everyflop.planner.plan.lifetime import within_a_lifetime
from everyflop.planner.plan.make_plan import make_plan
from everyflop.planner.plan.request import Request, request_of
from everyflop.planner.plan.ways import LEAST_EXCHANGES, possible_ways
from everyflop.planner.plan.workloads import launch_command, workload_of
from everyflop.planner.predict.impossible import refuse_impossible
from everyflop.spec.fleet import Fleet
from everyflop.spec.fleet_file import read_fleet
from everyflop.spec.measured_file import read_measured, with_measurements
from everyflop.spec.plan import Objective, Plan
from everyflop.spec.workload import Precision, Workload


def plan(
    fleet: str | Path | Fleet,
    *,
    model: str | Path,
    tokens: int | str | None = None,
    seq_len: int | str | None = None,
    batch_tokens: int | str | None = None,
    precision: Precision = "bf16",
    objective: Objective = "cost",
    budget: float | str | None = None,
    currency: str | None = None,
    deadline_days: float | None = None,
    max_supplier_share: float | None = None,
    max_devices: int | None = None,
    max_islands: int | None = None,
    measured: str | Path | Sequence[str | Path] = (),
    plan_file: str | Path = "plan.json",
) -> Plan:
    """Return the plan that trains a model on a fleet at the lowest cost, or in the shortest time.

    fleet is a fleet file or what one holds, model a preset's name or a run file, measured files that `everyflop
    measure` wrote. Counts and money may be texts such as "1T". Money is in the fleet's currency unless another is
    given; plan_file is where the launch command will find the plan. Raises UsageError (a file or a value is wrong),
    ExpectedNo (no plan fits).
    """
    asked = request_of(
        fleet=fleet,
        model=model,
        tokens=tokens,
        seq_len=seq_len,
        batch_tokens=batch_tokens,
        precision=precision,
        objective=objective,
        budget=budget,
        currency=currency,
        deadline_days=deadline_days,
        max_supplier_share=max_supplier_share,
        max_devices=max_devices,
        max_islands=max_islands,
        measured=measured,
        plan_file=plan_file,
    )
    return answer(asked)


def answer(asked: Request) -> Plan:
    """Return the plan that was asked for. Raises what `plan` raises."""
    if asked.model is None:
        raise InvalidFile("what is asked", [Problem("model", "is missing", "a published model's name, or a run file")])
    catalog = load_catalog()
    training = workload_of(
        asked.model,
        tokens=asked.tokens,
        seq_len=asked.seq_len,
        batch_tokens=asked.batch_tokens,
        precision=asked.precision,
    )
    fleet = fleet_of(asked, catalog)
    limits, notes = asked.limits(fleet), training.notes
    if apart := _never_meet(training.workload, fleet):
        limits, notes = limits.model_copy(update={"max_islands": 1}), (*notes, apart)
    made = make_plan(
        training.workload,
        fleet,
        catalog=catalog,
        limits=limits,
        objective=asked.objective,
        model_option=training.measure_option,
        launch=launch_command(training.run_file, asked.plan_file),
        notes=notes,
        may_widen=not apart,
    )
    return within_a_lifetime(made)


def _never_meet(workload: Workload, fleet: Fleet) -> str | None:
    """Say so where a run is too short for islands to exchange; None where it is not."""
    steps = workload.tokens // workload.batch_tokens
    between = min(way.steps_between_exchanges for way in fleet.islands.ways)
    if possible_ways(workload, fleet.islands) or steps >= LEAST_EXCHANGES * between:
        return None
    return (
        f"One island, nothing mixed: in {steps:,} steps islands would exchange less than {LEAST_EXCHANGES} times, "
        f"every {between:,} steps, and what merging them so rarely costs in learning is not known."
    )


def fleet_of(asked: Request, catalog: Catalog) -> Fleet:
    """Return the fleet with what was measured, in the currency that is asked."""
    fleet = asked.fleet if isinstance(asked.fleet, Fleet) else read_fleet(asked.fleet, catalog=catalog)
    refuse_impossible(fleet.name if isinstance(asked.fleet, Fleet) else asked.fleet, fleet, catalog)
    measured = [read_measured(file, catalog=catalog) for file in asked.measured]
    for file, found in zip(asked.measured, measured, strict=True):
        refuse_impossible(file, found, catalog)
    fleet = with_measurements(fleet, measured)
    return fleet.in_currency(asked.currency) if asked.currency else fleet
