"""The planner as one call: what `everyflop plan` and `ef.plan` do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from everyflop.base.errors import UsageError
from everyflop.catalog.catalog import Catalog
from everyflop.catalog.load import load_catalog
from everyflop.planner.plan.make_plan import make_plan
from everyflop.planner.plan.workloads import workload_of
from everyflop.planner.predict.impossible import refuse_impossible
from everyflop.spec.fleet import Fleet
from everyflop.spec.fleet_file import read_fleet
from everyflop.spec.measured_file import read_measured, with_measurements
from everyflop.spec.plan import Limits, Objective, Plan
from everyflop.spec.workload import Precision


def plan(
    fleet: str | Path | Fleet,
    *,
    model: str,
    tokens: int | None = None,
    seq_len: int | None = None,
    batch_tokens: int | None = None,
    precision: Precision = "bf16",
    objective: Objective = "cost",
    budget: float | None = None,
    currency: str | None = None,
    deadline_days: float | None = None,
    max_supplier_share: float | None = None,
    max_devices: int | None = None,
    max_islands: int | None = None,
    measured: Sequence[str | Path] = (),
    plan_file: str = "plan.json",
) -> Plan:
    """Return the plan that trains a model on a fleet at the lowest cost, or in the shortest time.

    fleet is a fleet file or what one holds, model a preset's name or a run file, measured files that `everyflop
    measure` wrote. Money is in the fleet's currency unless another is given; plan_file is where the launch command
    will find the plan. Raises UsageError (a file or a value is wrong), ExpectedNo (no plan fits).
    """
    catalog = load_catalog()
    asked = workload_of(model, tokens=tokens, seq_len=seq_len, batch_tokens=batch_tokens, precision=precision)
    known = fleet_of(fleet, catalog, measured=measured, currency=currency)
    return make_plan(
        asked.workload,
        known,
        catalog=catalog,
        limits=limits_of(
            budget=budget,
            deadline_days=deadline_days,
            max_supplier_share=max_supplier_share,
            max_devices=max_devices,
            max_islands=max_islands or known.islands.max_islands,
        ),
        objective=objective,
        model_option=asked.measure_option,
        launch=f"everyflop train {asked.run_file} --plan {plan_file}",
        notes=asked.notes,
    )


def fleet_of(
    fleet: str | Path | Fleet, catalog: Catalog, *, measured: Sequence[str | Path] = (), currency: str | None = None
) -> Fleet:
    """Return a fleet with what was measured, in a currency if one is given."""
    known = fleet if isinstance(fleet, Fleet) else read_fleet(fleet, catalog=catalog)
    refuse_impossible(known.name if isinstance(fleet, Fleet) else fleet, known, catalog)
    more = [read_measured(file, catalog=catalog) for file in measured]
    for file, found in zip(measured, more, strict=True):
        refuse_impossible(file, found, catalog)
    known = with_measurements(known, more)
    return known.in_currency(currency) if currency else known


def limits_of(**given: Any) -> Limits:
    """Return the limits with these fields. Raises UsageError for values that no plan can keep."""
    try:
        return Limits.model_validate(given)
    except ValidationError as error:
        wrong = "; ".join(f"{detail['loc'][0]} = {detail['input']}: {detail['msg']}" for detail in error.errors())
        raise UsageError(f"limits that no plan can keep: {wrong}. Shares lie between 0 and 1.") from None
