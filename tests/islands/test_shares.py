from hypothesis import given
from hypothesis import strategies as st

from everyflop.islands.shares import batch_shares

SPEEDS = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0.01, 1000), min_size=1)


def test_a_batch_is_shared_out_by_speed():
    assert batch_shares({"a": 3.0, "b": 1.0}, 16) == {"a": 12, "b": 4}


def test_a_remainder_goes_to_whom_it_is_nearest():
    # 10 / 6 of 3, 2 and 1: 5, 3.33 and 1.67
    assert batch_shares({"a": 3.0, "b": 2.0, "c": 1.0}, 10) == {"a": 5, "b": 3, "c": 2}


def test_the_slowest_island_still_gets_a_sequence():
    assert batch_shares({"a": 1000.0, "b": 1000.0, "c": 1.0}, 9) == {"a": 4, "b": 4, "c": 1}


def test_with_fewer_sequences_than_islands_the_fastest_get_one_each():
    assert batch_shares({"a": 1.0, "b": 3.0, "c": 2.0}, 2) == {"a": 0, "b": 1, "c": 1}


def test_an_island_alone_gets_the_whole_batch():
    assert batch_shares({"a": 0.5}, 7) == {"a": 7}


@given(speeds=SPEEDS, sequences=st.integers(0, 500))
def test_shares_add_up_to_the_batch(speeds, sequences):
    shares = batch_shares(speeds, sequences)

    assert sum(shares.values()) == sequences
    assert shares.keys() == speeds.keys()


@given(speeds=SPEEDS, sequences=st.integers(0, 500))
def test_everybody_gets_one_while_they_last(speeds, sequences):
    shares = batch_shares(speeds, sequences)

    assert min(shares.values()) >= (1 if sequences >= len(speeds) else 0)


@given(speeds=SPEEDS, sequences=st.integers(1, 500))
def test_a_share_is_less_than_one_sequence_from_the_exact_one_where_nobody_needs_the_floor(speeds, sequences):
    exact = {name: sequences * speed / sum(speeds.values()) for name, speed in speeds.items()}
    shares = batch_shares(speeds, sequences)

    if min(exact.values()) >= 1:
        assert all(abs(shares[name] - exact[name]) < 1 + 1e-9 for name in speeds)


@given(speeds=SPEEDS, sequences=st.integers(0, 500))
def test_a_faster_island_never_gets_less_than_a_slower_one(speeds, sequences):
    shares = batch_shares(speeds, sequences)
    by_speed = [shares[name] for name in sorted(speeds, key=lambda name: (speeds[name], shares[name]))]

    assert by_speed == sorted(by_speed)


@given(speeds=SPEEDS, sequences=st.integers(0, 500), data=st.data())
def test_the_order_in_which_islands_are_named_does_not_matter(speeds, sequences, data):
    names = data.draw(st.permutations(list(speeds)))

    assert batch_shares({name: speeds[name] for name in names}, sequences) == batch_shares(speeds, sequences)
