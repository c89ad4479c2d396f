import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.optim.batch import batch_tokens_at
from everyflop.spec.train import TrainSpec

GROWING = TrainSpec(
    tokens=100_000, seq_len=10, micro_batch=2, batch_tokens=200, batch_warmup_from=40, batch_warmup_tokens=1600
)


def test_the_batch_grows_linearly_in_whole_micro_batches():
    # 40 + 160 * done / 1600, down to a multiple of 10 * 2
    assert [batch_tokens_at(done, GROWING) for done in (0, 199, 200, 800, 1599, 1600)] == [40, 40, 60, 120, 180, 200]


def test_without_warm_up_every_batch_is_full():
    train = TrainSpec(tokens=1000, seq_len=10, batch_tokens=50)

    assert [batch_tokens_at(done, train) for done in (0, 900)] == [50, 50]


def test_without_a_micro_batch_it_grows_in_whole_sequences():
    train = GROWING.model_copy(update={"micro_batch": None})

    assert batch_tokens_at(100, train) == 50


@given(st.integers(0, 2000), st.integers(0, 2000))
def test_the_batch_never_shrinks_and_always_divides(one: int, other: int):
    small, large = (batch_tokens_at(done, GROWING) for done in sorted((one, other)))

    assert 40 <= small <= large <= 200
    assert small % 20 == 0


def test_an_unset_batch_size_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="must be set"):
        batch_tokens_at(0, TrainSpec(tokens=1000, seq_len=10))
