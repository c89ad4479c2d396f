import json

import pytest

from everyflop.train.plan import open_plan
from everyflop.train.predicted import compare, comparison_rows, doubt, plan_line

TOKENS = 3072
"""What the tiny run is to train."""


@pytest.fixture
def planned(plan_for, make_run, tmp_path):
    """The plan of the tiny run: 2000 tokens/s and 0.02 CNY expected."""
    path = tmp_path / "plan.json"

    def make(**changes):
        path.write_text(json.dumps(plan_for(make_run(), **changes)))
        return open_plan(path)

    return make


def lines(*speeds: float) -> list[dict]:
    return [{"tokens_per_s": speed} for speed in speeds]


def test_the_measured_speed_is_the_median_of_the_steps(planned):
    speed = compare(planned().plan, lines(10.0, 3000.0, 3200.0), tokens=TOKENS, cost=0.01)["tokens_per_s"]

    assert speed == {"predicted": {"p10": 1000.0, "p50": 2000.0, "p90": 4000.0}, "measured": 3000.0, "ratio": 1.5}


def test_the_measured_cost_is_held_against_the_whole_plans(planned):
    cost = compare(planned().plan, lines(1.0), tokens=TOKENS, cost=0.01)["cost"]

    assert cost == {"predicted": {"p10": 0.01, "p50": 0.02, "p90": 0.04}, "measured": 0.01, "ratio": 0.5}


def test_the_predicted_cost_is_that_of_the_tokens_that_were_trained(planned):
    facts = compare(planned().plan, lines(3000.0), tokens=1536, cost=0.01)

    assert facts["tokens"] == {"planned": 3072, "trained": 1536}
    assert facts["cost"] == {"predicted": {"p10": 0.005, "p50": 0.01, "p90": 0.02}, "measured": 0.01, "ratio": 1.0}
    assert comparison_rows(facts)[1][0] == "cost of 1,536 tokens, where 3,072 were planned"


def test_a_whole_runs_prediction_keeps_its_bits(planned):
    costs = [8.454288149383647e-07 * (1 + n / 97) for n in range(97)]  # times 3072 and over it again, some would move

    for p50 in costs:
        total = planned().plan.total.model_dump() | {"cost": {"p10": p50, "p50": p50, "p90": p50}}
        assert (
            compare(planned(total=total).plan, lines(1.0), tokens=TOKENS, cost=0.0)["cost"]["predicted"]["p50"] == p50
        )


def test_a_run_without_a_step_has_no_speed_and_no_ratio(planned):
    speed = compare(planned().plan, [], tokens=TOKENS, cost=0.0)["tokens_per_s"]

    assert (speed["measured"], speed["ratio"]) == (None, None)


def test_a_prediction_of_nothing_has_no_ratio(planned):
    nothing = {"p10": 0.0, "p50": 0.0, "p90": 0.0}
    total = planned().plan.total.model_dump() | {"cost": nothing}

    assert compare(planned(total=total).plan, lines(1.0), tokens=TOKENS, cost=0.0)["cost"]["ratio"] is None


def test_the_record_says_what_was_planned(planned):
    facts = compare(planned().plan, lines(1.0), tokens=TOKENS, cost=0.0)

    assert {key: facts[key] for key in ("choice", "device", "basis", "micro_batch", "recompute", "currency")} == {
        "choice": "laptop alone",
        "device": "cpu",
        "basis": "measured",
        "micro_batch": 2,
        "recompute": "full",
        "currency": "CNY",
    }
    assert facts["price_per_device_hour"] == 36.0


def test_the_rows_show_prediction_interval_measurement_and_ratio(planned):
    assert comparison_rows(compare(planned().plan, lines(3000.0), tokens=TOKENS, cost=0.01)) == [
        ("speed", "2.00 K tokens/s (1.00 K to 4.00 K)", "3.00 K tokens/s", "1.50"),
        ("cost", "0.02 CNY (0.01 CNY to 0.04 CNY)", "0.01 CNY", "0.50"),
    ]


def test_rows_without_figures_say_so(planned):
    speed, _ = comparison_rows(compare(planned().plan, [], tokens=TOKENS, cost=0.01))

    assert speed[2:] == ("none", "no")


@pytest.mark.parametrize(
    ("share", "text"), [(None, ""), (0.02, ""), (0.48, "others used 48 % of the processor meanwhile")]
)
def test_a_comparison_beside_busy_neighbours_is_doubtful(planned, share, text):
    assert doubt(compare(planned().plan, lines(3000.0), tokens=TOKENS, cost=0.01, others_share=share)) == text


def test_the_line_before_the_run_tells_prediction_and_settings_and_that_the_price_is_an_example(planned):
    text = plan_line(planned())

    assert "laptop alone: predicted 2.00 K tokens/s (1.00 K to 4.00 K) and 0.02 CNY" in text
    assert "micro-batch of 2, full recompute, 36 CNY an hour (an example)" in text
    assert "example" not in plan_line(planned(island={"example_price": False}))


def test_a_comparison_says_which_islands_are_simulated(planned):
    facts = compare(planned().plan, lines(3000.0), tokens=TOKENS, cost=0.01, others_share=0.48, simulated=["a", "b"])

    assert doubt(facts) == "others used 48 % of the processor meanwhile; simulated: a and b"


@pytest.fixture
def of_two(planned):
    """What came of a plan for islands a and b, of 2000 tokens/s and 0.02 CNY each."""
    steps = [{"island": name, "tokens_per_s": speed} for name, speed in [("a", 1000.0), ("b", 3000.0), ("b", 5000.0)]]
    plan = planned(islands={"a": {}, "b": {}}).plan

    def make(**changes):
        done = {"tokens": TOKENS, "seconds": 2.0, "cost": 0.03, "costs": {"a": 0.01, "b": 0.02}}
        return compare(plan, steps, **{**done, **changes})

    return make


def test_each_island_is_held_against_what_was_predicted_of_it(of_two):
    islands = of_two()["islands"]

    assert {name: island["tokens_per_s"]["ratio"] for name, island in islands.items()} == {"a": 0.5, "b": 2.0}
    assert {name: island["cost"]["ratio"] for name, island in islands.items()} == {"a": 0.5, "b": 1.0}


def test_the_speed_of_all_islands_includes_what_they_wait_for(of_two):
    assert of_two()["tokens_per_s"]["measured"] == TOKENS / 2.0


def test_rows_of_several_islands_have_each_and_all(of_two):
    assert [(what, ratio) for what, _, _, ratio in comparison_rows(of_two())] == [
        ("speed of a", "0.50"),
        ("speed of b", "2.00"),
        ("speed, exchanges and waiting included", "0.77"),
        ("cost of a", "0.50"),
        ("cost of b", "1.00"),
        ("cost", "1.50"),
    ]


def test_an_island_of_which_nothing_is_known_has_no_figures(of_two):
    island = of_two(seconds=None, costs={"a": 0.01})["islands"]["b"]

    assert (of_two(seconds=None)["tokens_per_s"]["ratio"], island["cost"]["ratio"]) == (None, None)


def test_the_line_before_the_run_tells_islands_prices_exchanges_and_tokens(planned):
    total = planned().plan.total.model_dump() | {"token_efficiency": 1 / 1.1}
    text = plan_line(planned(islands={"a": {}, "b": {"price_per_device_hour": 18.0}}, total=total))

    assert "a at 36 CNY an hour (an example), b at 18 CNY an hour (an example)" in text
    assert "gradients at every step, 3.58 K tokens for the loss that one island has of 3.07 K" in text
