"""Small fleets of catalogue devices, and what is asked of them."""

from itertools import combinations
from typing import Any

from everyflop.accounting.dims import dims_of
from everyflop.catalog.load import load_catalog
from everyflop.planner.choose.market import Caps
from everyflop.planner.choose.mix import Objective
from everyflop.planner.choose.offers import offers_of
from everyflop.planner.choose.search import Training
from everyflop.planner.choose.supply import Supply, market_of
from everyflop.planner.plan.desk import Desk
from everyflop.planner.plan.make_plan import make_plan
from everyflop.planner.predict.predictor import load_predictor
from everyflop.spec.fleet import Fleet
from everyflop.spec.plan import Limits, Plan
from everyflop.spec.presets import preset
from everyflop.spec.workload import Workload

LITE = Workload(name="ling-lite", model=preset("ling-lite"), tokens=10**11, seq_len=4096, batch_tokens=512 * 4096)


def fleet(*pools: dict[str, Any], gbit_per_s: float = 400, price_per_gb: float = 0.0, **more: Any) -> Fleet:
    """Return a fleet with a link between any two pools; 0 Gbit/s links none."""
    named = [{"name": chr(97 + number), "price_per_device_hour": 2.0, **pool} for number, pool in enumerate(pools)]
    links = [
        {"between": [one["name"], other["name"]], "gbit_per_s": gbit_per_s, "price_per_gb": price_per_gb}
        for one, other in combinations(named, 2)
        if gbit_per_s
    ]
    return Fleet.model_validate({"name": "test", "money": {"currency": "USD"}, "pool": named, "link": links, **more})


H100 = {"device": "h100-sxm", "count": 64, "price_per_device_hour": 2.8}
A100 = {"device": "a100-80g", "count": [32, 128], "price_per_device_hour": 1.5}
MI300X = {"device": "mi300x", "count": [32, 64], "price_per_device_hour": 2.4}


def desk(fleet: Fleet, *, caps: Caps | None = None, objective: Objective = "cost", max_islands: int = 3) -> Desk:
    """Return the desk of a fleet that trains LITE."""
    offers, unusable = offers_of(fleet, load_catalog())
    assert not unusable
    training = Training(dims_of(LITE.model), LITE.seq_len, LITE.precision, load_predictor())
    supply = Supply(LITE, training, offers, max_islands=max_islands)
    return Desk.of(supply, market_of(fleet, supply), caps or Caps(), objective, fleet.islands)


def plan(fleet: Fleet, workload: Workload = LITE, *, objective: Objective = "cost", **limits: Any) -> Plan:
    """Return the plan of a fleet."""
    return make_plan(
        workload,
        fleet,
        catalog=load_catalog(),
        limits=Limits(**limits),
        objective=objective,
        model_option="--model ling-lite",
        launch="everyflop train run.toml --plan plan.json",
    )
