import math

import pytest
import torch

from everyflop.model.moe.balance import RouterStats
from everyflop.train.state import Progress, RouterLogits


def stats(n_experts: int, logit_sum: float, logit_square_sum: float) -> RouterStats:
    nothing = torch.zeros(())
    counts_E = torch.zeros(n_experts, dtype=torch.int64)
    return RouterStats(counts_E, nothing, nothing, torch.tensor(logit_sum), torch.tensor(logit_square_sum))


def test_statistics_start_as_a_standard_normal():
    fresh = RouterLogits.fresh(3, torch.device("cpu"))

    assert fresh.mean_L.tolist() == [0, 0, 0]
    assert fresh.std_L.tolist() == [1, 1, 1]


def test_a_step_moves_each_router_a_hundredth_of_the_way_to_its_own_mean_and_mean_square():
    logits = RouterLogits.fresh(2, torch.device("cpu"))
    logits.update([stats(4, 80.0, 200.0), stats(4, -40.0, 40.0)], n_tokens=10)  # of 40 logits each

    assert logits.mean_L.tolist() == pytest.approx([0.02, -0.01])  # 0.99 * 0 + 0.01 * (2, -1)
    assert logits.square_L.tolist() == pytest.approx([1.04, 1.0])  # 0.99 * 1 + 0.01 * (5, 1)
    assert logits.std_L.tolist() == pytest.approx([math.sqrt(1.04 - 0.02**2), math.sqrt(1 - 0.01**2)])


def test_logits_that_never_vary_have_a_deviation_of_zero_and_no_nan():
    logits = RouterLogits(torch.tensor([0.1]), torch.tensor([0.1**2 - 1e-6]))

    assert logits.std_L.tolist() == [0]


def test_time_is_paid_at_the_price_of_its_day_and_time_without_a_price_makes_the_cost_unknown():
    done = Progress()
    done.charge(3600.0, 4.0)
    done.charge(1800.0, 1.0)

    assert (done.seconds, done.cost) == (5400.0, 4.5)
    done.charge(1.0, None)
    done.charge(1.0, 4.0)
    assert done.cost is None


def test_what_an_earlier_process_paid_stays_paid():
    done = Progress(seconds=10.0, cost=1.0)
    done.catch_up({"seconds": 5.0, "cost": 0.5})
    assert (done.seconds, done.cost) == (10.0, 1.0)
    done.catch_up({"seconds": 50.0, "cost": 7.0})

    assert (done.seconds, done.cost) == (50.0, 7.0)
