import torch
from hypothesis import given
from hypothesis import strategies as st

from everyflop.accounting.expert_rows import block_rows
from everyflop.model.moe.dispatch import Dispatched, LocalDispatch

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


def send(x_TD: torch.Tensor, ids_TK: torch.Tensor) -> Dispatched:
    """Dispatch with a weight of its own for each choice."""
    weights_TK = torch.arange(1, ids_TK.numel() + 1, dtype=torch.float64).view(ids_TK.shape)
    return LocalDispatch().dispatch(x_TD, ids_TK, weights_TK, N_EXPERTS)


@given(ids())
def test_rows_are_sorted_by_expert_and_then_by_token(ids_TK):
    x_TD = numbered(len(ids_TK))

    sent = send(x_TD, ids_TK)

    expected = [x_TD[t].tolist() for e in range(N_EXPERTS) for t in range(len(ids_TK)) if e in ids_TK[t]]
    assert sent.x_TD[sent.token_R].tolist() == expected


@given(ids())
def test_ends_say_where_each_expert_stops(ids_TK):
    sent = send(numbered(len(ids_TK)), ids_TK)

    flat = ids_TK.flatten().tolist()
    assert sent.ends_E.dtype == torch.int32
    assert sent.ends_E.tolist() == [sum(e <= last for e in flat) for last in range(N_EXPERTS)]


@given(ids())
def test_every_choice_knows_the_row_that_holds_it_and_its_weight(ids_TK):
    sent = send(numbered(len(ids_TK)), ids_TK)

    assert (sent.token_R[sent.place_TK] == torch.arange(len(ids_TK))[:, None]).all()
    assert sent.weight_R[sent.place_TK].flatten().tolist() == list(range(1, ids_TK.numel() + 1))
    assert sorted(sent.place_TK.flatten().tolist()) == list(range(ids_TK.numel()))


@given(ids())
def test_combining_sums_each_tokens_rows(ids_TK):
    T, K = ids_TK.shape
    x_TD = numbered(T)
    sent = send(x_TD, ids_TK)
    expert_S = ids_TK.flatten().sort(stable=True).values
    y_RD = x_TD[sent.token_R] + 1000.0 * expert_S[:, None]  # an expert adds a thousand times its number

    y_TD = LocalDispatch().combine(y_RD, sent)

    for t in range(T):
        torch.testing.assert_close(y_TD[t], sum(x_TD[t] + 1000.0 * ids_TK[t, k] for k in range(K)))


def test_all_tokens_to_one_expert_drops_none():
    x_TD, ids_TK = numbered(100), torch.full((100, 1), 3)

    sent = send(x_TD, ids_TK)

    assert sent.ends_E.tolist() == [0, 0, 0, 112, 112]  # 100 in whole blocks of 16
    assert torch.equal(LocalDispatch().combine(x_TD[sent.token_R], sent), x_TD)


@st.composite
def many_ids(draw):
    """As many copies as make whole blocks worth while, unevenly over the experts."""
    n_tokens = draw(st.sampled_from([40, 100, 640, 2000]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    favour_E = torch.rand(N_EXPERTS, generator=generator) ** draw(st.integers(0, 8))
    return torch.multinomial(favour_E.expand(n_tokens, -1) + 1e-9, 2, generator=generator)


@given(many_ids())
def test_each_expert_begins_at_a_whole_block_and_holds_its_own_copies(ids_TK):
    sent, block = send(numbered(len(ids_TK)), ids_TK), block_rows(ids_TK.numel(), N_EXPERTS)
    starts_E = [0, *sent.ends_E.tolist()]

    assert all(end % block == 0 for end in starts_E)
    assert (sent.token_R[sent.place_TK] == torch.arange(len(ids_TK))[:, None]).all()
    assert sent.place_TK.flatten().unique().numel() == ids_TK.numel()
    assert len(sent.token_R) >= starts_E[-1]
    for e in range(N_EXPERTS):
        mine = sent.place_TK[ids_TK == e]
        assert ((starts_E[e] <= mine) & (mine < starts_E[e + 1])).all()
        assert starts_E[e + 1] - starts_E[e] < len(mine) + block


@given(many_ids())
def test_rows_that_hold_no_copy_weigh_nothing(ids_TK):
    sent = send(numbered(len(ids_TK)), ids_TK)
    held_R = torch.zeros(len(sent.token_R), dtype=torch.bool).scatter_(0, sent.place_TK.flatten(), True)

    assert not sent.weight_R[~held_R].any()
    assert (sent.weight_R[held_R] > 0).all()


def test_the_rows_are_as_many_whatever_is_chosen():
    even = torch.arange(N_EXPERTS).repeat(64)[:, None]
    one = torch.zeros_like(even)

    assert len({len(send(numbered(len(ids)), ids).token_R) for ids in (even, one)}) == 1
