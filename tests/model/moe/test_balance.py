import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from everyflop.model.moe.balance import RouterStats, add_stats, relative_load, router_stats, update_bias
from everyflop.model.moe.router import Routing


def routing(scores: list[list[float]], ids: list[list[int]]) -> Routing:
    """A softmax router's decision: its logits are the logarithms of its scores."""
    scores_TE = torch.tensor(scores, dtype=torch.float64)
    ids_TK = torch.tensor(ids)
    return Routing(ids_TK, scores_TE.gather(1, ids_TK), scores_TE.log(), scores_TE)


def random_routing(n_tokens: int, n_experts: int = 6, top_k: int = 2) -> Routing:
    """A sigmoid router's decision, with gradients to its logits."""
    generator = torch.Generator().manual_seed(3)
    logits_TE = torch.randn(n_tokens, n_experts, generator=generator, dtype=torch.float64, requires_grad=True)
    scores_TE = logits_TE.sigmoid()
    ids_TK = scores_TE.topk(top_k).indices
    return Routing(ids_TK, scores_TE.gather(1, ids_TK), logits_TE, scores_TE)


def test_balance_loss_of_two_tokens_over_three_experts_worked_by_hand():
    decision = routing([[0.5, 0.3, 0.2], [0.6, 0.1, 0.3]], [[0], [0]])

    stats = router_stats(decision, 1)

    # Expert 0 has both of the 2 choices: share 1 x 3 experts = 3; its scores add to 1.1. The others have share 0.
    assert stats.balance.item() == pytest.approx(3.3)
    assert stats.counts_E.tolist() == [2, 0, 0]


def test_each_sequence_is_balanced_by_itself():
    decision = routing([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]], [[0], [1]])

    # Two sequences of one token: 3 x 0.5 + 3 x 0.6. As one sequence: 1.5 x (0.5 + 0.1) + 1.5 x (0.3 + 0.6).
    assert router_stats(decision, 2).balance.item() == pytest.approx(3.3)
    assert router_stats(decision, 1).balance.item() == pytest.approx(2.25)


def test_scores_that_do_not_sum_to_one_are_scaled_first():
    decision = routing([[0.5, 0.3, 0.2], [0.6, 0.1, 0.3]], [[0], [0]])

    doubled = decision._replace(scores_TE=decision.scores_TE * torch.tensor([[2.0], [0.25]]))

    assert router_stats(doubled, 1).balance.item() == pytest.approx(3.3)


def test_balance_loss_is_one_a_token_under_perfect_balance():
    tilted = [[0.4, 0.3, 0.2, 0.1], [0.3, 0.4, 0.1, 0.2], [0.2, 0.1, 0.4, 0.3], [0.1, 0.2, 0.3, 0.4]]

    stats = router_stats(routing(tilted, [[0, 1], [1, 0], [2, 3], [3, 2]]), 1)

    assert stats.balance.item() / 4 == pytest.approx(1.0)


def test_balance_loss_grows_with_skew():
    losses = []
    for tilt in (0.0, 0.1, 0.2, 0.4):
        high, low = 0.25 + tilt, 0.25 - tilt / 3
        losses.append(router_stats(routing([[high, low, low, low]] * 4, [[0]] * 4), 1).balance.item() / 4)

    assert losses == pytest.approx([1.0, 1.4, 1.8, 2.6])  # 4 experts x the mean score of the one that has all


def test_balance_gradient_reaches_scores_and_no_choice():
    scores_TE = torch.tensor([[0.5, 0.3, 0.2], [0.6, 0.1, 0.3]], dtype=torch.float64, requires_grad=True)
    ids_TK = torch.tensor([[0], [0]])

    router_stats(Routing(ids_TK, scores_TE.gather(1, ids_TK), scores_TE.log(), scores_TE), 1).balance.backward()

    # d/ds of 3 s0 / (s0 + s1 + s2) where the sum is 1: 3 (1 - s0) for expert 0, -3 s0 for the others.
    assert scores_TE.grad[0].tolist() == pytest.approx([1.5, -1.5, -1.5])
    assert scores_TE.grad[1].tolist() == pytest.approx([1.2, -1.8, -1.8])


