import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from everyflop.model.attention import (
    AttentionContext,
    GroupedQueryAttention,
    LatentAttention,
    attend,
    build_attention,
    first_keys,
    mask_after_past,
)
from everyflop.model.cache import KVCache
from everyflop.model.rope import rope_tables
from everyflop.spec.model import ModelSpec

CPU = torch.device("cpu")


def spec(**fields) -> ModelSpec:
    sizes = {"vocab_size": 8, "hidden": 12, "n_layers": 1, "n_heads": 4, "n_kv_heads": 2, "head_dim": 6}
    experts = {"n_experts": 2, "experts_per_token": 1, "expert_width": 2}
    return ModelSpec(family="mixtral", **{**sizes, **experts, **fields})


MLA = {
    "attention": "mla",
    "n_kv_heads": 4,
    "q_rank": 5,
    "kv_rank": 7,
    "nope_head_dim": 4,
    "rope_head_dim": 2,
    "v_head_dim": 3,
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def context(first_BT: Tensor | None = None, n_positions: int = 0, cache: KVCache | None = None) -> AttentionContext:
    return AttentionContext(rope_tables(spec(), torch.arange(n_positions), torch.float64), first_BT, cache)


@given(
    n_queries=st.integers(1, 7),
    n_past=st.integers(0, 5),
    window=st.none() | st.integers(1, 14),
)
def test_a_query_sees_itself_and_the_window_before_it(n_queries, n_past, window):
    mask = mask_after_past(n_queries, n_past, window=window, device=CPU)

    n_keys = n_past + n_queries
    literal = [
        [k <= n_past + q and (window is None or k > n_past + q - window) for k in range(n_keys)]
        for q in range(n_queries)
    ]
    if mask is None:  # then attention is causal without a past, or one query that sees all keys
        plain = [[k <= q for k in range(n_keys)] for q in range(n_queries)] if n_past == 0 else [[True] * n_keys]
        assert literal == plain
    else:
        assert mask.shape == (1, 1, n_queries, n_keys)
        assert mask[0, 0].tolist() == literal


@given(
    lengths=st.lists(st.lists(st.integers(1, 6), min_size=6, max_size=6), min_size=1, max_size=3),
    window=st.none() | st.integers(1, 7),
)
def test_a_query_sees_its_own_document_alone(lengths, window):
    ids = [[n for n, length in enumerate(row) for _ in range(length)][:6] for row in lengths]

    first_BT = first_keys(6, window=window, documents_BT=torch.tensor(ids), device=CPU)

    for row, document in enumerate(ids):
        for q in range(6):
            seen = [k for k in range(q + 1) if (window is None or q - k < window) and document[q] == document[k]]
            assert seen == list(range(first_BT[row, q], q + 1))


@given(n=st.integers(1, 7), window=st.none() | st.integers(1, 8))
def test_without_documents_all_rows_see_the_same_window(n, window):
    first_BT = first_keys(n, window=window, documents_BT=None, device=CPU)

    expected = [max(0, q - (window or n) + 1) for q in range(n)]
    assert ([0] * n if first_BT is None else first_BT[0].tolist()) == expected


@pytest.mark.parametrize(("n_queries", "n_past"), [(5, 0), (1, 4), (1, 0)])
def test_plain_causal_attention_needs_no_mask(n_queries, n_past):
    assert mask_after_past(n_queries, n_past, window=None, device=CPU) is None
    assert mask_after_past(n_queries, n_past, window=n_queries + n_past, device=CPU) is None


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
def test_query_head_j_reads_key_value_head_j_over_heads_a_group(n_kv_heads):
    n_heads, n_positions, width = 4, 5, 3
    q, k, v = normal(2, 5, n_heads, 6), normal(2, 5, n_kv_heads, 6, seed=1), normal(2, 5, n_kv_heads, width, seed=2)

    y = attend(q, k, v, context(), 0, 0.7).view(2, n_positions, n_heads, width)

    for row in range(2):
        for t in range(n_positions):
            for j in range(n_heads):
                head = j // (n_heads // n_kv_heads)
                weights = [math.exp(0.7 * float(q[row, t, j] @ k[row, s, head])) for s in range(t + 1)]
                expected = sum(w / sum(weights) * v[row, s, head] for s, w in enumerate(weights))
                torch.testing.assert_close(y[row, t, j], expected)


def test_the_first_key_is_obeyed():
    q, k, v = normal(1, 3, 1, 4), normal(1, 3, 1, 4, seed=1), normal(1, 3, 1, 2, seed=2)
    only_itself = torch.arange(3)[None]

    assert torch.equal(attend(q, k, v, context(only_itself), 0, 1.0), v.flatten(2))


def test_a_query_after_the_past_sees_all_of_it():
    q, k, v = normal(1, 4, 2, 4), normal(1, 4, 1, 4, seed=1), normal(1, 4, 1, 2, seed=2)
    whole = attend(q, k, v, context(), 0, 1.0)
    cache = KVCache(4)

    attend(q[:, :3], k[:, :3], v[:, :3], context(cache=cache), 0, 1.0)
    cache.advance(3)
    last = attend(q[:, 3:], k[:, 3:], v[:, 3:], context(cache=cache), 0, 1.0)

    torch.testing.assert_close(last, whole[:, 3:])


@pytest.mark.parametrize("fields", [{}, MLA], ids=["gqa", "mla"])
def test_changing_one_document_leaves_the_outputs_of_another_bit_identical(fields):
    attention = build_attention(spec(**fields), 0).double()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.copy_(normal(*parameter.shape))
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 2, 2]])
    first_BT = first_keys(8, window=None, documents_BT=documents, device=CPU)
    shared = AttentionContext(rope_tables(attention.spec, torch.arange(8), torch.float64), first_BT)
    x = normal(1, 8, 12)
    changed = x.clone()
    changed[:, 3:6] += 1.0

    before, after = attention(x, shared), attention(changed, shared)

    assert torch.equal(before[:, :3], after[:, :3])
    assert torch.equal(before[:, 6:], after[:, 6:])
    assert (before[:, 3:6] != after[:, 3:6]).all()


