"""A plan keeps its limits, says what would if none does, and obeys what a user would call common sense."""

import re

import pytest

import everyflop as ef
from everyflop.base.errors import ExpectedNo, UsageError
from everyflop.catalog.load import load_catalog
from everyflop.planner.shape.taken import Asked
from everyflop.spec.plan import Limits, Plan
from everyflop.spec.presets import preset

from ..fleets import A100, H100, LITE, MI300X, fleet, plan

THREE = fleet(H100, A100, MI300X)


def priced(factor: float):
    """The three pools with another price for the A100s."""
    return fleet(H100, {**A100, "price_per_device_hour": A100["price_per_device_hour"] * factor}, MI300X)


@pytest.fixture(scope="module")
def free() -> Plan:
    """The plan without limits."""
    return plan(THREE)


def figure(no: pytest.ExceptionInfo[ExpectedNo], pattern: str) -> float:
    """Return the number that a refusal names."""
    match = re.search(pattern, str(no.value))

    assert match, str(no.value)
    return float(match[1].replace(",", ""))


def shares(made: Plan) -> dict[str, float]:
    """Return the share of the tokens by vendor."""
    vendors = {island.vendor for island in made.islands}
    return {name: sum(i.share for i in made.islands if i.vendor == name) for name in vendors}


def test_the_same_question_has_the_same_bytes(free):
    assert plan(THREE).model_dump_json() == free.model_dump_json()


def test_the_bill_is_the_devices_price_for_the_days_they_work(free):
    (island,) = free.islands
    days = LITE.tokens / (island.tokens_per_s.p50 * island.goodput_share) / 86_400

    assert free.total.days.p50 == pytest.approx(days, rel=1e-6)
    assert free.total.cost.p50 == pytest.approx(24 * days * island.devices * island.price_per_device_hour, rel=1e-6)


def test_a_doubtful_measurement_is_among_the_assumptions_where_its_device_is_on_offer():
    speed = {"date": "2026-11-25", "source": "a test", "model": "ling-lite", "seq_len": 4096, "batch_tokens": 4096}
    speed |= {"tokens_per_s_per_device": 20_000, "others_share": 0.67}
    measured = [{**speed, "device": "h100-sxm"}, {**speed, "device": "mi300x"}]
    doubted = [line for line in plan(fleet(H100, measured=measured)).assumptions if "doubtful" in line]

    assert doubted == ["h100-sxm: its measured speed is doubtful, others used 67 % of the processor meanwhile."]


def test_each_pool_alone_and_mixes_are_shown_cheapest_first(free):
    costs = [choice.total.cost.p50 for choice in free.alternatives]

    alone = [choice for choice in free.alternatives if choice.kind == "single"]

    assert {island.pool for choice in alone for island in choice.islands} == {"a", "b", "c"}
    assert {choice.kind for choice in free.alternatives} == {"single", "mix"}
    assert costs == sorted(costs)
    assert free.recommended == free.alternatives[0].name


def test_the_front_gets_faster_as_it_gets_dearer(free):
    points = [(choice.total.cost.p50, choice.total.days.p50) for choice in free.front]

    assert len(points) > 1
    assert points == sorted(points)
    assert [days for _, days in points] == sorted((days for _, days in points), reverse=True)


def test_a_deadline_is_kept_and_costs_no_less(free):
    deadline = 0.4 * free.total.days.p50
    made = plan(THREE, deadline_days=deadline)

    assert made.total.days.p50 <= deadline * 1.000001
    assert made.total.cost.p50 >= free.total.cost.p50


def test_with_a_budget_the_fastest_plan_within_it_is_found(free):
    budget = 1.3 * free.total.cost.p50
    made = plan(THREE, objective="time", budget=budget)

    assert made.total.cost.p50 <= budget * 1.000001
    assert made.total.days.p50 <= free.total.days.p50


def test_no_supplier_trains_more_than_it_may():
    made = plan(THREE, max_supplier_share=0.6)

    assert len(shares(made)) == 2
    assert max(shares(made).values()) <= 0.6 * 1.000001


def test_no_more_devices_are_taken_than_allowed(free):
    made = plan(THREE, max_devices=32)

    assert made.total.devices <= 32


def test_without_more_than_one_island_nothing_is_mixed_and_the_page_says_why():
    made = plan(THREE, max_islands=1)

    assert {choice.kind for choice in made.alternatives} == {"single"}
    assert "do not mix: only one island is allowed" in made.why


