"""From a run, a fleet and limits to a plan: options, choices, how sure they are, and what would change them."""

import hashlib
import importlib.metadata
from collections.abc import Iterator, Sequence

from everyflop.accounting.dims import dims_of
from everyflop.base.errors import ExpectedNo, UsageError
from everyflop.catalog.catalog import Catalog
from everyflop.planner.choose.market import Caps
from everyflop.planner.choose.offers import offers_of
from everyflop.planner.choose.search import Training
from everyflop.planner.choose.settle import Settled
from everyflop.planner.choose.supply import Supply, market_of
from everyflop.planner.plan.alternatives import front, mixes, singles
from everyflop.planner.plan.assumptions import assumptions
from everyflop.planner.plan.desk import Desk
from everyflop.planner.plan.measure_next import measure_next
from everyflop.planner.plan.nearest import no_plan
from everyflop.planner.plan.reasons import why
from everyflop.planner.plan.uncertainty import Chances
from everyflop.planner.plan.ways import how_chosen, with_best_way
from everyflop.planner.plan.what_if import what_if
from everyflop.planner.plan.write_choice import Yardstick, write_choice
from everyflop.planner.predict.doubts import doubts
from everyflop.planner.predict.predictor import efficiency_sha256, load_predictor
from everyflop.spec.fleet import Fleet
from everyflop.spec.plan import Choice, Limits, Objective, Plan
from everyflop.spec.workload import Workload

MOST_ISLANDS_TRIED = 4
"""When nothing fits and the user allows fewer."""


def make_plan(
    workload: Workload,
    fleet: Fleet,
    *,
    catalog: Catalog,
    limits: Limits | None = None,
    objective: Objective = "cost",
    model_option: str,
    launch: str,
    notes: Sequence[str] = (),
    may_widen: bool = True,
) -> Plan:
    """Return the plan for a run on a fleet.

    model_option is how `everyflop measure` is told the model, launch the command that will run the plan; notes are
    assumptions of the caller; may_widen says whether more islands than the limit may be suggested. Raises ExpectedNo
    where no plan keeps the limits, and says what would.
    """
    limits = limits or Limits(max_islands=fleet.islands.max_islands)
    fleet = _with_islands(fleet, limits.max_islands)
    desk, unusable = desk_of(workload, fleet, catalog, limits, objective)
    alone, mixed = singles(desk), mixes(desk)
    unbeaten = front(desk, [*alone, *mixed])
    kept = desk.better(choice for choice in (*alone, *mixed, *unbeaten) if not desk.broken(choice))
    if not kept:
        wider = _wider(workload, fleet, catalog, limits, objective) if may_widen else ()
        raise no_plan(desk, fleet.currency, wider=wider)
    best = kept[0]
    yardstick = Yardstick.of(desk, alone)
    compared = desk.better([best, *(one for one in (*alone, *mixed) if desk.name(one) != desk.name(best))])
    alternatives = _written(desk, compared, yardstick)
    recommended = alternatives[compared.index(best)]
    return Plan(
        objective=objective,
        currency=fleet.currency,
        fleet=fleet.name,
        workload=workload,
        limits=limits,
        recommended=recommended.name,
        why=why(desk, best, alone, mixed, unusable),
        mix_cheaper_probability=_mix_is_cheaper(desk, alone, mixed),
        islands=recommended.islands,
        total=recommended.total,
        alternatives=alternatives,
        unusable=unusable,
        front=_written(desk, unbeaten, yardstick),
        what_if=tuple(what_if(desk, best)),
        measure_next=tuple(measure_next(desk.supply, desk.market, best, model_option=model_option)),
        exchange=desk.way.assumption,
        assumptions=(
            *(*notes, *_doubts(fleet, desk, catalog), *how_chosen(workload, fleet.islands)),
            *assumptions(desk, [*alone, *mixed], workload),
        ),
        launch=launch,
        everyflop=importlib.metadata.version("everyflop"),
        catalogue_sha256=_sha256(catalog.with_devices(fleet.devices)),
    )


