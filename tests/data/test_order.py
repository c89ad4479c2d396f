import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.data.order import key_of, permute

KEYS = st.integers(0, 2**64 - 1)


@given(n=st.integers(1, 3000), key=KEYS)
def test_every_number_has_its_own_image_for_any_size(n, key):
    images = permute(np.arange(n), n, key=key)

    assert sorted(images.tolist()) == list(range(n))


@given(n=st.integers(2**33, 2**45), key=KEYS)
def test_images_stay_in_range_and_apart_for_sizes_that_nobody_could_list(n, key):
    images = permute(np.array([0, 1, n // 2, n - 1]), n, key=key)

    assert len(set(images.tolist())) == 4
    assert images.min() >= 0
    assert images.max() < n


@given(n=st.integers(1, 5000), key=KEYS, number=st.integers(0, 4999))
def test_an_image_does_not_depend_on_what_else_is_asked_for(n, key, number):
    number %= n
    all_images = permute(np.arange(n), n, key=key)

    assert permute(np.array([number]), n, key=key)[0] == all_images[number]


def test_a_slow_literal_version_gives_the_same_order():
    """Feistel over half words with SplitMix64's finaliser and cycle walking, in Python's own integers."""

    def scramble(value: int) -> int:
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
        return value ^ value >> 31

    def slow(number: int, n: int, key: int) -> int:
        bits = 1
        while 4**bits < n:
            bits += 1
        while True:
            left, right = number >> bits, number % 2**bits
            for turn in range(6):
                left, right = right, left ^ scramble(right ^ key_of(key, turn)) % 2**bits
            number = left << bits | right
            if number < n:
                return number

    for n in (1, 2, 5, 100, 4097):
        assert permute(np.arange(n), n, key=12345).tolist() == [slow(i, n, 12345) for i in range(n)]


def test_the_order_of_a_seed_never_changes():
    # A change here changes every run that was ever started: prepared data and resumed runs depend on it.
    assert key_of("windows", 0, 0, "x", 0) == 13906571500976006334
    assert permute(np.arange(10), 10, key=1).tolist() == [7, 2, 0, 1, 4, 9, 5, 8, 6, 3]


def test_keys_tell_parts_and_their_order_apart():
    keys = {key_of(1, 2), key_of(2, 1), key_of(12), key_of("1", 2), key_of("12")}

    assert len(keys) == 5


def test_different_keys_give_different_orders():
    orders = {tuple(permute(np.arange(50), 50, key=key).tolist()) for key in range(200)}

    assert len(orders) == 200


def test_neighbours_are_scattered():
    images = permute(np.arange(10_000), 10_000, key=3)
    correlation = np.corrcoef(np.arange(10_000), images)[0, 1]

    assert abs(correlation) < 0.05  # 5 standard deviations of a random order


def test_each_place_is_hit_equally_often_over_keys():
    firsts = [int(permute(np.array([0]), 8, key=key)[0]) for key in range(4000)]

    assert np.bincount(firsts, minlength=8).min() > 400  # 500 expected, standard deviation 21


def test_a_number_outside_the_range_is_refused():
    with pytest.raises(ValueError, match=r"not all in \[0, 5\)"):
        permute(np.array([5]), 5, key=0)
    with pytest.raises(ValueError, match=r"not all in \[0, 5\)"):
        permute(np.array([-1]), 5, key=0)