def test_a_pool_too_small_for_the_model_says_that_and_not_what_the_same_devices_in_another_would_say():
    large = LITE.model_copy(update={"model": preset("ling-plus"), "name": "ling-plus"})
    made = plan(fleet({**H100, "count": 512}, {**H100, "count": 8}), large, max_islands=1)

    assert "does not fit" in made.unusable["b"]


def test_a_run_too_short_for_islands_is_not_told_to_take_more_of_them(free):
    short = {"model": "ling-lite", "tokens": 100 * 512 * 4096, "batch_tokens": 512 * 4096}
    days = ef.plan(THREE, **short, objective="time").total.days.p50
    with pytest.raises(ExpectedNo) as no:
        ef.plan(THREE, **short, deadline_days=0.6 * days)

    assert "islands:" not in str(no.value)


def test_more_islands_than_their_cost_is_known_for_are_refused_without_a_model_too():
    with pytest.raises(UsageError, match=r"islands\.max_islands: 5 exceeds 4"):
        Asked(THREE, load_catalog(), Limits(max_islands=5), 1e6).mixed(LITE)


def test_parts_of_the_batch_make_the_whole_batch():
    made = plan(THREE, max_supplier_share=0.6)

    assert sum(island.batch_seqs for island in made.islands) == 512
    assert sum(island.share for island in made.islands) == pytest.approx(1.0)


@pytest.mark.parametrize("factor", [0.5, 0.8])
def test_a_lower_price_never_makes_the_bill_higher(free, factor):
    assert plan(priced(factor)).total.cost.p50 <= free.total.cost.p50 * 1.00001


def test_a_pool_that_is_not_there_never_makes_the_bill_lower(free):
    for pools in ([H100, A100], [H100, MI300X], [A100, MI300X]):
        assert plan(fleet(*pools)).total.cost.p50 >= free.total.cost.p50 * 0.99999


def test_what_if_tells_what_a_plan_for_the_changed_fleet_tells():
    told = {one.change: one.cost for one in plan(THREE).what_if}

    assert told["price of b -30 %"] == pytest.approx(plan(priced(0.7)).total.cost.p50, rel=1e-4)
    assert told["price of b +30 %"] == pytest.approx(plan(priced(1.3)).total.cost.p50, rel=1e-4)


def test_weak_cards_lose_even_in_a_mix():
    # A quarter of the speed at half the price.
    weak = {"name": "weak", "vendor": "Me", "like": "a100-80g", "bf16_tflops": 78, "mem_bw_gb_per_s": 510}
    made = plan(
        fleet({**A100, "count": 64}, {"device": "weak", "count": 64, "price_per_device_hour": 0.75}, device=[weak])
    )

    assert {island.pool for island in made.islands} == {"a"}
    assert made.why.startswith("do not mix")
    assert made.mix_cheaper_probability is not None
    assert made.mix_cheaper_probability < 0.1


def test_pools_without_a_link_are_never_mixed():
    apart = fleet({**H100, "alone": True}, {**A100, "alone": True}, gbit_per_s=0)
    made = plan(apart)

    assert all(len({island.pool for island in choice.islands}) == 1 for choice in made.alternatives)
    assert "no two pools can exchange" in made.why


def test_measurements_that_would_help_most_come_first_and_say_how(free):
    after = [one.width_after for one in free.measure_next]

    assert 0 < len(after) <= 3
    assert after == sorted(after)
    assert all(one.width_after < one.width_now for one in free.measure_next)
    assert all(one.command.startswith("everyflop measure --model ling-lite") for one in free.measure_next)


def test_a_pool_that_cannot_hold_the_model_says_what_is_missing():
    made = plan(fleet(H100, {**A100, "count": 1}))

    assert set(made.unusable) == {"b"}
    assert re.search(r"needs [\d.]+ GiB of a device and [\d.]+ GiB are usable", made.unusable["b"])


def test_where_no_pool_can_train_the_model_each_says_why():
    with pytest.raises(ExpectedNo, match=r"no pool can train this model.\n  - a: the model does not fit"):
        plan(fleet({**A100, "count": 1}))


def test_too_small_a_budget_names_the_budget_that_is_enough(free):
    with pytest.raises(ExpectedNo, match="a budget of") as no:
        plan(THREE, budget=0.5 * free.total.cost.p50)
    named = figure(no, r"a budget of ([\d.]+) K USD") * 1000

    assert named == pytest.approx(free.total.cost.p50, rel=0.005)
    assert plan(THREE, budget=named * 1.005).recommended == free.recommended


