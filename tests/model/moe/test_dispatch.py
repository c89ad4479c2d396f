import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from everyflop.model.moe.dispatch import BLOCK_ROWS, LocalDispatch, block_rows

N_EXPERTS = 5


@st.composite
def ids(draw):
    """Expert ids (T, K) with K distinct ones for each token; often leaves experts without a token."""
    top_k = draw(st.integers(1, 3))
    token = st.permutations(range(N_EXPERTS)).map(lambda order: order[:top_k])
    return torch.tensor(draw(st.lists(token, min_size=1, max_size=8)))


def numbered(n_tokens: int) -> torch.Tensor:
    """One row for each token, with a value of its own in each place."""
    return torch.arange(n_tokens * 3, dtype=torch.float64).view(n_tokens, 3)


@given(ids())
def test_rows_are_sorted_by_expert_and_then_by_token(ids_TK):
    x_TD = numbered(len(ids_TK))

    sent = LocalDispatch().dispatch(x_TD, ids_TK, N_EXPERTS)

    expected = [x_TD[t].tolist() for e in range(N_EXPERTS) for t in range(len(ids_TK)) if e in ids_TK[t]]
    assert sent.rows_RD.tolist() == expected


@given(ids())
def test_ends_say_where_each_expert_stops(ids_TK):
    sent = LocalDispatch().dispatch(numbered(len(ids_TK)), ids_TK, N_EXPERTS)

    flat = ids_TK.flatten().tolist()
    assert sent.ends_E.dtype == torch.int32
    assert sent.ends_E.tolist() == [sum(e <= last for e in flat) for last in range(N_EXPERTS)]


@given(ids())
def test_every_choice_knows_the_row_that_holds_it(ids_TK):
    x_TD = numbered(len(ids_TK))

    sent = LocalDispatch().dispatch(x_TD, ids_TK, N_EXPERTS)

    rows_TKD = sent.rows_RD[sent.place_TK]
    assert (rows_TKD == x_TD[:, None]).all()
    assert sorted(sent.place_TK.flatten().tolist()) == list(range(ids_TK.numel()))


@given(ids())
def test_combining_weighs_each_choice_by_its_own_weight(ids_TK):
    T, K = ids_TK.shape
    x_TD = numbered(T)
    weights_TK = torch.arange(1, T * K + 1, dtype=torch.float64).view(T, K)
    dispatch = LocalDispatch()
    sent = dispatch.dispatch(x_TD, ids_TK, N_EXPERTS)
    expert_S = ids_TK.flatten().sort(stable=True).values
    y_RD = sent.rows_RD + 1000.0 * expert_S[:, None]  # an expert adds a thousand times its number

    y_TD = dispatch.combine(y_RD, sent, weights_TK)

    for t in range(T):
        expected = sum(weights_TK[t, k] * (x_TD[t] + 1000.0 * ids_TK[t, k]) for k in range(K))
        torch.testing.assert_close(y_TD[t], expected)


def test_all_tokens_to_one_expert_drops_none():
    x_TD, ids_TK = numbered(100), torch.full((100, 1), 3)
    dispatch = LocalDispatch()

    sent = dispatch.dispatch(x_TD, ids_TK, N_EXPERTS)

    assert sent.ends_E.tolist() == [0, 0, 0, 112, 112]  # 100 in whole blocks of 16
    assert torch.equal(dispatch.combine(sent.rows_RD, sent, torch.ones(100, 1, dtype=torch.float64)), x_TD)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_combined_rows_keep_their_type_whatever_the_weights_have(dtype):
    dispatch, ids_TK = LocalDispatch(), torch.tensor([[0, 1], [1, 2]])
    sent = dispatch.dispatch(numbered(2).to(dtype), ids_TK, N_EXPERTS)

    assert dispatch.combine(sent.rows_RD, sent, torch.full((2, 2), 0.5)).dtype == dtype


@st.composite
def many_ids(draw):
    """As many copies as make whole blocks worth while, unevenly over the experts."""
    n_tokens = draw(st.integers(BLOCK_ROWS * N_EXPERTS, 3 * BLOCK_ROWS * N_EXPERTS))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    favour_E = torch.rand(N_EXPERTS, generator=generator) ** draw(st.integers(0, 8))
    return torch.multinomial(favour_E.expand(n_tokens, -1) + 1e-9, 2, generator=generator)


@given(many_ids())
def test_each_expert_begins_at_a_whole_block_and_holds_its_own_copies(ids_TK):
    x_TD = numbered(len(ids_TK))
    sent = LocalDispatch().dispatch(x_TD, ids_TK, N_EXPERTS)
    starts_E = [0, *sent.ends_E.tolist()]

    assert all(end % BLOCK_ROWS == 0 for end in sent.ends_E.tolist())
    assert (sent.rows_RD[sent.place_TK] == x_TD[:, None]).all()
    assert sent.place_TK.flatten().unique().numel() == ids_TK.numel()
    assert len(sent.rows_RD) >= starts_E[-1]
    for e in range(N_EXPERTS):
        mine = sent.place_TK[ids_TK == e]
        assert ((starts_E[e] <= mine) & (mine < starts_E[e + 1])).all()
        assert starts_E[e + 1] - starts_E[e] < len(mine) + BLOCK_ROWS


@given(many_ids())
def test_rows_of_nobody_change_neither_results_nor_gradients(ids_TK):
    dispatch = LocalDispatch()
    weights_TK = torch.rand(ids_TK.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def through(spoil: float) -> list[torch.Tensor]:
        x_TD, w_TK = numbered(len(ids_TK)).requires_grad_(), weights_TK.clone().requires_grad_()
        sent = dispatch.dispatch(x_TD, ids_TK, N_EXPERTS)
        held_R = torch.zeros(len(sent.token_R), dtype=torch.bool).scatter_(0, sent.place_TK.flatten(), True)
        y_RD = torch.where(held_R[:, None], sent.rows_RD**2, spoil)
        y_TD = dispatch.combine(y_RD, sent, w_TK)
        y_TD.sin().sum().backward()
        return [y_TD.detach(), x_TD.grad, w_TK.grad]

    for one, other in zip(through(0.0), through(float("nan")), strict=True):
        assert torch.equal(one, other)
        assert one.isfinite().all()


def test_the_rows_are_as_many_whatever_is_chosen():
    even = torch.arange(N_EXPERTS).repeat(64)[:, None]
    one = torch.zeros_like(even)

    shapes = {LocalDispatch().dispatch(numbered(len(ids)), ids, N_EXPERTS).rows_RD.shape for ids in (even, one)}

    assert len(shapes) == 1


def test_blocks_are_filled_only_where_copies_are_many():
    assert block_rows(BLOCK_ROWS * 256, 256) == BLOCK_ROWS
    assert block_rows(8, 256) == 1
