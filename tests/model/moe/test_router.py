"""The router against a literal implementation in plain Python.

Routers here have the identity as their matrix, so that their input is the logits, exactly.
"""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from everyflop.model.moe.router import Router, choose
from everyflop.spec.model import ModelSpec

SIZES = {"vocab_size": 8, "n_layers": 1, "n_heads": 1, "n_kv_heads": 1, "head_dim": 2, "expert_width": 1}


def router(n_experts: int, bias: list[float] | None = None, dtype: torch.dtype = torch.float64, **fields) -> Router:
    spec = ModelSpec(
        family="qwen3-moe", hidden=n_experts, n_experts=n_experts, expert_bias=bias is not None, **{**SIZES, **fields}
    )
    built = Router(spec, 0).to(dtype)
    with torch.no_grad():
        built.weight.copy_(torch.eye(n_experts))
        if bias is not None:
            built.expert_bias.copy_(torch.tensor(bias))
    return built


@st.composite
def choices(draw):
    """Scores of a few tokens, exact in fp32 and of either sign, with sizes that fit them; no ties anywhere."""
    n_groups, group_size = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    keep_groups = draw(st.integers(1, n_groups))
    top_k = draw(st.integers(1, keep_groups * group_size))
    n_experts = n_groups * group_size
    score = st.integers(-400, 400).map(lambda n: n / 64)
    row = st.lists(score, min_size=n_experts, max_size=n_experts, unique=True)
    scores = draw(st.lists(row, min_size=1, max_size=4))
    assume(all(len(set(best_two(token, n_groups))) == n_groups for token in scores))
    return scores, {"n_groups": n_groups, "keep_groups": keep_groups, "top_k": top_k}


def best_two(token: list[float], n_groups: int) -> list[float]:
    """Each group's two largest scores, added."""
    size = len(token) // n_groups
    return [sum(sorted(token[g * size : (g + 1) * size])[-2:]) for g in range(n_groups)]