def test_too_short_a_deadline_names_the_shortest_that_can_be_kept():
    with pytest.raises(ExpectedNo, match="a deadline of") as no:
        plan(THREE, deadline_days=0.1)
    named = figure(no, r"a deadline of ([\d.]+) days")

    assert plan(THREE, deadline_days=named + 0.05).total.days.p50 <= named + 0.05


def test_too_small_a_share_of_suppliers_names_one_that_can_be_kept():
    with pytest.raises(ExpectedNo, match="of the tokens from one supplier") as no:
        plan(THREE, max_supplier_share=0.3)
    named = figure(no, r"(\d+) % of the tokens from one supplier") / 100

    assert max(shares(plan(THREE, max_supplier_share=named + 0.01)).values()) <= named + 0.01


def test_limits_that_bind_together_are_named_together(free):
    with pytest.raises(ExpectedNo, match="Change these limits together"):
        plan(THREE, budget=0.1 * free.total.cost.p50, deadline_days=0.01)


def test_more_islands_than_learning_is_known_for_are_refused():
    with pytest.raises(UsageError, match="max_islands: 5 exceeds 4"):
        plan(THREE, max_islands=5)


def test_python_plans_as_the_command_does(free):
    made = ef.plan(THREE, model="ling-lite", tokens=10**11, batch_tokens=512 * 4096)

    assert made.total == free.total
    assert made.launch == "everyflop train run.toml --plan plan.json"


@pytest.mark.parametrize(("steps", "mixed"), [(19, False), (20, True)])
def test_islands_that_would_hardly_ever_meet_are_not_mixed(steps, mixed):
    batch = 512 * 4096
    made = ef.plan(THREE, model="ling-lite", tokens=steps * batch, batch_tokens=batch)

    assert any(choice.kind == "mix" for choice in made.alternatives) == mixed
    assert any("would exchange less than 10 times, every 2 steps" in line for line in made.assumptions) == (not mixed)


def test_shares_above_one_are_no_limits():
    with pytest.raises(UsageError, match="max_supplier_share"):
        ef.plan(THREE, model="ling-lite", tokens=10**11, max_supplier_share=50)


RANGES = fleet({**H100, "count": [16, 256]}, {**A100, "count": [16, 512]}, {**MI300X, "count": [8, 128]})


@pytest.fixture(scope="module")
def by_deadline() -> list[Plan]:
    """Plans for rising deadlines, up to one that binds nothing."""
    return [plan(RANGES, deadline_days=days) for days in (0.4, 0.5, 0.62, 1.0, 100.0)]


def test_a_longer_deadline_never_costs_more(by_deadline):
    costs = [made.total.cost.p50 for made in by_deadline]

    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[-1]


def test_what_keeps_a_deadline_and_a_budget_is_found_for_both_together(by_deadline):
    for made in by_deadline[:2]:
        both = plan(RANGES, deadline_days=made.total.days.p50, budget=made.total.cost.p50)

        assert both.total.cost.p50 <= made.total.cost.p50 * (1 + 1e-6)


@pytest.mark.parametrize("objective", ["cost", "time"])
def test_no_choice_of_the_front_beats_what_is_recommended(objective):
    made = plan(RANGES, objective=objective, budget=6000)
    best = made.total

    assert made.islands in [choice.islands for choice in made.front]
    for choice in made.front:
        if choice.meets_limits:
            dearer, slower = choice.total.cost.p50 >= best.cost.p50, choice.total.days.p50 >= best.days.p50
            assert dearer if objective == "cost" else slower


def test_fewer_islands_never_cost_less():
    costs = [plan(RANGES, max_islands=islands).total.cost.p50 for islands in (4, 3, 2, 1)]

    assert costs == sorted(costs)


def test_fp8_changes_nothing_on_a_device_that_computes_it_in_bf16():
    asked = (LITE.model_copy(update={"precision": precision}) for precision in ("bf16", "fp8"))
    bf16, fp8 = (plan(fleet(A100), workload).total.cost.p50 for workload in asked)

    assert fp8 == pytest.approx(bf16)


def test_no_chance_is_told_of_mixes_that_the_limits_rule_out():
    assert plan(RANGES).mix_cheaper_probability is not None
    assert plan(RANGES, max_islands=1).mix_cheaper_probability is None
    assert plan(RANGES, max_devices=16).mix_cheaper_probability is None
