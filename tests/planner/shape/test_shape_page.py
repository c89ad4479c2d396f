"""What the page of a shape says."""

import pytest

from everyflop.planner.shape.shape import shape_for
from everyflop.planner.shape.shape_page import caveats, risk_rows, shape_rows, unspent_lines
from everyflop.spec.plan import Limits


def test_the_shape_is_told_with_what_it_is_as_good_as():
    told = dict(shape_rows(shape_for(1e22, n_experts=256)))

    # 1e22 FLOP at a leverage of 6.8: C = 6.8e22, M = 0.0655 C^0.5422 = 1.57e11, so 26 B parameters; D = 4.3e11.
    assert told["as good as"].startswith("a dense model of 26")
    assert told["as good as"].endswith("6.8 times the compute")
    assert told["experts"].startswith("256 of width")
    assert "8 chosen and 1 shared: 3.5 % active, granularity 8" in told["experts"]


def test_attention_takes_the_share_that_the_study_found_best():
    share = dict(shape_rows(shape_for(1e22, n_experts=256)))["attention"]

    assert 30 <= float(share.split(" %")[0]) <= 40


@pytest.mark.parametrize(("compute", "cut"), [(1e21, False), (1e24, True)])
def test_an_extrapolation_is_said_and_where_the_leverage_is_cut(compute, cut):
    lines = caveats(shape_for(compute, n_experts=256))

    assert "an extrapolation" in lines[0]
    assert any("is cut at 7" in line for line in lines) == cut


@pytest.mark.parametrize(("factor", "said"), [(1.01, False), (2.0, True)])
def test_money_that_is_left_is_told(plan, factor, said):
    limits = Limits(budget=plan.total.cost.p50 * factor)

    lines = unspent_lines(plan.model_copy(update={"limits": limits}))

    assert [line.startswith("Only 50 % of the budget is spent") for line in lines] == [True] * said


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (1.0, ["even odds to cost more than the budget"]),
        (1.1, ["more than one chance in ten to cost more than the budget"]),
        (2.0, []),
    ],
)
def test_how_easily_the_budget_is_overspent_is_told(plan, factor, said):
    limits = Limits(budget=plan.total.cost.p50 * factor)

    rows = risk_rows(plan.model_copy(update={"limits": limits}))

    assert [text.split(":")[0] for _, text in rows] == said


def test_the_budget_that_would_hold_p90_is_told(plan):
    ((_, told),) = risk_rows(plan.model_copy(update={"limits": Limits(budget=plan.total.cost.p50)}))

    # P50 39.7 M is the budget, P90 1.15 times that: a run of 39.7 / 1.15 = 34.5 M has its P90 at the budget.
    assert "P90 is 45.7 M CNY" in told
    assert told.endswith("give about 34.5 M CNY as --budget")
