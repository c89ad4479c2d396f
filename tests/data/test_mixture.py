import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.base.errors import DataError
from everyflop.data.mixture import block_counts, require_all_present

WEIGHTS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20)


@given(weights=WEIGHTS, block=st.integers(1, 100_000))
def test_counts_fill_the_block_exactly(weights, block):
    assert block_counts(weights, block).sum() == block


@given(weights=WEIGHTS, block=st.integers(1, 100_000))
def test_each_count_is_within_one_window_of_its_exact_share(weights, block):
    exact = [weight / sum(weights) * block for weight in weights]

    assert np.abs(block_counts(weights, block) - exact).max() < 1 + 1e-6


def test_leftover_windows_go_to_the_largest_remainders():
    # Shares of 10 windows: 4.7, 3.6, 1.7. Rounded down 8 in all; the first and the third have the largest remainders.
    assert block_counts([47, 36, 17], 10).tolist() == [5, 3, 2]


def test_equal_remainders_favour_the_first_source():
    assert block_counts([1, 1, 1], 4).tolist() == [2, 1, 1]


def test_a_single_source_fills_the_block():
    assert block_counts([0.3], 1024).tolist() == [1024]


def test_a_weight_too_small_for_the_block_is_refused_with_the_block_that_would_do():
    with pytest.raises(DataError, match=r"weight of 'rare': .* Set it to 1000 or more"):
        require_all_present(["common", "rare"], [999, 1], 100)


def test_the_block_that_the_message_names_is_accepted():
    require_all_present(["common", "rare"], [999, 1], 1000)