def test_values_are_clamped_by_clip_qkv():
    attention = GroupedQueryAttention(spec(clip_qkv=0.25, n_heads=2, n_kv_heads=2), 0).double()
    with torch.no_grad():
        attention.qkv.weight.fill_(100.0)
        attention.out.weight.copy_(torch.eye(12))

    y = attention(torch.ones(1, 3, 12, dtype=torch.float64), context(n_positions=3))

    torch.testing.assert_close(y, torch.full_like(y, 0.25))  # a mean of equal values, whatever the weights


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [("none", {}), ("head", {"q_norm": 6, "k_norm": 6}), ("full", {"q_norm": 24, "k_norm": 12})],
)
def test_qk_norm_is_over_one_head_or_over_all(kind, sizes):
    attention = GroupedQueryAttention(spec(qk_norm=kind), 0)

    found = {name.removesuffix(".weight"): p.numel() for name, p in attention.named_parameters() if "norm" in name}
    assert found == sizes


@pytest.mark.parametrize("kind", ["head", "full"])
def test_qk_norm_makes_scores_independent_of_the_size_of_queries_and_keys(kind):
    attention = GroupedQueryAttention(spec(qk_norm=kind, norm_eps=1e-12), 0).double()
    with torch.no_grad():
        for name, parameter in attention.named_parameters():
            parameter.copy_(normal(*parameter.shape) if "norm" not in name else torch.ones_like(parameter))
    shared = context(n_positions=4)
    x = normal(1, 4, 12)
    before = attention(x, shared)

    with torch.no_grad():
        attention.qkv.weight[: (4 + 2) * 6] *= 50.0  # queries and keys; values stay

    torch.testing.assert_close(attention(x, shared), before, rtol=1e-8, atol=1e-8)


def test_latent_attention_has_deepseeks_matrices():
    shapes = {name: tuple(p.shape) for name, p in build_attention(spec(**MLA), 0).named_parameters()}

    assert shapes == {
        "q_down.weight": (5, 12),
        "q_down_norm.weight": (5,),
        "q_up.weight": (4 * (4 + 2), 5),
        "kv_down.weight": (7 + 2, 12),
        "kv_down_norm.weight": (7,),
        "kv_up.weight": (4 * (4 + 3), 7),
        "out.weight": (12, 4 * 3),
    }


def test_latent_attention_without_a_query_rank_has_one_query_matrix():
    shapes = {name: tuple(p.shape) for name, p in build_attention(spec(**MLA | {"q_rank": None}), 0).named_parameters()}

    assert shapes["q.weight"] == (4 * (4 + 2), 12)
    assert not any(name.startswith(("q_down", "q_up")) for name in shapes)


def test_latent_attention_scales_scores_by_the_whole_key_width_and_yarns_mscale_squared():
    yarn = {"factor": 40.0, "original_max_positions": 4096, "mscale": 1.0, "mscale_all_dim": 1.0}

    plain, stretched = LatentAttention(spec(**MLA), 0), LatentAttention(spec(**MLA, yarn=yarn), 0)

    assert plain.scale == pytest.approx(1 / math.sqrt(6))
    assert stretched.scale == pytest.approx((0.1 * math.log(40) + 1) ** 2 / math.sqrt(6))