def test_z_loss_and_logit_sums_worked_by_hand():
    logits_TE = torch.tensor([[0.0, math.log(2), math.log(5)], [1.0, 1.0, 1.0]], dtype=torch.float64)
    ids_TK = torch.tensor([[2], [0]])
    decision = Routing(ids_TK, torch.ones(2, 1), logits_TE, logits_TE.softmax(-1))

    stats = router_stats(decision, 1)

    assert stats.z.item() == pytest.approx(math.log(8) ** 2 + (1 + math.log(3)) ** 2)
    assert stats.logit_sum.item() == pytest.approx(math.log(10) + 3)
    assert stats.logit_square_sum.item() == pytest.approx(math.log(2) ** 2 + math.log(5) ** 2 + 3)


def test_running_sums_of_logits_carry_no_gradient():
    stats = router_stats(random_routing(8), 2)

    assert [value.requires_grad for value in stats] == [False, True, True, False, False]


@pytest.mark.parametrize("sizes", [[4], [1, 1, 1, 1], [3, 1]])
def test_splitting_a_batch_into_micro_batches_changes_no_sum_and_no_gradient(sizes):
    positions = 5
    whole = random_routing(4 * positions)
    expected = router_stats(whole, 4)
    (gradient,) = torch.autograd.grad(expected.balance + 0.5 * expected.z, whole.logits_TE, retain_graph=True)

    parts, first = [], 0
    for size in sizes:
        rows = slice(first * positions, (first + size) * positions)
        parts.append([router_stats(Routing(*(value[rows] for value in whole)), size)])
        first += size
    (total,) = add_stats(parts)

    assert torch.equal(total.counts_E, expected.counts_E)
    for one, other in zip(total[1:], expected[1:], strict=True):
        torch.testing.assert_close(one, other)
    (split_gradient,) = torch.autograd.grad(total.balance + 0.5 * total.z, whole.logits_TE)
    torch.testing.assert_close(split_gradient, gradient)


def test_adding_keeps_routers_apart():
    def stats(number: float) -> RouterStats:
        return RouterStats(torch.tensor([int(number), 0]), *(torch.tensor(number + i) for i in range(4)))

    first, second = add_stats([[stats(1.0), stats(10.0)], [stats(2.0), stats(20.0)]])

    assert [value.tolist() for value in first] == [[3, 0], 3.0, 5.0, 7.0, 9.0]
    assert [value.tolist() for value in second] == [[30, 0], 30.0, 32.0, 34.0, 36.0]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([4, 0, 2, 2], [-0.1, 0.1, 0.0, 0.0]),
        ([5, 1, 1, 1], [-0.15, 0.05, 0.05, 0.05]),  # signs -1 1 1 1, less their mean of 0.5
        ([3, 3, 3, 3], [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_the_bias_moves_against_the_load(counts, expected):
    bias_E = torch.tensor([1.0, -1.0, 0.5, -0.5])

    update_bias(bias_E, torch.tensor(counts), 0.1)

    moved = (bias_E - torch.tensor([1.0, -1.0, 0.5, -0.5])).tolist()
    assert moved == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=64))
def test_updating_the_bias_never_moves_its_mean(counts):
    bias_E = torch.zeros(len(counts), dtype=torch.float64)

    update_bias(bias_E, torch.tensor(counts), 1e-3)

    assert bias_E.mean().item() == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(
    ("counts", "loads"), [([4, 4, 4, 4], [1, 1, 1, 1]), ([8, 4, 4, 0], [2, 1, 1, 0]), ([0, 0], [0, 0])]
)
def test_relative_load_is_each_experts_share_of_the_mean(counts, loads):
    assert relative_load(torch.tensor(counts)).tolist() == pytest.approx(loads)