def desk_of(
    workload: Workload, fleet: Fleet, catalog: Catalog, limits: Limits, objective: Objective
) -> tuple[Desk, dict[str, str]]:
    """Return where questions are asked, and the pools that can answer none.

    Raises UsageError for more islands than their cost in learning is known for, ExpectedNo where no pool can answer.
    """
    if misfit := fleet.islands.beyond_known(limits.max_islands):
        raise UsageError("islands.{}: {}.".format(*misfit))
    offers, unusable = offers_of(fleet, catalog)
    if not offers:
        raise ExpectedNo("no plan fits: no speed can be predicted for any pool.\n" + _listed(unusable))
    predictor = load_predictor().with_measured(fleet.measured, catalog.with_devices(fleet.devices))
    training = Training(dims_of(workload.model), workload.seq_len, workload.precision, predictor)
    supply = Supply(workload, training, offers, max_islands=limits.max_islands)
    caps = Caps(limits.budget, limits.deadline_days, limits.max_supplier_share, limits.max_devices)
    usual = Desk.of(supply, market_of(fleet, supply), caps, objective, fleet.islands)
    desk = with_best_way(usual, fleet)
    able = {option.pool for offered in desk.options.values() for option in offered}
    unusable |= {o.pool.name: supply.why_nothing(pool) for pool, o in enumerate(offers) if pool not in able}
    if not able:
        raise ExpectedNo("no plan fits: no pool can train this model.\n" + _listed(unusable))
    return desk, unusable


def _wider(workload: Workload, fleet: Fleet, catalog: Catalog, limits: Limits, objective: Objective) -> Iterator[Desk]:
    """Yield desks with more islands than the limit, as far as their cost in learning is known."""
    known = fleet.islands.known_islands
    for islands in range(limits.max_islands + 1, min(known, MOST_ISLANDS_TRIED) + 1):
        wider = limits.model_copy(update={"max_islands": islands})
        yield desk_of(workload, _with_islands(fleet, islands), catalog, wider, objective)[0]


def _with_islands(fleet: Fleet, max_islands: int) -> Fleet:
    """Return the fleet with up to so many islands."""
    return fleet.model_copy(update={"islands": fleet.islands.model_copy(update={"max_islands": max_islands})})


def _written(desk: Desk, choices: list[Settled], yardstick: Yardstick | None) -> tuple[Choice, ...]:
    calibration = desk.supply.training.predictor.calibration
    return tuple(write_choice(desk, Chances(desk.market, [one], calibration), 0, yardstick) for one in choices)


def _mix_is_cheaper(desk: Desk, alone: list[Settled], mixed: list[Settled]) -> float | None:
    """Return the probability that the best mix costs less than the best pool alone; what errors they share cancels.

    None where the limits leave no mix, or no pool alone.
    """
    best = [next((one for one in desk.better(kind) if not desk.broken(one)), None) for kind in (mixed, alone)]
    able = [choice for choice in best if choice is not None]
    if len(able) < len(best):
        return None
    return Chances(desk.market, able, desk.supply.training.predictor.calibration).cheaper(0, 1)


def _doubts(fleet: Fleet, desk: Desk, catalog: Catalog) -> list[str]:
    """Return sentences on doubtful measurements of the devices on offer."""
    offered = {offer.hardware.device.name for offer in desk.supply.offers}
    known = catalog.with_devices(fleet.devices)
    return list(dict.fromkeys(sentence for name, sentence in doubts(fleet.measured, known) if name in offered))


def _sha256(catalog: Catalog) -> str:
    return hashlib.sha256((catalog.sha256() + efficiency_sha256()).encode()).hexdigest()


def _listed(reasons: dict[str, str]) -> str:
    return "\n".join(f"  - {pool}: {reason}" for pool, reason in reasons.items())
