"""Plans built by hand, for what is drawn and printed from them."""

from collections.abc import Callable
from typing import Any

import pytest

from everyflop.spec.layout import Layout
from everyflop.spec.plan import (
    Choice,
    ExchangeAssumption,
    Limits,
    Measurement,
    Plan,
    PlannedIsland,
    Spread,
    Total,
    WhatIf,
)
from everyflop.spec.presets import preset
from everyflop.spec.workload import Workload

TOKENS = 9 * 10**12

STEP_SHARES = {
    "matmul": 0.46,
    "attention": 0.08,
    "memory-bound": 0.09,
    "expert dispatch": 0.12,
    "tensor parallel": 0.05,
    "data parallel": 0.03,
    "pipeline": 0.01,
    "bubble": 0.07,
    "recompute": 0.06,
    "optimizer": 0.02,
    "host": 0.01,
}
MEM_SHARES = {
    "weights": 0.2,
    "gradients": 0.15,
    "optimizer": 0.25,
    "activations": 0.3,
    "logits": 0.04,
    "buffers": 0.03,
    "fragmentation": 0.03,
}


def around(value: float, ratio: float = 1.15) -> Spread:
    return Spread(p10=value / ratio, p50=value, p90=value * ratio)


def island(name: str, *, devices: int, price: float, tokens_per_s: float, **changes: Any) -> PlannedIsland:
    """An island alone on its pool; its cost follows from price and speed."""
    per_ttoken = devices * price * 1e12 / tokens_per_s / 3600 / 0.95
    share = changes.get("share", 1.0)
    large = Layout(tp=2, pp=8, ep=8, dp=max(devices // 16, 4), recompute="full")
    fields: dict[str, Any] = {
        "name": name,
        "pool": name,
        "device": f"device-{name}",
        "title": f"Maker {name.upper()}",
        "vendor": "Maker",
        "devices": devices,
        "layout": large if devices >= 64 else Layout(dp=devices, sharding="zero3"),
        "micro_batch": 1,
        "batch_seqs": max(round(8960 * share), 1),
        "tokens_per_s": around(tokens_per_s),
        "goodput_share": 0.95,
        "share": 1.0,
        "price_per_device_hour": price,
        "cost": around(per_ttoken * TOKENS / 1e12 * share),
        "cost_per_ttoken": around(per_ttoken),
        "mfu": 0.31,
        "break_even_mfu": 0.274,
        "mem_gib": {part: 55.0 * of for part, of in MEM_SHARES.items()},
        "mem_limit_gib": 58.9,
        "step_s": {part: 8960 * 4096 * share / tokens_per_s * of for part, of in STEP_SHARES.items()},
        "basis": "fitted",
    }
    return PlannedIsland(**{**fields, **changes})


def choice(name: str, *islands: PlannedIsland, broken: tuple[str, ...] = (), token_efficiency: float = 1.0) -> Choice:
    speed = sum(i.tokens_per_s.p50 * i.goodput_share for i in islands) * token_efficiency
    cost = sum(i.devices * i.price_per_device_hour for i in islands) * TOKENS / speed / 3600
    total = Total(
        tokens_per_s=around(speed),
        days=around(TOKENS / speed / 86400),
        cost=around(cost),
        cost_per_ttoken=around(cost / TOKENS * 1e12),
        devices=sum(i.devices for i in islands),
        token_efficiency=token_efficiency,
    )
    return Choice(
        name=name,
        kind="single" if len(islands) == 1 else "mix",
        islands=islands,
        total=total,
        meets_limits=not broken,
        broken_limits=broken,
    )


def plan_of(*alternatives: Choice, **changes: Any) -> Plan:
    """A plan that recommends the first of its alternatives."""
    best = alternatives[0]
    model = preset("ling-plus")
    fields: dict[str, Any] = {
        "objective": "cost",
        "currency": "CNY",
        "fleet": "ling_table.toml",
        "workload": Workload(name="ling-plus", model=model, tokens=TOKENS, seq_len=4096, batch_tokens=8960 * 4096),
        "limits": Limits(budget=60e6, deadline_days=75.0, max_supplier_share=0.9),
        "recommended": best.name,
        "why": f"do not mix: {best.name} alone is cheapest",
        "islands": best.islands,
        "total": best.total,
        "alternatives": alternatives,
        "exchange": ExchangeAssumption(
            steps_between=24, bytes_per_parameter=2, extra_tokens_share={"2": 0.011, "4": 0.023}, source="a scaling law"
        ),
        "assumptions": ("Prices stay as given.", "Devices fail 0.27 % a day."),
        "launch": "everyflop train run.toml --plan plan.json",
        "everyflop": "0.1.0",
        "catalogue_sha256": "ab12" * 16,
    }
    return Plan(**{**fields, **changes})


def single_pool() -> Plan:
    """Nothing to choose from: one pool."""
    best = choice("a", island("a", devices=4096, price=7.0, tokens_per_s=2.0e6, break_even_mfu=None))
    return plan_of(best, why="a is the only pool", limits=Limits())


def three_pools() -> Plan:
    """Three pools, two mixes of them, one pool that cannot be used, and all that a plan can hold."""
    a = island("a", devices=4096, price=7.0, tokens_per_s=1.9e6, break_even_mfu=0.284)
    b = island(
        "b",
        devices=2048,
        price=4.5,
        tokens_per_s=0.31e6,
        basis="prior",
        mfu=0.221,
        break_even_mfu=0.398,
        example_price=True,
    )
    d = island("d", devices=2048, price=27.5, tokens_per_s=2.4e6, basis="measured", mfu=0.352, break_even_mfu=None)
    linked = {"link_gbit_per_s": 100.0, "least_link_gbit_per_s": 37.0}
    mixed = [i.model_copy(update={"share": s, **linked}) for i, s in ((a, 0.44), (d, 0.56))]
    three = [i.model_copy(update={"share": s, **linked}) for i, s in ((a, 0.41), (b, 0.07), (d, 0.52))]
    single_a, mix_ad = choice("a", a), choice("a + d", *mixed, token_efficiency=0.989)
    return plan_of(
        single_a,
        mix_ad,
        choice("a + b + d", *three, token_efficiency=0.983),
        choice("d", d),
        choice("b", b, broken=("deadline: 336 days and 75 are allowed",)),
        mix_cheaper_probability=0.181,
        unusable={"c": "80 GB a device hold no layout of this model on 8 devices"},
        front=(single_a, mix_ad),
        what_if=(
            WhatIf(change="pool a vanishes", pool="a", cost=64.2e6, days=45.7, best="d"),
            WhatIf(change="price of a +30 %", pool="a", cost=51.3e6, days=57.7, best="a"),
            WhatIf(change="price of a -30 %", pool="a", cost=27.6e6, days=57.7, best="a"),
            WhatIf(change="pool b vanishes", pool="b", cost=single_a.total.cost.p50, days=57.7, best="a"),
            WhatIf(change="price of d -30 %", pool="d", cost=None, days=None, best="budget: 60 M CNY"),
        ),
        measure_next=(
            Measurement(device="device-a", command="everyflop measure --run run.toml", width_now=1.32, width_after=1.2),
            Measurement(device="device-d", command="everyflop measure --model x", width_now=1.32, width_after=1.28),
        ),
    )


def twenty_pools() -> Plan:
    """A long list, with long names, dearest last."""
    bases = ("measured", "fitted", "prior")
    choices = []
    for n in range(20):
        name = f"region-{n:02d}-of-a-provider-with-a-long-name" if n % 3 == 0 else f"pool-{n:02d}"
        speed = 2.2e6 / (1 + 0.08 * n)
        choices.append(
            choice(name, island(name, devices=1024 + 256 * n, price=9.0, tokens_per_s=speed, basis=bases[n % 3]))
        )
    what_if = tuple(
        WhatIf(change=change, pool=c.name, cost=cost, days=60.0, best=choices[0].name)
        for c in choices
        for change, cost in (
            (f"pool {c.name} vanishes", choices[0].total.cost.p50),
            (f"price of {c.name} -30 %", 1.1e7),
        )
    )
    return plan_of(*choices, what_if=what_if, front=tuple(choices[:3]))


def none_meets_limits() -> Plan:
    """Whatever is chosen breaks a limit."""
    best = choice(
        "a", island("a", devices=64, price=7.0, tokens_per_s=3.0e4), broken=("deadline: 3,655 days and 75 are allowed",)
    )
    return plan_of(best, why="no choice keeps the deadline; a comes nearest")


@pytest.fixture
def make_choice() -> Callable[..., Choice]:
    """A choice of islands: make_choice(name, *islands, broken=...)."""
    return choice


@pytest.fixture
def make_island() -> Callable[..., PlannedIsland]:
    """An island: make_island(name, devices=..., price=..., tokens_per_s=..., **changes)."""
    return island


@pytest.fixture
def make_plan_of() -> Callable[..., Plan]:
    """A plan of choices: make_plan_of(*choices, **changes)."""
    return plan_of


PLANS = {plan.__name__: plan for plan in (single_pool, three_pools, twenty_pools, none_meets_limits)}


@pytest.fixture(params=PLANS)
def any_plan(request: pytest.FixtureRequest) -> Plan:
    """Each of the plans in turn."""
    return PLANS[request.param]()


@pytest.fixture
def plan() -> Plan:
    """Three pools and two mixes."""
    return three_pools()