def literal_choice(token: list[float], *, n_groups: int, keep_groups: int, top_k: int) -> list[int]:
    """Expert ids of one token, best first, from the groups that are kept."""
    sums, size = best_two(token, n_groups), len(token) // n_groups
    kept = sorted(range(n_groups), key=lambda g: -sums[g])[:keep_groups]
    candidates = [e for e in range(len(token)) if e // size in kept]
    return sorted(candidates, key=lambda e: -token[e])[:top_k]


@given(choices())
def test_the_best_experts_of_the_groups_with_the_best_pairs_are_chosen(case):
    scores, sizes = case

    ids = choose(torch.tensor(scores), **sizes)

    assert ids.tolist() == [literal_choice(token, **sizes) for token in scores]


@given(choices())
def test_chosen_experts_are_distinct_and_in_at_most_the_kept_number_of_groups(case):
    scores, sizes = case
    group_size = len(scores[0]) // sizes["n_groups"]

    for token in choose(torch.tensor(scores), **sizes).tolist():
        assert len(set(token)) == sizes["top_k"]
        assert len({expert // group_size for expert in token}) <= sizes["keep_groups"]


def test_an_expert_of_a_masked_group_never_beats_a_kept_one_with_a_negative_score():
    scores = torch.tensor([[-1.0, -2.0, -5.0, -6.0]])

    ids = choose(scores, n_groups=2, keep_groups=1, top_k=2)

    assert ids.tolist() == [[0, 1]]  # a mask of 0 would have put experts 2 and 3 first


@given(choices(), st.randoms(use_true_random=False))
def test_permuting_tokens_permutes_their_choices(case, random):
    scores, sizes = case
    order = list(range(len(scores)))
    random.shuffle(order)

    ids = choose(torch.tensor(scores), **sizes)

    assert torch.equal(choose(torch.tensor(scores)[order], **sizes), ids[order])


def test_permuting_tokens_permutes_their_routing():
    route = router(8, [0.1 * e for e in range(8)], score="sigmoid", n_groups=4, keep_groups=2, experts_per_token=3)
    generator = torch.Generator().manual_seed(0)
    x, order = torch.randn(50, 8, generator=generator, dtype=torch.float64), torch.randperm(50, generator=generator)

    straight, permuted = route(x), route(x[order])

    assert torch.equal(permuted.ids_TK, straight.ids_TK[order])
    for one, other in zip(straight, permuted, strict=True):
        torch.testing.assert_close(other, one[order])  # a processor's vector lanes may round a sigmoid differently


@given(choices(), st.sampled_from(["softmax", "sigmoid"]), st.booleans())
def test_weights_are_the_unbiased_scores_of_the_chosen(case, score, normalise):
    logits, sizes = case
    n_experts = len(logits[0])
    bias = [0.25 * (-1) ** e for e in range(n_experts)]
    route = router(
        n_experts,
        bias,
        score=score,
        n_groups=sizes["n_groups"],
        keep_groups=sizes["keep_groups"],
        experts_per_token=sizes["top_k"],
        normalise_weights=normalise,
        routed_scale=2.5,
    )

    routing = route(torch.tensor(logits, dtype=torch.float64))

    for token, ids, weights in zip(logits, routing.ids_TK.tolist(), routing.weights_TK.tolist(), strict=True):
        exponentials = [math.exp(x) for x in token]
        scores = (
            [e / sum(exponentials) for e in exponentials]
            if score == "softmax"
            else [1 / (1 + math.exp(-x)) for x in token]
        )
        biased = [s + b for s, b in zip(scores, bias, strict=True)]
        sums = best_two(biased, sizes["n_groups"])
        if min((abs(a - b) for i, a in enumerate(sums) for b in sums[:i]), default=1) > 1e-9:
            assert set(ids) == set(literal_choice(biased, **sizes))
        total = sum(scores[e] for e in ids) if normalise else 1.0
        assert weights == pytest.approx([2.5 * scores[e] / total for e in ids], rel=1e-12)


@pytest.mark.parametrize("score", ["softmax", "sigmoid"])
@pytest.mark.parametrize("scale", [1.0, 2.5])
@given(case=choices())
def test_normalised_weights_sum_to_the_routed_scale(score, scale, case):
    logits, sizes = case
    route = router(len(logits[0]), score=score, experts_per_token=sizes["top_k"], routed_scale=scale)

    weights = route(torch.tensor(logits, dtype=torch.float64)).weights_TK

    torch.testing.assert_close(weights.sum(-1), torch.full((len(logits),), scale, dtype=torch.float64))


def test_sigmoid_scores_that_all_vanish_give_weights_of_zero_and_no_nan():
    routing = router(4, score="sigmoid", experts_per_token=2)(torch.full((1, 4), -800.0, dtype=torch.float64))

    assert routing.weights_TK.tolist() == [[0.0, 0.0]]


def test_the_bias_brings_an_expert_in_at_its_unbiased_weight():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]], dtype=torch.float64)
    scores = [1 / (1 + math.exp(-x)) for x in logits[0].tolist()]

    routing = router(4, [0.0, 0.0, 0.0, 5.0], score="sigmoid", experts_per_token=2)(logits)

    assert routing.ids_TK.tolist() == [[3, 0]]
    expected = [scores[3] / (scores[3] + scores[0]), scores[0] / (scores[3] + scores[0])]
    assert routing.weights_TK[0].tolist() == pytest.approx(expected, rel=1e-12)


def test_the_bias_changes_no_weight_and_no_gradient_while_the_choice_stays():
    x = torch.tensor([[2.0, 1.0, 0.0, -1.0], [-1.0, 0.5, 3.0, 0.25]], dtype=torch.float64)
    slopes = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)

    results = []
    for bias in ([0.0] * 4, [0.3, 0.3, 0.3, 0.3]):
        route = router(4, bias, score="sigmoid", experts_per_token=2)
        inputs = x.clone().requires_grad_()
        weights = route(inputs).weights_TK
        (weights * slopes).sum().backward()
        results.append((weights, inputs.grad, route.weight.grad))

    for one, other in zip(*results, strict=True):
        assert one.any()
        assert torch.equal(one, other)


def test_the_bias_is_a_buffer_without_a_gradient():
    route = router(4, [0.1] * 4, experts_per_token=2)

    assert [name for name, _ in route.named_parameters()] == ["weight"]
    assert not route.expert_bias.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_routing_is_computed_in_fp32(dtype):
    route = router(4, experts_per_token=2, dtype=dtype)
    with torch.no_grad():
        route.weight.mul_(1 / 3)  # in bf16 another number than in fp32

    routing = route(torch.tensor([[1.0, 2.0, 4.0, 8.0]]).to(dtype))

    assert {routing.weights_TK.dtype, routing.logits_TE.dtype, routing.scores_TE.dtype} == {torch.float32}
    third = route.weight[0, 0].float()
    assert torch.equal(routing.logits_TE[0], third * torch.tensor([1.0, 2.0, 4.0, 8.0]))


def test_near_ties_of_bf16_inputs_are_told_apart():
    logits = torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.bfloat16)
    route = router(3, [0.0, 1e-4, 0.0], experts_per_token=1, dtype=torch.float32)  # bf16 has no 0.4224 + 0.0001

    assert route(logits).ids_TK.tolist() == [[1]]
